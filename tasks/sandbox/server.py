"""The fork server: a process that has imported the runtime, does nothing else, and forks one child per evaluation.

Started by `tasks.sandbox.launch` as `python -I -m tasks.sandbox.server DESCRIPTOR SETUP`, with a scrubbed environment
and one descriptor: its end of the Unix socket. In order: probe the layers (`tasks.sandbox.probe`), enter namespaces of
its own, import, then serve. It must stay single-threaded and must never ask TensorFlow for a device: every child forked
afterwards would hang. So the threads are counted before each fork; more than one, and the server refuses and ends, for
the worker to start another.

A child is forked ahead of its run, and waits, confined and prepared (`tasks.sandbox.seat`). It serves one run and dies.
The server ends when its worker does: the socket closes. Its children end when it does: the kernel kills them.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import shutil
import signal
import socket
import sys
import time
from typing import Any, Final

from tasks.sandbox import primitives
from tasks.sandbox.confine import enter_server_namespaces
from tasks.sandbox.layers import Confinement, Layer
from tasks.sandbox.probe import probe
from tasks.sandbox.processes import descendants, threads
from tasks.sandbox.seat import Seat, Target
from tasks.sandbox.stage import Stage, runtime_paths
from tasks.sandbox.wire import (
    DESCRIPTORS_PER_RUN,
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

_SWEEP_SECONDS: Final = 5.0


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
    """Go on as the first process of the new PID namespace; the old self only waits, and hands on the exit code."""
    inner = os.fork()
    if inner == 0:
        primitives.die_with_parent(signal.SIGKILL)
        return
    channel.close()
    _, status = os.waitpid(inner, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


class Server:
    """Imports once, then keeps one child ready, and gives it the next run."""

    def __init__(self, channel: socket.socket, setup: Setup, confinement: Confinement) -> None:
        self._channel = channel
        self._setup = setup
        self._layers = confinement.active
        self._runtime = runtime_paths(setup.import_paths, gpu=setup.gpu is not None)
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._child: tuple[int, socket.socket] | None = None
        self._stage: Stage | None = None
        if Layer.NAMESPACES in self._layers:
            as_another = os.geteuid() == 0 and Layer.IDENTITY in self._layers
            gpu = setup.gpu is not None
            self._stage = Stage(setup.workplace, self._runtime, gpu=gpu, copy_unreadable=as_another)

    def serve(self) -> None:
        """Import what the children need and answer requests until the worker is gone."""
        try:
            self._serve()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the worker went away in the middle of a run
        finally:
            self._leave()

    def _serve(self) -> None:
        started = time.monotonic()
        target = self._import()
        imported = round(time.monotonic() - started, 3)
        self._seat = Seat(self._setup, self._layers, self._runtime, target, self._stage)
        found = threads()
        if len(found) == 1:
            self._fork()
        send(self._channel, ServerMessage(body=Ready(process=os.getpid(), threads=found, import_seconds=imported)))
        while True:
            packet, descriptors = receive(self._channel)
            if not packet:
                return
            message = WorkerMessage.model_validate_json(packet).body
            if isinstance(message, Run) and len(descriptors) == DESCRIPTORS_PER_RUN:
                self._run(message, descriptors)

    def _leave(self) -> None:
        """Remove the folder on behalf of a worker that is gone, and may not have had the time to do it."""
        if self._child is not None:
            os.kill(self._child[0], signal.SIGKILL)
            os.waitpid(self._child[0], 0)
        if self._stage is not None:
            self._stage.close()
        shutil.rmtree(self._setup.workplace, ignore_errors=True)

    def _import(self) -> Target:
        """Load everything that a child will need, so that none of it is loaded twice."""
        target: Target = find(self._setup.target)
        if self._setup.warm:
            find(self._setup.warm)()
        gc.collect()
        gc.freeze()  # else the first collection of every child copies all pages
        return target

    def _run(self, run: Run, descriptors: list[int]) -> None:
        try:
            if self._stage is not None:
                self._stage.place(run.inputs)
        except OSError as error:
            _close_all(descriptors)
            reason = f"an input cannot be shown to the evaluation: {error}"
            send(self._channel, ServerMessage(body=Refused(reason=reason, ended=False)))
            return
        ended = self._wait(self._hand_over(run, descriptors))
        if self._stage is not None:
            self._stage.clear()
        send(self._channel, ServerMessage(body=ended))
        if len(threads()) == 1:
            self._fork()

    def _hand_over(self, run: Run, descriptors: list[int]) -> int:
        """Give a run to the child that waits, or to a new one where that has died meanwhile."""
        for _ in range(2):
            if self._child is None:
                self._fork_or_end()
            child, channel = self._child or (0, None)
            self._child = None
            try:
                if channel is not None:
                    socket.send_fds(channel, [run.model_dump_json().encode()], descriptors)
                break
            except OSError:
                os.waitpid(child, 0)
            finally:
                if channel is not None:
                    channel.close()
        _close_all(descriptors)
        return child

    def _fork_or_end(self) -> None:
        found = threads()
        if len(found) != 1:
            reason = f"the fork server has threads of its own: {', '.join(found)}"
            send(self._channel, ServerMessage(body=Refused(reason=reason, ended=True)))
            raise SystemExit(reason)
        self._fork()

    def _fork(self) -> None:
        """Fork the next child; it takes its seat and waits for its run."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        if self._stage is not None:
            primitives.unshare(primitives.CLONE_NEWPID)
        child = os.fork()
        if child == 0:
            self._seat.take(there.detach(), parent)
        there.close()
        if self._stage is not None:
            primitives.join_namespace(self._own_pids, primitives.CLONE_NEWPID)
        self._child = child, here

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


def find(name: str) -> Any:
    """What `module:attribute` names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


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


if __name__ == "__main__":
    main(sys.argv)
