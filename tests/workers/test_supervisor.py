"""The supervisor with real processes: one for all, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SUPERVISE = """
import os, sys
from workers.supervisor import Child, Supervisor
folder, scripts = sys.argv[1], sys.argv[2:]
children = [Child(f"child{n}", [sys.executable, "-c", script], {**os.environ, "FOLDER": folder, "NAME": f"child{n}"})
            for n, script in enumerate(scripts)]
sys.exit(Supervisor(children, grace_seconds=1.0).run())
"""

BEGIN = """
import os, signal, sys, time
from pathlib import Path
mark = Path(os.environ["FOLDER"]) / os.environ["NAME"]
mark.with_suffix(".pid").write_text(str(os.getpid()))
def stop(number, frame):
    with mark.with_suffix(".signals").open("a") as file: file.write(signal.Signals(number).name + "\\n")
    sys.exit(0)
"""
POLITE = BEGIN + "signal.signal(signal.SIGTERM, stop)\nsignal.signal(signal.SIGINT, stop)\ntime.sleep(60)"
DEAF = BEGIN + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"
FAILING = BEGIN + "time.sleep(0.5); sys.exit(7)"
LEAVING = BEGIN + "time.sleep(0.5); sys.exit(0)"


def supervise(folder: Path, *scripts: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(folder), *scripts], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 20
    while len(list(folder.glob("*.pid"))) < len(scripts):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)  # the file is there before its text and the handlers are
    return process


def alive(folder: Path) -> list[str]:
    found = []
    for file in folder.glob("*.pid"):
        try:
            os.kill(int(file.read_text()), 0)
        except ProcessLookupError:
            continue
        found.append(file.stem)
    return found


def wait_until_none_is_alive(folder: Path) -> None:
    deadline = time.monotonic() + 10
    while alive(folder):
        assert time.monotonic() < deadline, alive(folder)
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_handed_on_once_and_ends_in_order(tmp_path: Path, number: signal.Signals) -> None:
    process = supervise(tmp_path, POLITE, POLITE)
    process.send_signal(number)
    assert process.wait(timeout=10) == 0
    assert alive(tmp_path) == []
    assert [file.read_text() for file in sorted(tmp_path.glob("*.signals"))] == ["SIGTERM\n", "SIGTERM\n"]


@pytest.mark.parametrize(("script", "code"), [(FAILING, 7), (LEAVING, 1)])
def test_the_end_of_one_is_the_end_of_all(tmp_path: Path, script: str, code: int) -> None:
    process = supervise(tmp_path, POLITE, script)
    assert process.wait(timeout=10) == code
    assert alive(tmp_path) == []
    assert process.stderr is not None
    assert "child1 ended by itself" in process.stderr.read()


def test_who_does_not_stop_is_killed(tmp_path: Path) -> None:
    process = supervise(tmp_path, DEAF)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 1
    assert alive(tmp_path) == []


def test_the_children_of_a_killed_supervisor_stop_too(tmp_path: Path) -> None:
    process = supervise(tmp_path, POLITE, POLITE)
    process.kill()
    process.wait()
    wait_until_none_is_alive(tmp_path)
