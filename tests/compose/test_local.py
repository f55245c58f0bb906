"""The local stack with its real parts: they serve, they stop, and nothing outlives its owner."""

from __future__ import annotations

import http.client
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from compose.__main__ import main
from compose.errors import FolderInUse, ProgramMissing, ServiceFailed, StackError
from compose.local import LocalStack
from compose.record import StackRecord, private_folder
from compose.services import CHAIN_ID, PARTS, Mining
from compose.settings import StackSettings

PARTS_WITHOUT_IPFS = ("broker", "cache", "chain")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """One whole stack for the tests that only look at it."""
    with LocalStack(tmp_path_factory.mktemp("stack"), mining=Mining(1.0)) as running:
        yield running


def post(url: str, path: str, body: bytes = b"") -> dict[str, object]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    answer: dict[str, object] = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def ask_chain(url: str, method: str) -> object:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": []}
    return post(url, "/", json.dumps(request).encode())["result"]


def redis_config(url: str, name: str) -> str:
    client = redis.Redis.from_url(url, decode_responses=True)
    value = dict(client.config_get(name))[name]
    client.close()
    return str(value)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pids: list[int], seconds: float = 15) -> list[int]:
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [pid for pid in pids if alive(pid)]


def test_each_part_serves_at_its_address(stack: LocalStack) -> None:
    environment = stack.environment()
    assert redis.Redis.from_url(environment["FITCHAIN_BROKER_URL"]).ping()
    assert redis.Redis.from_url(environment["FITCHAIN_CACHE_URL"]).ping()
    assert ask_chain(environment["FITCHAIN_RPC_URL"], "eth_chainId") == hex(CHAIN_ID)
    assert environment["FITCHAIN_CHAIN_ID"] == str(CHAIN_ID)
    assert "Version" in post(environment["FITCHAIN_IPFS_API"], "/api/v0/version")


def test_broker_keeps_and_cache_forgets(stack: LocalStack) -> None:
    broker, cache = stack.url("broker"), stack.url("cache")
    assert redis_config(broker, "maxmemory-policy") == "noeviction"
    assert redis_config(broker, "appendonly") == "yes"
    assert redis_config(broker, "appendfsync") == "everysec"
    assert redis_config(cache, "maxmemory-policy") == "allkeys-lfu"
    assert redis_config(cache, "appendonly") == "no"
    assert int(redis_config(cache, "maxmemory")) == StackSettings().stack_cache_bytes
    assert stack.process("broker").pid != stack.process("cache").pid


def test_everything_listens_on_loopback_only(stack: LocalStack) -> None:
    ports = {int(address.url.rpartition(":")[2].partition("/")[0]) for address in stack.addresses()}
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            address, _, port = line.split()[1].rpartition(":")
            if line.split()[3] == "0A" and int(port, 16) in ports:
                listening.append(address)
    assert len(listening) == len(PARTS)
    assert set(listening) == {"0100007F"}


def test_blocks_come_by_the_clock_and_at_once(stack: LocalStack) -> None:
    url = stack.url("chain")
    first = int(str(ask_chain(url, "eth_blockNumber")), 16)
    deadline = time.monotonic() + 5
    while int(str(ask_chain(url, "eth_blockNumber")), 16) <= first:
        assert time.monotonic() < deadline, "no block in 5 seconds"
        time.sleep(0.1)


def test_its_folder_is_private_and_its_record_complete(stack: LocalStack) -> None:
    assert stat.S_IMODE(stack.folder.stat().st_mode) == 0o700
    record = StackRecord.load(stack.folder)
    assert record is not None
    assert [entry.name for entry in record.processes] == list(PARTS)
    assert record.environment == stack.environment()
    assert len(record.living()) == len(PARTS)


def test_a_second_stack_in_the_same_folder_is_refused(stack: LocalStack) -> None:
    with pytest.raises(FolderInUse, match="compose stop"):
        LocalStack(stack.folder, parts=["broker"]).start()
    assert stack.process("broker").poll() is None


def test_a_process_beside_the_parts_gets_its_settings_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FITCHAIN_PRIVATE_KEY", "0xoperator")
    monkeypatch.setenv("UNRELATED", "kept")
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    with LocalStack(tmp_path, parts=["broker"]) as stack:
        process = stack.start_process("print", [sys.executable, "-c", program], {"FITCHAIN_TICK_SECONDS": "2"})
        assert process.popen.wait(10) == 0
        seen = json.loads(process.log.read_text())
        assert seen["FITCHAIN_BROKER_URL"] == stack.url("broker")
    assert seen["FITCHAIN_TICK_SECONDS"] == "2"
    assert seen["UNRELATED"] == "kept"
    assert "FITCHAIN_PRIVATE_KEY" not in seen


