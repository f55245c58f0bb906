"""The worker's side: one object that evaluates a stranger's files in fresh, confined children, one after the
other.

The fork server is started at the first use, again whenever it is lost, and once more in each process that the
object was forked into. How a child is confined is in `tasks.sandbox.confine`; how it is watched, in
`tasks.sandbox.watch`. Which end of a run is a vote and which is retried is for the caller to decide.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tasks.errors import SandboxRefused
from tasks.sandbox.launch import ServerProcess, await_ready, launch, remove_tree
from tasks.sandbox.layers import Confinement, Layer, Level
from tasks.sandbox.outcome import Facts, judge
from tasks.sandbox.watch import Channels, Progress, ServerLost, ServerRefused, Watch
from tasks.sandbox.wire import Run, Setup, WorkerMessage, send
from tasks.settings import TasksSettings

DEFAULT_TARGET: Final = "tasks.sandbox.child:main"
DEFAULT_WARM: Final = "tasks.sandbox.child:warm"
DEFAULT_PREPARE: Final = "tasks.sandbox.child:prepare"
_ATTEMPTS = 2
_CPU_SLACK_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run returned, and what it took: seconds of wall clock and processor, bytes of memory."""

    result: bytes
    confinement: Confinement
    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    output: str


class Sandbox:
    """A fork server and its runs.

    Args:
        settings: bounds and the minimum level; None reads the environment.
        target: `module:function` that runs in the child, from request bytes and a progress function to result
            bytes.
        warm: `module:function` that the server calls once to import what the target needs; None for nothing.
        prepare: `module:function` that each child calls, with the number of threads, before it has a request; None,
            or no `warm`, for nothing.
        import_paths: folders to add to the server's module search path, readable in the child.

    One run at a time; further callers wait. Not started before the first use.
    """

    def __init__(
        self,
        settings: TasksSettings | None = None,
        *,
        target: str = DEFAULT_TARGET,
        warm: str | None = DEFAULT_WARM,
        prepare: str | None = DEFAULT_PREPARE,
        import_paths: Sequence[str | Path] = (),
    ) -> None:
        self.settings = settings or TasksSettings()
        self._target = target
        self._warm = warm
        self._prepare = prepare
        self._import_paths = tuple(str(path) for path in import_paths)
        self._lock = threading.RLock()
        self._server: ServerProcess | None = None
        self._owner = os.getpid()

    @classmethod
    def from_settings(cls, settings: TasksSettings) -> Self:
        """The sandbox of an evaluate worker."""
        return cls(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def confinement(self) -> Confinement:
        """The layers that this host gives, as probed when the server started (which this does, if need be).

        Raises:
            SandboxRefused: the server cannot be started.
        """
        with self._lock:
            return self._running().confinement

    @property
    def level(self) -> Level:
        """The level that the layers add up to."""
        return self.confinement.level

    def start(self) -> Confinement:
        """Start the server, wait until it is warm, and check the level: for workers that want to know at
        once.

        Raises:
            SandboxRefused: it cannot be started, or is below the demanded level.
        """
        with self._lock:
            server = self._running()
            self._demand(server.confinement)
            await_ready(server)
            return server.confinement

    def run(
        self,
        request: bytes,
        *,
        readable: Sequence[str | Path] = (),
        wall_seconds: float | None = None,
        memory_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> bytes:
        """Run the target on a request in a fresh child and return its JSON; see `answer`."""
        return self.answer(
            request,
            readable=readable,
            wall_seconds=wall_seconds,
            memory_bytes=memory_bytes,
            progress=progress,
        ).result

    def answer(
        self,
        request: bytes,
        *,
        readable: Sequence[str | Path] = (),
        wall_seconds: float | None = None,
        memory_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> Answer:
        """Run the target on a request in a fresh child.

        Args:
            readable: files and folders that the child may read besides its runtime, under their own paths.
            wall_seconds, memory_bytes: bounds of this run; None takes those of the settings.
            progress: called in this thread with the name of a step and the fraction done, as the child
                claims.

        Raises:
            SandboxError: one of its kinds, naming what ended the run, or why there was none.
            EvaluationError: what the target raised.
        """
        started = time.monotonic()
        seconds = wall_seconds if wall_seconds is not None else self.settings.evaluation_seconds
        facts = Facts(
            wall_seconds=seconds,
            memory_bytes=int(memory_bytes or self.settings.evaluation_memory_bytes),
            scratch_bytes=int(self.settings.scratch_max_bytes),
            result_bytes=int(self.settings.max_result_bytes),
            cpu_seconds=math.ceil(seconds * (os.cpu_count() or 1)) + _CPU_SLACK_SECONDS,
        )
        with self._lock:
            confinement = self._run(request, _resolved(readable), facts, progress)
        return Answer(
            result=judge(facts),
            confinement=confinement,
            wall_seconds=time.monotonic() - started,
            cpu_seconds=facts.used_cpu_seconds,
            peak_memory_bytes=facts.peak_bytes,
            output=facts.output,
        )

    def close(self) -> None:
        """End the server and everything below it. The next use starts another."""
        with self._lock:
            if self._server is not None and self._owner == os.getpid():
                self._server.close()
            self._server = None

    def _running(self) -> ServerProcess:
        if self._owner != os.getpid():  # forked: the server belongs to the parent
            if self._server is not None:
                self._server.channel.close()
            self._server, self._owner = None, os.getpid()
        if self._server is not None and self._server.process.poll() is not None:
            self.close()
        if self._server is None:
            self._server = launch(self._setup(), base=self.settings.scratch_dir)
        return self._server

    def _setup(self) -> Setup:
        settings = self.settings
        return Setup(
            target=self._target,
            warm=self._warm,
            prepare=self._prepare if self._warm else None,
            threads=settings.evaluation_threads,
            scratch_bytes=int(settings.scratch_max_bytes),
            gpu=settings.evaluation_gpu,
            disabled=tuple(sorted(settings.sandbox_disable)),
            import_paths=self._import_paths,
        )

    def _demand(self, confinement: Confinement) -> None:
        minimum = Level(self.settings.sandbox_minimum)
        if confinement.level.rank < minimum.rank:
            raise SandboxRefused(
                f"strangers' models are evaluated at sandbox level {minimum.value} or above"
                f" (FITCHAIN_SANDBOX_MINIMUM); this host gives {confinement}"
            )

    def _run(
        self,
        request: bytes,
        readable: tuple[str, ...],
        facts: Facts,
        progress: Progress | None,
    ) -> Confinement:
        """Do one run; a server that refuses it is replaced once."""
        reason = ""
        for _ in range(_ATTEMPTS):
            server = self._running()
            self._demand(server.confinement)
            await_ready(server)
            try:
                self._run_on(server, request, readable, facts, progress)
            except ServerRefused as refusal:
                if not refusal.ended:
                    raise SandboxRefused(str(refusal)) from None
                self.close()
                reason = str(refusal)
                continue
            except ServerLost:
                self.close()
            except BaseException:  # an interrupt, or a progress function that raised: no child may outlive its run
                self.close()
                raise
            if facts.status is not None and not facts.confined:
                facts.output = server.tail()
            return server.confinement
        raise SandboxRefused(reason)

    def _run_on(
        self,
        server: ServerProcess,
        request: bytes,
        readable: tuple[str, ...],
        facts: Facts,
        progress: Progress | None,
    ) -> None:
        in_memory = Layer.NAMESPACES in server.confinement.active
        scratch = server.folder / "scratch"
        run = Run(
            inputs=readable,
            scratch=str(scratch),
            memory_bytes=facts.memory_bytes,
            cpu_seconds=facts.cpu_seconds,
        )
        try:
            scratch.mkdir(mode=0o700)
            with _pipes(server.channel, request) as (channels, theirs):
                _hand_over(server, run, theirs)
                watch = Watch(
                    channels,
                    facts,
                    scratch=None if in_memory else scratch,
                    whole_tree=Layer.SECCOMP not in server.confinement.active,
                    progress=progress,
                )
                watch.run()
        finally:
            remove_tree(scratch)


def probe_host(settings: TasksSettings | None = None) -> Confinement:
    """What this host's sandbox consists of, without importing what runs in it: for `doctor` and for logs.

    Raises:
        SandboxRefused: the probe could not be started.
    """
    settings = settings or TasksSettings()
    with Sandbox(settings, warm=None, prepare=None) as sandbox:
        return sandbox.confinement


def _hand_over(server: ServerProcess, run: Run, descriptors: tuple[int, ...]) -> None:
    """Hand a run to the server and close this side's copies of the child's descriptors."""
    try:
        send(server.channel, WorkerMessage(body=run), descriptors)
    except OSError as error:
        raise ServerLost from error
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


@contextlib.contextmanager
def _pipes(server: socket.socket, request: bytes) -> Iterator[tuple[Channels, tuple[int, ...]]]:
    """The worker's reading ends, and the child's descriptors, which whoever sends them on closes."""
    memory = os.memfd_create("request", os.MFD_CLOEXEC)
    with open(memory, "wb", closefd=False) as file:
        file.write(request)
    readers, writers = zip(*(os.pipe2(os.O_CLOEXEC) for _ in range(3)), strict=True)
    try:
        for reader in readers:
            os.set_blocking(reader, False)
        os.set_blocking(writers[2], False)
        yield Channels(server, *readers), (memory, *writers)
    finally:
        for reader in readers:
            os.close(reader)


def _resolved(paths: Sequence[str | Path]) -> tuple[str, ...]:
    """Absolute paths of inputs. A host without namespaces would notice a missing one only by what the child says."""
    absolute = tuple(Path(path).absolute() for path in paths)
    for path in absolute:
        if not path.exists():
            raise SandboxRefused(f"the input {path} is not there: it was removed before the evaluation could read it")
    return tuple(map(str, absolute))
