"""The life of one child of the fork server, up to and after the one run that it serves.

It is forked ahead of its run. With namespaces it confines itself at once, to the last layer, and then lets the target
prepare (start TensorFlow's threads, touch its device): all of that is done when the run arrives, in one packet on the
only socket that it has. Without namespaces what it may read must be known before it is confined, so it waits first.

Everything here is trusted code, until `target` is called; after that nothing that this process says is.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import select
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from tasks.errors import TasksError
from tasks.sandbox.confine import Plan, bound, confine
from tasks.sandbox.layers import Layer
from tasks.sandbox.processes import memory_of
from tasks.sandbox.stage import Stage
from tasks.sandbox.wire import ERROR, EXIT_NOT_CONFINED, EXIT_RAISED, RESULT, Run, Setup, receive

_HURRY_SECONDS: Final = 0.015

Progress = Callable[[str, float], None]
Target = Callable[[bytes, Progress], bytes]


class Seat:
    """What every child of a server begins with."""

    def __init__(
        self,
        setup: Setup,
        layers: frozenset[Layer],
        runtime: tuple[str, ...],
        target: Target,
        stage: Stage | None,
    ) -> None:
        self._setup = setup
        self._layers = layers
        self._runtime = runtime
        self._target = target
        self._stage = stage

    def take(self, channel: int, parent: int) -> NoReturn:
        """Be a child: get ready, wait for a run, serve it, and die. Called right after the fork; never returns."""
        code = EXIT_NOT_CONFINED
        try:
            code = self._live(channel, parent)
        except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as a server
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _live(self, descriptor: int, parent: int) -> int:
        os.setsid()
        process = int(Path("/proc/self").readlink().name)  # as the worker counts, as long as /proc is the host's
        channel = socket.socket(fileno=_keep_only(descriptor))
        os.environ["CUDA_VISIBLE_DEVICES"] = self._setup.gpu if self._setup.gpu is not None else "-1"
        if self._stage is not None:
            confine(self._plan(parent, root=self._stage.root))
            if self._setup.prepare and not _is_awaited(channel):
                module, _, attribute = self._setup.prepare.partition(":")
                getattr(importlib.import_module(module), attribute)(self._setup.threads)
        packet, (request, result, output, events) = _await_run(channel)
        run = Run.model_validate_json(packet)
        _say(events, {"process": process, "idle_bytes": memory_of()})
        for standard in (1, 2):
            os.dup2(output, standard, inheritable=True)
        os.close(output)
        if self._stage is None:
            confine(self._plan(parent, readable=(*self._runtime, *run.inputs), scratch=run.scratch))
        if Layer.LIMITS in self._layers:
            file_bytes = self._setup.scratch_bytes
            bound(memory_bytes=run.memory_bytes, cpu_seconds=run.cpu_seconds, file_bytes=file_bytes)
        payload = _read_all(request)
        _say(events, {"confined": True})
        faulthandler.enable()
        return _answer(self._target, payload, result, events)

    def _plan(self, parent: int, **places: object) -> Plan:
        common = {"layers": self._layers, "scratch_bytes": self._setup.scratch_bytes, "parent": parent}
        return Plan(**common, gpu=self._setup.gpu is not None, **places)  # type: ignore[arg-type]


def _is_awaited(channel: socket.socket) -> bool:
    """Whether a run is there already, or comes at once: then it is served sooner without any preparation."""
    readable, _, _ = select.select([channel.fileno()], [], [], _HURRY_SECONDS)
    return bool(readable)


def _await_run(channel: socket.socket) -> tuple[bytes, list[int]]:
    """The run, when it comes; if the server goes away instead, this process ends."""
    with channel:
        packet, descriptors = receive(channel)
    if not packet:
        os._exit(0)
    return packet, descriptors


def _answer(target: Target, payload: bytes, result: int, events: int) -> int:
    """Run the target and write down what became of it; the exit code."""

    def progress(step: str, fraction: float) -> None:
        _say(events, {"step": str(step)[:100], "fraction": float(fraction)})

    try:
        answer = RESULT + target(payload, progress)
    except (TasksError, MemoryError) as error:
        facts = {"type": type(error).__name__, "message": str(error)}
        answer = ERROR + json.dumps(facts).encode()
    except Exception:  # noqa: BLE001 - reported as a crash, with the traceback as its output
        traceback.print_exc()
        return EXIT_RAISED
    view = memoryview(answer)
    while view:
        view = view[os.write(result, view) :]
    return 0


def _say(events: int, event: dict[str, object]) -> None:
    """Write one line to the worker; a full pipe loses it, since nobody may be held up by its own progress."""
    try:
        os.write(events, json.dumps(event).encode() + b"\n")
    except BlockingIOError:
        return


def _read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as request:
        request.seek(0)
        return request.read()


def _keep_only(descriptor: int) -> int:
    """Move a descriptor to 3 and close all others but output and errors; nothing can be read from standard input."""
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nothing, 0, inheritable=True)
    if descriptor != 3:
        os.dup2(descriptor, 3, inheritable=False)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    return 3
