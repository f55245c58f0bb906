"""The watchdog of a local stack: ends the stack's processes when the process that started them is gone.

`python -m compose.watchdog GRACE_SECONDS` reads lines from standard input, a pipe whose other end the owner
holds:

    add PID TICKS       watch over the session that PID leads (TICKS: its start time, see `compose.sessions`)
    forget PID          the owner has stopped it
    release             leave everything running when the owner goes

End of file means that the owner is gone, however it went. PR_SET_PDEATHSIG, the usual way, fires when the
*thread* that started a child ends and reaches the direct child only; a session also holds the children of a
worker's pool.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable

from compose.sessions import Session, end


def left_behind(lines: Iterable[str]) -> list[Session]:
    """Read the owner's lines to their end; returns the sessions to end now, those started last first."""
    watched: dict[int, Session] = {}
    released = False
    for line in lines:
        match line.split():
            case ["add", pid, ticks]:
                watched[int(pid)] = Session(int(pid), int(ticks))
            case ["forget", pid]:
                watched.pop(int(pid), None)
            case ["release"]:
                released = True
            case _:
                continue  # the owner died in the middle of a line
    return [] if released else list(reversed(watched.values()))


def main() -> None:
    """Watch until the owner is gone, then end what it left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # its one reason to end is the end of the owner
    end(left_behind(sys.stdin), grace_seconds=float(sys.argv[1]))


if __name__ == "__main__":
    main()
