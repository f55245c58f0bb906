"""Watching one child from outside: its clock, its memory, its scratch folder and everything that it says.

The loop runs in the worker. It ends a run by asking the fork server to kill the child; where that does not
help in time, the caller ends the server, and with it everything.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tasks.errors import SandboxError, SandboxFlood, SandboxOutOfMemory, SandboxOutOfScratch, SandboxTimeout
from tasks.sandbox.confine import BLOCK_BYTES
from tasks.sandbox.outcome import Facts
from tasks.sandbox.processes import descendants, memory_of
from tasks.sandbox.wire import Ended, Kill, Refused, ServerMessage, WorkerMessage, receive, send

Progress = Callable[[str, float], None]

_TICK_SECONDS: Final = 0.02
_SCRATCH_TICK_SECONDS: Final = 0.25
_KILL_SECONDS: Final = 10.0
_READ_BYTES = 256 * 1024
_KEPT_OUTPUT_BYTES = 64 * 1024
_MAX_EVENT_BYTES = 4096
_PROGRESS_SECONDS = 0.05


@dataclass(slots=True)
class Channels:
    """The worker's ends of a run: the server's socket and the child's result, output and events."""

    server: socket.socket
    result: int
    output: int
    events: int


class ServerLost(Exception):
    """The fork server is gone or does not obey; whoever owns it must end it."""


class ServerRefused(Exception):
    """The fork server has not taken the run; `ended` says whether it ends because of that."""

    def __init__(self, reason: str, *, ended: bool) -> None:
        super().__init__(reason)
        self.ended = ended


@dataclass(slots=True)
class Watch:
    """One run, from the moment that it was sent until nothing of it is left.

    `scratch` is None where the kernel bounds it; `whole_tree` makes the memory of all descendants count,
    where the child can have some.
    """

    channels: Channels
    facts: Facts
    scratch: Path | None
    whole_tree: bool
    progress: Progress | None = None
    _process: int | None = None
    _idle_bytes: int = 0
    _output: bytearray = field(default_factory=bytearray)
    _events: bytearray = field(default_factory=bytearray)
    _scratch_checked: float = 0.0
    _progressed: float = 0.0
    _killed_at: float | None = None

    def run(self) -> None:
        """Wait for the end of the run, whatever end that is, and fill in the facts.

        Raises:
            ServerLost: the server died, or did not end the child in time.
            ServerRefused: it has not taken the run.
        """
        end = time.monotonic() + self.facts.wall_seconds
        open_pipes = {self.channels.result, self.channels.output, self.channels.events}
        server = self.channels.server.fileno()
        ended: Ended | None = None
        while ended is None:
            readable, _, _ = select.select([server, *open_pipes], [], [], _TICK_SECONDS)
            for pipe in open_pipes.intersection(readable):
                if not self._take(pipe):
                    open_pipes.discard(pipe)
            if server in readable:
                ended = self._end()
            elif self._killed_at is None:
                self._enforce(end)
            elif time.monotonic() > self._killed_at + _KILL_SECONDS:
                raise ServerLost
        for pipe in open_pipes:
            while self._take(pipe):
                pass
        self.facts.status = ended.status
        self.facts.used_cpu_seconds = ended.user_seconds + ended.system_seconds
        self.facts.output = self._output.decode(errors="replace")

    def _end(self) -> Ended:
        packet, _ = receive(self.channels.server)
        if not packet:
            raise ServerLost
        message = ServerMessage.model_validate_json(packet).body
        if isinstance(message, Refused):
            raise ServerRefused(message.reason, ended=message.ended)
        if not isinstance(message, Ended):
            raise ServerLost
        return message

    def _enforce(self, end: float) -> None:
        """Kill the run if it is over one of its bounds."""
        now = time.monotonic()
        if now > end:
            self._kill(SandboxTimeout)
        elif len(self.facts.result) > self.facts.result_bytes:
            self._kill(SandboxFlood)
        elif self._memory() > self.facts.memory_bytes:
            self._kill(SandboxOutOfMemory)
        elif self.scratch is not None and now > self._scratch_checked + _SCRATCH_TICK_SECONDS:
            self._scratch_checked = now
            if not within(self.scratch, self.facts.scratch_bytes, self.facts.scratch_bytes // BLOCK_BYTES):
                self._kill(SandboxOutOfScratch)

    def _kill(self, cause: type[SandboxError]) -> None:
        self.facts.killed_for = cause
        self._killed_at = time.monotonic()
        try:
            send(self.channels.server, WorkerMessage(body=Kill()))
        except OSError as error:
            raise ServerLost from error

    def _memory(self) -> int:
        """Memory that the run has beyond what its child was born with, in bytes."""
        if self._process is None:
            return 0
        used = memory_of(self._process)
        own = max(0, used - self._idle_bytes)
        if self.whole_tree:  # each of them was born with the same idle pages, which are shared until written to
            for process in descendants(self._process):
                own += max(0, memory_of(process) - self._idle_bytes)
        self.facts.peak_bytes = max(self.facts.peak_bytes, own)
        return own

    def _take(self, pipe: int) -> bool:
        """Read once from a pipe; False when there is nothing more to come."""
        try:
            data = os.read(pipe, _READ_BYTES)
        except BlockingIOError:
            return False
        if pipe == self.channels.result:
            if len(self.facts.result) <= self.facts.result_bytes:
                self.facts.result += data
        elif pipe == self.channels.output:
            self._output = (self._output + data)[-_KEPT_OUTPUT_BYTES:]
        else:
            self._events += data
            self._read_events()
        return bool(data)

    def _read_events(self) -> None:
        *lines, rest = bytes(self._events).split(b"\n")
        self._events = bytearray(rest[:_MAX_EVENT_BYTES])
        for line in lines:
            try:
                event = json.loads(line[:_MAX_EVENT_BYTES])
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                self._heed(event)

    def _heed(self, event: dict[str, object]) -> None:
        """The first two events are the server's own code in the child; after that they are only claims of
        progress.
        """
        process, idle, step, fraction = (event.get(name) for name in ("process", "idle_bytes", "step", "fraction"))
        if not self.facts.confined:
            if isinstance(process, int) and isinstance(idle, int):
                self._process, self._idle_bytes = process, idle
            self.facts.confined = event.get("confined") is True
        elif self.progress is not None and isinstance(step, str) and isinstance(fraction, int | float):
            now = time.monotonic()
            if now > self._progressed + _PROGRESS_SECONDS and 0 <= fraction <= 1:
                self._progressed = now
                self.progress(step[:100], float(fraction))


def within(folder: Path, most_bytes: int, most_files: int) -> bool:
    """Whether a folder holds no more than that. One that cannot be looked into does not."""
    used, files, queue = 0, 0, [folder]
    try:
        while queue:
            with os.scandir(queue.pop()) as entries:
                for entry in entries:
                    files += 1
                    if entry.is_dir(follow_symlinks=False):
                        queue.append(Path(entry.path))
                    else:
                        used += entry.stat(follow_symlinks=False).st_blocks * 512
                    if files > most_files or used > most_bytes:
                        return False
    except FileNotFoundError:
        return True  # something was removed while it was counted
    except PermissionError:
        return False
    return True
