"""Process sessions: find out who is in one, and end all of it.

Each process that the stack starts leads a session of its own, so "everything it started" is a question that
the kernel answers: field 6 of `/proc/PID/stat` (proc(5)). A process identifier alone may be used again by a
stranger, so a session is known by the identifier and the start time (field 22) of its leader.

Only the standard library: the watchdog runs this as well, and has to be small.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.02
_KILL_SECONDS = 5.0
_PROC = Path("/proc")


@dataclass(frozen=True)
class Session:
    """A session, named by its leader: process identifier, and start time in clock ticks since boot."""

    pid: int
    started_ticks: int

    @classmethod
    def of(cls, pid: int) -> Session:
        """Return the session that process `pid` leads. Raises ProcessLookupError if it is not there."""
        entry = _stat(pid)
        if entry is None:
            raise ProcessLookupError(f"there is no process {pid}")
        return cls(pid, entry.started_ticks)

    def members(self) -> list[int]:
        """Return the identifiers of its living processes, the leader included; zombies do not count."""
        leader = _stat(self.pid)
        if leader is not None and leader.started_ticks != self.started_ticks:
            return []  # the number belongs to somebody else by now, so this session has ended
        found = []
        for folder in _PROC.iterdir():
            if not folder.name.isdigit():
                continue
            entry = _stat(int(folder.name))
            if entry is not None and entry.session == self.pid and entry.state not in "ZX":
                found.append(int(folder.name))
        return found

    def send(self, signal_number: int) -> None:
        """Send a signal to every member."""
        for pid in self.members():
            _kill(pid, signal_number)

    def send_leader(self, signal_number: int) -> None:
        """Send a signal to the leader alone: a worker passes it on to its children as it sees fit."""
        if self.pid in self.members():
            _kill(self.pid, signal_number)


def end(sessions: Iterable[Session], grace_seconds: float) -> list[Session]:
    """End sessions: ask their leaders, wait, then kill what is left. Returns those whose time ran out.

    What outlives its leader is killed without waiting: nobody is left whom it could report to.
    """
    asked = list(sessions)
    for session in asked:
        session.send_leader(signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    remaining = _still_led(asked)
    while remaining and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        remaining = _still_led(remaining)
    deadline = time.monotonic() + _KILL_SECONDS
    for session in asked:
        # More than once: a process may be forking just then. Not for ever: one may wait for a dead disk.
        while session.members() and time.monotonic() < deadline:
            session.send(signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
    return remaining


def _still_led(sessions: list[Session]) -> list[Session]:
    return [session for session in sessions if session.pid in session.members()]


@dataclass(frozen=True)
class _Stat:
    state: str
    session: int
    started_ticks: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The command, field 2, stands in brackets and may hold brackets itself: count from the last one.
    fields = text.rpartition(")")[2].split()
    return _Stat(state=fields[0], session=int(fields[3]), started_ticks=int(fields[19]))


def _kill(pid: int, signal_number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself in between
        os.kill(pid, signal_number)