def test_stop_ends_everything_workers_first(tmp_path: Path) -> None:
    # The worker notes whether the broker still answers when it is asked to stop.
    program = (
        "import os, redis, signal, sys\n"
        "def bye(*_):\n"
        "    broker = redis.Redis.from_url(os.environ['FITCHAIN_BROKER_URL'])\n"
        "    print('broker answers:', broker.ping(), flush=True)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, bye)\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    stack = LocalStack(tmp_path, parts=PARTS_WITHOUT_IPFS).start()
    worker = stack.start_process("worker", [sys.executable, "-c", program])
    stack.wait_for("worker", "ready")
    pids = [address.pid for address in stack.addresses()]
    stack.stop()
    assert wait_until_gone(pids, 0) == []
    assert worker.log.read_text().splitlines()[-1] == "broker answers: True"
    assert worker.poll() == 0
    assert StackRecord.load(tmp_path) is None


OWNER = """
import os, signal, subprocess, sys
from pathlib import Path
from compose.local import LocalStack
stack = LocalStack(Path(sys.argv[1]), parts=["broker", "chain"], keep=sys.argv[2] == "keep").start()
# A pool worker: a child of a process beside the parts, which ignores that its parent goes.
stack.start_process("worker", ["sh", "-c", "sleep 120 & echo child $!; wait"])
stack.wait_for("worker", "child")
child = int((stack.folder / "logs" / "worker.log").read_text().split()[1])
pids = [address.pid for address in stack.addresses()]
if sys.argv[2] == "keep":
    stack.release()
print(*pids, child, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("mode", ["end", "keep"])
def test_a_killed_owner_leaves_nothing_unless_it_should(tmp_path: Path, mode: str) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path), mode], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    assert len(pids) == 4
    assert all(map(alive, pids))
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    if mode == "keep":
        time.sleep(0.5)
        assert all(map(alive, pids))
        assert main(["stop", str(tmp_path)]) == 0
    assert wait_until_gone(pids) == []


def test_a_part_comes_back_at_the_same_address_with_its_data(tmp_path: Path) -> None:
    with LocalStack(tmp_path, parts=["broker"]) as stack:
        url = stack.url("broker")
        client = redis.Redis.from_url(url)
        client.set("kept", "1")
        stack.stop_service("broker")
        with pytest.raises(redis.ConnectionError):
            redis.Redis.from_url(url).ping()
        stack.start_service("broker")
        assert stack.url("broker") == url
        assert client.get("kept") == b"1"
        client.close()


def test_a_part_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    bad = tmp_path / "redis-server"
    bad.write_text("#!/bin/sh\necho 'cannot map memory' >&2\nexit 3\n")
    bad.chmod(0o755)
    folder = tmp_path / "stack"
    with pytest.raises(ServiceFailed) as caught:
        LocalStack(folder, parts=["broker"], settings=StackSettings(redis_server=bad)).start()
    message = str(caught.value)
    assert "broker ended at once with status 3" in message
    assert str(folder / "logs" / "broker.log") in message
    assert "| cannot map memory" in message
    assert StackRecord.load(folder) is None


def test_a_part_that_never_answers_is_given_up(tmp_path: Path) -> None:
    deaf = tmp_path / "anvil"
    deaf.write_text("#!/bin/sh\necho starting\nexec sleep 60\n")
    deaf.chmod(0o755)
    settings = StackSettings(anvil=deaf, stack_start_seconds=0.5)
    started = time.monotonic()
    with pytest.raises(ServiceFailed, match=r"chain did not answer within 0\.5 s") as caught:
        LocalStack(tmp_path / "stack", parts=["broker", "chain"], settings=settings).start()
    assert time.monotonic() - started < 10
    assert "| starting" in str(caught.value)


def test_a_missing_program_is_named_with_the_remedy(tmp_path: Path) -> None:
    settings = StackSettings(anvil=tmp_path / "nowhere")
    with pytest.raises(ProgramMissing, match=r"nowhere.*make setup.*FITCHAIN_ANVIL"):
        LocalStack(tmp_path / "stack", parts=["chain"], settings=settings).start()


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such parts: mail"):
        LocalStack(tmp_path, parts=["broker", "mail"])


def test_the_anvil_path_variable_is_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANVIL_PATH", str(tmp_path / "anvil"))
    assert StackSettings().anvil == tmp_path / "anvil"


def test_an_open_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FolderInUse, match="others may read it"):
        private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    (folder / "notes.txt").unlink()
    private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of somebody else's")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    with pytest.raises(FolderInUse, match="65534"):
        private_folder(folder)


def test_by_hand_start_status_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "stack")
    assert main(["stop", folder]) == 3
    assert "Nothing runs" in capsys.readouterr().err
    assert main(["start", folder, "--parts", "broker"]) == 0
    try:
        exported = dict(
            line.removeprefix("export ").split("=", 1)
            for line in capsys.readouterr().out.splitlines()
            if line.startswith("export ")
        )
        assert redis.Redis.from_url(exported["FITCHAIN_BROKER_URL"]).ping()
        assert main(["status", folder]) == 0
        assert exported["FITCHAIN_BROKER_URL"] in capsys.readouterr().out
    finally:
        assert main(["stop", folder]) == 0
    assert main(["status", folder]) == 3


def test_a_damaged_record_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stack.json").write_text("{")
    with pytest.raises(StackError, match=r"stack\.json"):
        StackRecord.load(tmp_path)
    assert main(["status", str(tmp_path)]) == 1
    assert "stack.json" in capsys.readouterr().err
