"""The command of the benchmarks: it finds each of them, and says so where there is no such one."""

from __future__ import annotations

import subprocess
import sys

from benchmarks import BENCHMARKS


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_it_lists_every_benchmark_with_what_it_measures() -> None:
    done = _command("--list")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in done.stdout.splitlines()}
    assert lines.keys() == BENCHMARKS.keys()
    assert all(len(about) > 20 for about in lines.values())


def test_a_name_that_is_none_is_refused_with_those_that_are() -> None:
    done = _command("speed")
    assert done.returncode == 2
    assert "speed" in done.stderr
    assert all(name in done.stderr for name in BENCHMARKS)
