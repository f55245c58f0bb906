"""Runs of the sandbox: what honest work gets, how each end is named, and that nothing is left of them."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import errors
from tasks.sandbox import Level, Sandbox
from tasks.sandbox.launch import environment
from tasks.sandbox.processes import descendants
from tests.tasks.sandboxes import MIB, TARGETS, ask, sandbox_without


@pytest.fixture(scope="module")
def others() -> set[int]:
    """Processes of this run that were there before: services that other tests share."""
    return set(descendants(os.getpid()))


@pytest.fixture(scope="module")
def sandbox(others: set[int]) -> Iterator[Sandbox]:
    with sandbox_without() as running:
        running.start()
        yield running


@pytest.fixture(autouse=True)
def nothing_left(sandbox: Sandbox, others: set[int]) -> Iterator[None]:
    """After every test: the server, its outer self and the next child, and nothing else; and it still answers."""
    yield
    assert ask(sandbox, "add", a=2, b=3) == 5
    assert len(set(descendants(os.getpid())) - others) <= 3
    assert sandbox._server is not None
    assert sorted(entry.name for entry in sandbox._server.folder.iterdir()) == ["home", "root"]


def test_result_comes_back(sandbox: Sandbox) -> None:
    assert ask(sandbox, "add", a=40, b=2) == 42


def test_every_run_is_a_fresh_child(sandbox: Sandbox) -> None:
    assert [ask(sandbox, "count_calls") for _ in range(3)] == [1, 1, 1]


def test_progress_is_heard_in_order(sandbox: Sandbox) -> None:
    heard: list[tuple[str, float]] = []
    sandbox.run(b'{"do": "progress"}', progress=lambda step, fraction: heard.append((step, fraction)))
    assert len(heard) >= 3
    assert heard == sorted(heard)
    assert {step for step, _ in heard} == {"counting"}


def test_threads_work_inside(sandbox: Sandbox) -> None:
    assert ask(sandbox, "threads", count=16) == 16


def test_large_request_and_result(sandbox: Sandbox) -> None:
    text = "x" * MIB
    assert ask(sandbox, "write", path="file", text=text) == text


def test_inputs_can_be_read_and_not_written(sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_text("weights")
    file.chmod(0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / "folder" / "part").write_text("x")
    assert ask(sandbox, "read", readable=[file], path=str(file)) == "weights"
    assert ask(sandbox, "tree", readable=[tmp_path / "folder"], path=str(tmp_path / "folder")) == ["part"]
    assert "stopped" in ask(sandbox, "write", readable=[file], path=str(file))
    assert file.read_text() == "weights"


def test_input_behind_a_link(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("weights")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert ask(sandbox, "read", readable=[tmp_path / "link"], path=str(tmp_path / "link")) == "weights"


def test_a_run_learns_nothing_of_the_inputs_of_another(sandbox: Sandbox, tmp_path: Path) -> None:
    first, second = tmp_path / "first" / "model", tmp_path / "second" / "model"
    for path in (first, second):
        path.parent.mkdir()
        path.write_text(path.parent.name)
    assert ask(sandbox, "read", readable=[first], path=str(first)) == "first"
    assert ask(sandbox, "read", readable=[second], path=str(second)) == "second"
    for path in (first, first.parent):
        assert "stopped" in ask(sandbox, "read", readable=[second], path=str(path))
    if sandbox.level is Level.FULL:
        assert ask(sandbox, "exists", readable=[second], path=str(first.parent)) is False
        assert ask(sandbox, "exists", readable=[second], path=str(second.parent)) is True


def test_scratch_is_empty_every_time(sandbox: Sandbox) -> None:
    assert ask(sandbox, "write", path="file", text="secret of one customer") == "secret of one customer"
    found = ask(sandbox, "look")
    assert found["files"] == []
    assert {found["environment"][name] for name in ("HOME", "TMPDIR")} == {found["folder"]}


def test_what_a_child_has_and_has_not(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITCHAIN_PRIVATE_KEY", "0x" + "11" * 32)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    with sandbox_without() as fresh:
        found, level = ask(fresh, "look"), fresh.level
    assert set(found["environment"]) <= set(environment(Path("/"))) | {"TMP", "TEMP", "LC_CTYPE"}
    assert not [name for name in found["environment"] if "FITCHAIN" in name or "SECRET" in name]
    assert len(found["descriptors"]) == 5  # nothing, output, output, result, events
    assert found["capabilities"] == 0
    assert found["no_new_privileges"] == 1
    assert found["user"] != 0
    if level is Level.FULL:
        assert found["process"] == 1
        assert found["seccomp"] == 2


def test_answer_says_what_it_took(sandbox: Sandbox) -> None:
    answer = sandbox.answer(json.dumps({"do": "touch_memory", "mib": 64}).encode())
    assert 0 < answer.cpu_seconds < 5
    assert answer.wall_seconds < 5
    assert 40 * MIB < answer.peak_memory_bytes < 120 * MIB


@pytest.mark.parametrize("deed", ["loop", "sleep"])
def test_clock(sandbox: Sandbox, deed: str) -> None:
    started = time.monotonic()
    with pytest.raises(errors.SandboxTimeout, match=r"killed after 0\.4 s"):
        ask(sandbox, deed, bounds={"wall_seconds": 0.4})
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("deed", "arguments"),
    [
        ("touch_memory", {"mib": 2048}),
        ("one_allocation", {"mib": 4096}),
        ("shared_memory", {"mib": 400}),
        ("no_memory_left", {}),
    ],
)
def test_memory(sandbox: Sandbox, deed: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(errors.SandboxOutOfMemory, match="memory"):
        ask(sandbox, deed, bounds={"memory_bytes": 128 * MIB}, **arguments)


@pytest.mark.parametrize(
    ("deed", "arguments", "expected"),
    [
        ("segfault", {}, "SIGSEGV"),
        ("abort", {}, "ended by SIG"),
        ("leave", {}, "farewell"),
        ("leave_at_once", {"code": 3}, "exit code 3"),
        ("raise_error", {}, "nothing works"),
        ("overflow", {}, "ended by SIG"),
    ],
)
def test_crashes_are_named(sandbox: Sandbox, deed: str, arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(errors.SandboxCrash, match=expected):
        ask(sandbox, deed, **arguments)


@pytest.mark.parametrize("deed", ["nothing", "not_json", "nan", "infinity", "twice", "not_utf8", "deep", "flood"])
def test_only_strict_json_of_bounded_size_is_a_result(sandbox: Sandbox, deed: str) -> None:
    with pytest.raises(errors.SandboxFlood):
        ask(sandbox, deed)


@pytest.mark.parametrize(
    ("kind", "raised"),
    [
        ("EvaluationError", errors.EvaluationError),
        ("EvaluationUnavailable", errors.EvaluationUnavailable),
        ("SandboxRefused", errors.EvaluationError),  # a child may not claim to be its own guard
    ],
)
def test_errors_of_the_engine_cross_the_border(sandbox: Sandbox, kind: str, raised: type[Exception]) -> None:
    with pytest.raises(raised, match="no such device") as caught:
        ask(sandbox, "raise_named", kind=kind, text="no such device")
    assert type(caught.value) is raised


def test_output_flood_is_drained_and_only_its_end_kept(sandbox: Sandbox) -> None:
    answer = sandbox.answer(json.dumps({"do": "print_much", "mib": 40}).encode())
    assert json.loads(answer.result) == "printed"
    assert len(answer.output) <= 64 * 1024
    assert answer.output.rstrip().endswith("last words")


def test_event_flood_is_ignored(sandbox: Sandbox) -> None:
    assert ask(sandbox, "flood_events", count=20_000) == "flooded"


def test_server_killed_in_the_middle(sandbox: Sandbox) -> None:
    assert sandbox._server is not None
    process = sandbox._server.process
    threading.Timer(0.3, process.kill).start()
    with pytest.raises(errors.SandboxCrash, match="fork server died"):
        ask(sandbox, "sleep")
    assert ask(sandbox, "add", a=1, b=1) == 2


def test_server_killed_while_idle_is_replaced(sandbox: Sandbox) -> None:
    assert sandbox._server is not None
    sandbox._server.process.kill()
    sandbox._server.process.wait()
    assert ask(sandbox, "add", a=1, b=1) == 2


def test_interrupted_worker_leaves_no_child(sandbox: Sandbox, others: set[int]) -> None:
    def stop(step: str, fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sandbox.run(b'{"do": "progress"}', progress=stop)
    assert set(descendants(os.getpid())) - others == set()


def test_callers_wait_for_each_other(sandbox: Sandbox) -> None:
    found: list[int] = []
    callers = [
        threading.Thread(target=lambda number=number: found.append(ask(sandbox, "add", a=number, b=0)))
        for number in range(6)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(found) == [0, 1, 2, 3, 4, 5]


def test_many_runs_leak_no_descriptors(sandbox: Sandbox) -> None:
    ask(sandbox, "add", a=1, b=1)
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        ask(sandbox, "add", a=1, b=1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_server_with_threads_is_refused(sandbox: Sandbox) -> None:
    with (
        sandbox_without(target="threaded_target:main") as threaded,
        pytest.raises(errors.SandboxRefused, match="threads"),
    ):
        threaded.run(b"1")


def test_server_that_cannot_import_says_why(sandbox: Sandbox) -> None:
    with (
        sandbox_without(target="no_such_module:main") as broken,
        pytest.raises(errors.SandboxRefused, match="No module named 'no_such_module'"),
    ):
        broken.run(b"1")


def test_level_below_the_minimum_is_refused(sandbox: Sandbox) -> None:
    with sandbox_without("seccomp", sandbox_minimum="full") as weak:
        assert weak.level is Level.LIMITS
        with pytest.raises(errors.SandboxRefused, match=r"FITCHAIN_SANDBOX_MINIMUM.*seccomp \(switched off"):
            ask(weak, "add", a=1, b=1)


def test_forked_worker_gets_a_server_of_its_own(sandbox: Sandbox) -> None:
    assert sandbox._server is not None
    outer = sandbox._server.process.pid
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answer = f"{ask(sandbox, 'add', a=1, b=2)} {sandbox._server.process.pid}"
        sandbox.close()
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        result, server = pipe.read().split()
    os.waitpid(child, 0)
    assert result == "3"
    assert int(server) != outer
    assert sandbox._server.process.poll() is None


_WORKER = """
import sys
sys.path.insert(0, {root!r})
from tests.tasks.sandboxes import ask, sandbox_without
from tasks.sandbox.processes import descendants
import os, threading, time
sandbox = sandbox_without({off})
sandbox.start()
threading.Thread(target=ask, args=(sandbox, "sleep"), daemon=True).start()
while len(descendants(os.getpid())) < {processes}:
    time.sleep(0.02)
print(*descendants(os.getpid()), sandbox._server.folder, flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize(("off", "processes"), [("", 3), ("'namespaces'", 2)])
def test_everything_dies_with_the_worker(sandbox: Sandbox, off: str, processes: int) -> None:
    script = _WORKER.format(root=str(TARGETS.parents[2]), off=off, processes=processes)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        *processes_below, folder = worker.stdout.readline().split()
        family = [int(process) for process in processes_below]
        worker.send_signal(signal.SIGKILL)
    assert len(family) >= processes
    end = time.monotonic() + 5
    while any(Path(f"/proc/{process}").exists() for process in family) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [process for process in family if Path(f"/proc/{process}").exists()]
    assert not Path(folder).exists()
