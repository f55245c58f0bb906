"""Sessions and the watchdog: what is ended, and what must not be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compose.sessions import Session, end
from compose.watchdog import left_behind

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("ready", flush=True)
time.sleep(60)
"""

Start = Callable[[list[str]], subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start session leaders, and kill what is left of them."""
    started: list[subprocess.Popen[bytes]] = []

    def _start(argv: list[str]) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True))
        return started[-1]

    yield _start
    for process in started:
        for number in Session(process.pid, 0).members() or [process.pid]:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()
        if process.stdout:
            process.stdout.close()


def test_a_polite_process_is_asked_and_not_killed(start: Start) -> None:
    process = start(SLEEPER)
    assert end([Session.of(process.pid)], 5) == []
    assert process.wait() == -signal.SIGTERM


def test_a_stubborn_one_is_killed_with_its_children(start: Start) -> None:
    process = start([sys.executable, "-c", STUBBORN])
    assert process.stdout is not None
    process.stdout.readline()
    session = Session.of(process.pid)
    assert len(session.members()) == 2
    assert end([session], 0.2) == [session]
    assert session.members() == []
    assert process.wait() == -signal.SIGKILL


def test_children_that_outlive_their_leader_are_ended_too(start: Start) -> None:
    process = start(["sh", "-c", "sleep 60 & echo $!"])
    session = Session.of(process.pid)
    assert process.stdout is not None
    orphan = int(process.stdout.readline())
    process.wait()
    assert session.members() == [orphan]
    end([session], 0.2)
    assert session.members() == []


def test_a_number_used_again_is_not_mistaken_for_the_old_session(start: Start) -> None:
    process = start(SLEEPER)
    now = Session.of(process.pid)
    before = Session(process.pid, now.started_ticks - 1)
    assert before.members() == []
    end([before], 0.1)
    assert process.poll() is None


def test_a_process_that_is_not_there_has_no_session() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(ProcessLookupError, match=str(process.pid)):
        Session.of(process.pid)


@pytest.mark.parametrize(
    ("lines", "pids"),
    [
        ([], []),
        (["add 1 10", "add 2 20"], [2, 1]),
        (["add 1 10", "add 2 20", "forget 1"], [2]),
        (["add 1 10", "forget 1", "add 1 30"], [1]),
        (["add 1 10", "release"], []),
        (["add 1 10", "add 2"], [1]),
        (["forget 7", ""], []),
    ],
    ids=["nothing", "last first", "forgotten", "started again", "released", "cut off", "unknown"],
)
def test_what_the_owner_left_behind(lines: list[str], pids: list[int]) -> None:
    assert [session.pid for session in left_behind(lines)] == pids


def test_the_watchdog_ends_sessions_when_its_pipe_closes(start: Start, tmp_path: Path) -> None:
    watched, other = start(SLEEPER), start(SLEEPER)
    session = Session.of(watched.pid)
    watchdog = subprocess.Popen([sys.executable, "-m", "compose.watchdog", "2"], stdin=subprocess.PIPE)
    assert watchdog.stdin is not None
    watchdog.stdin.write(f"add {session.pid} {session.started_ticks}\n".encode())
    watchdog.stdin.flush()
    time.sleep(0.2)
    assert watched.poll() is None
    watchdog.stdin.close()
    assert watchdog.wait(10) == 0
    assert watched.wait(5) == -signal.SIGTERM
    assert other.poll() is None
