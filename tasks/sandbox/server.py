"""The fork server: a process that has imported the runtime, does nothing else, and forks one child per
evaluation.

Started by `tasks.sandbox.sandbox` as `python -I -m tasks.sandbox.server DESCRIPTOR SETUP`, with a scrubbed
environment
and one descriptor: its end of the Unix socket. In order: probe the layers (`tasks.sandbox.probe`), enter
namespaces of its own, import, then serve. It must stay single-threaded and must never ask TensorFlow for a
device: every child forked afterwards would hang. So the threads are counted before each fork; more than one,
and the server refuses and ends, for the worker to start another.

It ends when its worker does: the socket closes. Its children end when it does: the kernel kills them.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tasks.sandbox import primitives
from tasks.sandbox.confine import Limits, Plan, confine, enter_server_namespaces, runtime_paths
from tasks.sandbox.layers import Confinement, Layer
from tasks.sandbox.probe import probe
from tasks.sandbox.processes import descendants
from tasks.sandbox.wire import (
    DESCRIPTORS_PER_RUN,
    ERROR,
    EXIT_NOT_CONFINED,
    EXIT_RAISED,
    RESULT,
    Ended,
    Probed,
    Ready,
    Refused,
    Run,
    ServerMessage,
    Setup,
    WorkerMessage,
    receive,
    send,
)

Progress = Callable[[str, float], None]
Target = Callable[[bytes, Progress], bytes]

_SWEEP_SECONDS = 5.0


def main(arguments: list[str]) -> None:
    """Probe, enter namespaces, and serve until the worker is gone."""
    channel = socket.socket(fileno=int(arguments[1]))
    setup = Setup.model_validate_json(arguments[2])
    sys.path.extend(setup.import_paths)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which then closes the socket
    confinement = probe(setup)
    send(channel, ServerMessage(body=Probed(confinement=confinement)))
    if Layer.NAMESPACES in confinement.active:
        enter_server_namespaces()
        _become_first_process(channel)
    primitives.adopt_orphans()
    Server(channel, setup, confinement).serve()


def _become_first_process(channel: socket.socket) -> None:
    """Go on as the first process of the new PID namespace; the old self only waits, and hands on the exit
    code.
    """
    inner = os.fork()
    if inner == 0:
        primitives.die_with_parent(signal.SIGKILL)
        return
    channel.close()
    _, status = os.waitpid(inner, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


class Server:
    """Imports once, then forks on demand, one child at a time."""

    def __init__(self, channel: socket.socket, setup: Setup, confinement: Confinement) -> None:
        self._channel = channel
        self._setup = setup
        self._layers = confinement.active
        self._runtime = runtime_paths(setup.import_paths)
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._idle_data_bytes = 0

    def serve(self) -> None:
        """Import what the children need and answer requests until the worker is gone."""
        started = time.monotonic()
        self._import()
        self._idle_data_bytes = _status_bytes("VmData")
        ready = Ready(process=os.getpid(), threads=_threads(), import_seconds=round(time.monotonic() - started, 3))
        send(self._channel, ServerMessage(body=ready))
        while True:
            packet, descriptors = receive(self._channel)
            if not packet:
                return
            message = WorkerMessage.model_validate_json(packet).body
            if isinstance(message, Run) and len(descriptors) == DESCRIPTORS_PER_RUN:
                self._run(message, descriptors)

    def _import(self) -> None:
        """Load everything that a child will need, so that none of it is loaded twice."""
        self._target: Target = _find(self._setup.target)
        if self._setup.warm:
            _find(self._setup.warm)()
        gc.collect()
        gc.freeze()  # else the first collection of every child copies all pages

    def _run(self, run: Run, descriptors: list[int]) -> None:
        threads = _threads()
        if len(threads) != 1:
            reason = f"the fork server has threads of its own: {', '.join(threads)}"
            send(self._channel, ServerMessage(body=Refused(reason=reason)))
            raise SystemExit(reason)
        child = self._fork(run, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        send(self._channel, ServerMessage(body=self._wait(child)))

    def _fork(self, run: Run, descriptors: list[int]) -> int:
        own_namespace = Layer.NAMESPACES in self._layers
        parent = os.getpid()
        if own_namespace:
            primitives.unshare(primitives.CLONE_NEWPID)
        child = os.fork()
        if child == 0:
            self._be_the_child(run, descriptors, parent)
        if own_namespace:
            primitives.join_namespace(self._own_pids, primitives.CLONE_NEWPID)
        return child

    def _wait(self, child: int) -> Ended:
        """Wait for the child, or for the word to kill it, and leave nothing of it behind."""
        watch = os.pidfd_open(child)
        try:
            while True:
                readable, _, _ = select.select([watch, self._channel.fileno()], [], [])
                if watch in readable:
                    break
                packet, _ = receive(self._channel)
                signal.pidfd_send_signal(watch, signal.SIGKILL)
                if not packet:
                    break
        finally:
            os.close(watch)
        _, status, usage = os.wait4(child, 0)
        if Layer.NAMESPACES not in self._layers:
            _sweep()
        return Ended(status=status, user_seconds=usage.ru_utime, system_seconds=usage.ru_stime)

    def _be_the_child(self, run: Run, descriptors: list[int], parent: int) -> NoReturn:
        """Everything that happens in the child; never returns."""
        code = EXIT_NOT_CONFINED
        try:
            request, result, output, events = descriptors
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            for source, standard in ((nothing, 0), (output, 1), (output, 2)):
                os.dup2(source, standard, inheritable=True)
            _say(events, {"process": int(Path("/proc/self").readlink().name)})
            plan = self._plan(run, parent)
            gpu = run.gpu if run.gpu is not None else "-1"
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
            payload = _read_all(request)
            keep = _close_others({result, events})
            confine(plan)
            _say(keep[events], {"confined": True})
            faulthandler.enable()
            code = _answer(self._target, payload, keep[result], keep[events])
        except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as a server
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _plan(self, run: Run, parent: int) -> Plan:
        return Plan(
            layers=self._layers,
            limits=Limits(memory_bytes=run.memory_bytes, cpu_seconds=run.cpu_seconds, scratch_bytes=run.scratch_bytes),
            runtime=self._runtime,
            inputs=run.inputs,
            workplace=self._setup.workplace,
            scratch=run.scratch,
            parent=parent,
            gpu=run.gpu is not None,
            idle_data_bytes=self._idle_data_bytes,
        )


def _answer(target: Target, payload: bytes, result: int, events: int) -> int:
    """Run the target and write down what became of it; the exit code."""
    from tasks.errors import TasksError

    def progress(step: str, fraction: float) -> None:
        _say(events, {"step": str(step)[:100], "fraction": float(fraction)})

    try:
        answer = RESULT + target(payload, progress)
    except (TasksError, MemoryError) as error:
        facts = {
            "type": type(error).__name__,
            "message": str(error),
            "transient": getattr(error, "transient", True),
        }
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
    line = json.dumps(event).encode() + b"\n"
    try:
        os.write(events, line)
    except BlockingIOError:
        return


def _read_all(descriptor: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as request:
        request.seek(0)
        return request.read()


def _close_others(kept: set[int]) -> dict[int, int]:
    """Move the kept descriptors to 3, 4, … and close all above, the socket to the worker first of all."""
    highest = max(kept) + len(kept) + 3
    parked = {}
    for descriptor in sorted(kept):
        highest += 1
        parked[descriptor] = os.dup2(descriptor, highest, inheritable=False)
    moved = {
        descriptor: os.dup2(place, 3 + number, inheritable=False)
        for number, (descriptor, place) in enumerate(parked.items())
    }
    os.closerange(3 + len(kept), os.sysconf("SC_OPEN_MAX") if highest < 4096 else highest + 1)
    return moved


def _threads() -> tuple[str, ...]:
    tasks = Path("/proc/self/task")
    return tuple(Path(task, "comm").read_text(encoding="utf-8").strip() for task in tasks.iterdir())


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _sweep() -> None:
    """Kill and reap every descendant that is left, for hosts where no namespace does it.

    They are frozen first: a process that forks while it is being counted would otherwise get away.
    """
    end = time.monotonic() + _SWEEP_SECONDS
    while time.monotonic() < end:
        found = descendants(os.getpid())
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in found:
                try:
                    os.kill(process, number)
                except ProcessLookupError:
                    continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return


def _find(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


if __name__ == "__main__":
    main(sys.argv)
