"""The commands that run, use and watch a cluster, with a real Redis, a real chain and real worker processes."""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from chain import Deployment, deploy
from tests.evm import ETHER, POOL_TERMS, TERMS, Evm, Market, anvil, development_signer
from tests.workers.command import Command
from workers.cli.exits import ExitCode

PATIENCE_SECONDS = 60
DEAD_REDIS = "redis://operator:geheim@127.0.0.1:9/0"


@pytest.fixture
def command(tmp_path: Path, broker_url: str, cache_url: str) -> Command:
    return Command(tmp_path, {"FITCHAIN_BROKER_URL": broker_url, "FITCHAIN_CACHE_URL": cache_url})


@pytest.fixture(scope="module")
def evm() -> Iterator[Evm]:
    with anvil() as url:
        yield Evm(url)


@pytest.fixture(scope="module")
def market(evm: Evm) -> Market:
    """Three staked verifiers and one open challenge."""
    deployment: Deployment = deploy(evm.w3, development_signer(0), terms=POOL_TERMS)
    made = Market(evm, deployment)
    made.stake(3)
    made.publish()
    made.challenge(replace(TERMS, commit_seconds=3600, reveal_seconds=3600))
    return made


@pytest.fixture
def on_chain(command: Command, market: Market) -> Command:
    return command.with_settings(
        rpc_url=market.evm.url,
        pool=market.pool.address,
        registry=market.registry.address,
        accounts=",".join(market.verifiers[:3]),
    )


@contextmanager
def running(command: Command, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on; its log is in `log`. Ended by SIGTERM if the test has not ended it."""
    with (command.folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", *arguments],
            env=command.environment(),
            cwd=command.folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE_SECONDS} s"
        time.sleep(0.2)


def log_of(command: Command) -> str:
    return (command.folder / "log").read_text()


def seed(seed_example: Path) -> tuple[str, ...]:
    model, data = seed_example / "model_schema.json", seed_example / "data_schema.json"
    return ("--model", str(model), "--data", str(data))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_a_job_waits_in_the_queue_until_somebody_serves_it(command: Command, seed_example: Path) -> None:
    sent = command("enqueue", *seed(seed_example), "--json")
    assert sent.code == 0, sent.err
    job = sent.json()["id"]
    status = command("status", "--json").json()
    waiting = {queue["name"]: queue["waiting"] for queue in status["queues"]}
    assert waiting == {"evaluate.cpu": 0, "evaluate.gpu": 0, "fetch": 1}
    assert status["workers"] == []
    assert any("FITCHAIN_POOL" in note for note in status["notes"])
    assert "nobody" in command("status").out
    early = command("result", job)
    assert early.code == ExitCode.TIMEOUT
    assert "PENDING" in early.err


def test_waiting_ends_in_time_and_says_that_nobody_works(command: Command, seed_example: Path) -> None:
    done = command("enqueue", *seed(seed_example), "--wait", "--timeout", "5")
    assert done.code == ExitCode.TIMEOUT
    assert "No worker serves the queue fetch" in done.err
    assert "fitchain-verifier result" in done.err


def test_a_whole_cluster_of_workers_under_one_supervisor(command: Command, seed_example: Path) -> None:
    keyed = command.with_settings(private_key="0x" + "11" * 32, soft_shutdown_seconds="2")
    assert command("publish", seed_example / "model_params.h5", seed_example / "test.csv").code == 0
    with running(keyed, "worker", "all") as workers:
        for role in ("fetch", "evaluate", "submit"):
            until(lambda role=role: command("health", role).code == 0, f"{role} answers")  # type: ignore[misc]
        done = command("enqueue", *seed(seed_example), "--wait", "--timeout", "120", "--json")
        assert done.code == 0, done.err
        assert done.json()["score"] == 675_127
        missed = command("enqueue", *seed(seed_example), "--pass-mark", "0.9", "--wait", "--timeout", "60")
        assert missed.code == ExitCode.NEGATIVE
        assert "missed" in missed.out

        broken = command("enqueue", "--model", "{}", *seed(seed_example)[2:], "--wait", "--timeout", "60")
        assert broken.code == ExitCode.BAD_INPUT
        assert "uuid" in broken.out

        status = command("status", "--json").json()
        assert {worker["name"].split("@")[0] for worker in status["workers"]} == {"fetch", "evaluate", "submit"}
        assert "served by" in command("status").out

        for role, sees in (("fetch", False), ("evaluate", False), ("submit", True)):
            assert (b"FITCHAIN_PRIVATE_KEY" in _environment(workers.pid, f"{role}@")) is sees
        workers.send_signal(signal.SIGTERM)
        assert workers.wait(timeout=60) == 0
    assert command("health", "fetch").code == ExitCode.NEGATIVE


def _environment(supervisor: int, name: str) -> bytes:
    """The environment of the supervisor's child whose command line holds a name."""
    for line in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        if name in Path(f"/proc/{line}/cmdline").read_text():
            return Path(f"/proc/{line}/environ").read_bytes()
    raise AssertionError(f"no child has {name} in its command line")


@pytest.mark.parametrize("arguments", [["status"], ["result", "x"], ["enqueue", "--model", "{}", "--data", "{}"]])
def test_redis_is_down(command: Command, arguments: list[str]) -> None:
    done = command.with_settings(broker_url=DEAD_REDIS)(*arguments)
    assert done.code == ExitCode.UNREACHABLE
    assert "127.0.0.1:9" in done.err
    assert "FITCHAIN_BROKER_URL" in done.err
    assert "geheim" not in done.err


def test_a_worker_waits_for_redis_and_says_so(command: Command) -> None:
    with running(command.with_settings(broker_url=DEAD_REDIS), "worker", "fetch") as worker:
        until(lambda: "tried again until it answers" in log_of(command), "the warning")
        until(lambda: "Cannot connect to redis" in log_of(command), "the first try")
        assert worker.poll() is None
    assert "geheim" not in log_of(command)


def test_a_submit_worker_without_a_key(command: Command) -> None:
    done = command("worker", "submit")
    assert done.code == ExitCode.CONFIGURATION
    assert "FITCHAIN_KEYSTORE" in done.err


def test_a_dispatcher_that_serves_nobody(command: Command) -> None:
    done = command("dispatcher")
    assert done.code == ExitCode.CONFIGURATION
    assert "FITCHAIN_ACCOUNTS" in done.err
    wrong = command.with_settings(accounts="0x12")("dispatcher", "--once")
    assert wrong.code == ExitCode.CONFIGURATION
    assert "0x12" in wrong.err


def test_one_tick_enqueues_what_is_owed_once(on_chain: Command) -> None:
    first = on_chain("dispatcher", "--once", "--json")
    assert first.code == 0, first.err
    assert [step["action"] for step in first.json()["enqueued"]] == ["evaluate"] * 3
    again = on_chain("dispatcher", "--once")
    assert again.code == 0
    assert "owed=3 enqueued: nothing" in again.out
    status = on_chain("status", "--json").json()
    assert {queue["name"]: queue["waiting"] for queue in status["queues"]}["fetch"] == 3
    assert [one["owes"] for one in status["assignments"]] == ["evaluate"] * 3
    assert status["leaders"] == []  # it handed over when it ended


def test_the_dispatcher_lives_ticks_and_hands_over(on_chain: Command) -> None:
    assert on_chain("health", "dispatcher").code == ExitCode.NEGATIVE
    with running(on_chain.with_settings(tick_seconds="0.5"), "dispatcher") as dispatcher:
        until(lambda: on_chain("health", "dispatcher").code == 0, "a sign of life")
        assert "enqueued: evaluate=3" in log_of(on_chain)
        assert len(on_chain("status", "--json").json()["leaders"]) == 1
        standing_by = on_chain("dispatcher", "--once")
        assert "standing by" in standing_by.out
        dispatcher.send_signal(signal.SIGTERM)
        assert dispatcher.wait(timeout=20) == 0
    assert on_chain("status", "--json").json()["leaders"] == []


def test_a_dispatcher_waits_for_the_chain(on_chain: Command) -> None:
    with running(on_chain.with_settings(rpc_url="http://127.0.0.1:9"), "dispatcher") as dispatcher:
        until(lambda: "cannot start yet" in log_of(on_chain), "the first try")
        dispatcher.send_signal(signal.SIGINT)
        assert dispatcher.wait(timeout=20) == 0


def test_a_dispatcher_does_not_wait_for_contracts_that_are_not_there(on_chain: Command) -> None:
    done = on_chain.with_settings(pool=development_signer(9).address)("dispatcher")
    assert done.code == ExitCode.CONFIGURATION


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, ()),
        ({"flower_auth": "operator"}, ()),
        ({"flower_auth": "operator:a,b"}, ()),
        ({"flower_address": "0.0.0.0"}, ("--no-auth",)),
    ],
)
def test_flower_refuses_to_be_open(command: Command, settings: dict[str, str], options: tuple[str, ...]) -> None:
    done = command.with_settings(**settings)("flower", *options)
    assert done.code == ExitCode.CONFIGURATION
    assert "FITCHAIN_FLOWER_A" in done.err


def test_flower_asks_for_the_password_and_nobody_sees_it(command: Command) -> None:
    port = free_port()
    guarded = command.with_settings(flower_auth="operator:geheim", flower_port=str(port), private_key="0x" + "11" * 32)
    with running(guarded, "flower") as flower:
        until(lambda: guarded("health", "flower").code == 0, "Flower answers")
        assert _status(port, None) == 401
        assert _status(port, "operator:falsch") == 401
        assert _status(port, "operator:geheim") == 200
        assert "geheim" not in Path(f"/proc/{flower.pid}/cmdline").read_text()
        assert b"FITCHAIN_PRIVATE_KEY" not in Path(f"/proc/{flower.pid}/environ").read_bytes()
    assert "geheim" not in log_of(command)


def _status(port: int, credentials: str | None) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/workers")
    if credentials is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(credentials.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def checks(command: Command, *options: str) -> tuple[int, dict[str, list[str]]]:
    """The exit code of doctor, and the statuses by the name of the check."""
    done = command("doctor", "--json", *options)
    found: dict[str, list[str]] = {}
    for check in done.json()["checks"]:
        found.setdefault(check["name"], []).append(check["status"])
    return done.code, found


def test_doctor_finds_all_well(on_chain: Command) -> None:
    code, found = checks(on_chain.with_settings(sandbox_minimum="none", store_max_bytes="1GiB"))
    assert code == 0
    for name in ("versions", "broker", "cache", "ipfs", "store", "chain", "contracts", "keys", "accounts", "gpu"):
        assert found[name] == ["ok"], name
    assert "✓" in on_chain.with_settings(sandbox_minimum="none")("doctor", "--role", "fetch").out


def test_doctor_finds_what_is_wrong_and_says_what_to_do(command: Command, broker_url: str) -> None:
    ill = command.with_settings(cache_url=broker_url, rpc_url="http://127.0.0.1:9", store_dir="/proc/nowhere")
    with redis.Redis.from_url(broker_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            done = ill("doctor")
            code, found = checks(ill)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert code == done.code == ExitCode.NEGATIVE
    for name in ("broker policy", "cache process", "chain", "store"):
        assert found[name] == ["failed"], name
    assert "noeviction" in done.out
    assert done.out.count("✗") == 4


def test_doctor_looks_at_what_a_role_needs(on_chain: Command, market: Market) -> None:
    code, found = checks(on_chain, "--role", "submit")
    assert (code, found["keys"]) == (ExitCode.NEGATIVE, ["failed"])
    assert "cache" not in found
    stranger = on_chain.with_settings(private_key="0x" + "11" * 32)
    code, found = checks(stranger, "--role", "submit")
    assert code == ExitCode.NEGATIVE
    account = next(name for name in found if name.startswith("account"))
    assert found[account] == ["failed", "warning"]  # neither gas nor stake
    market.evm.rpc("anvil_setBalance", "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A", hex(ETHER))
    assert checks(stranger, "--role", "submit")[0] == 0
    assert checks(on_chain, "--role", "flower")[1]["flower"] == ["failed"]


def test_json_stays_json_when_it_is_watched(command: Command) -> None:
    with (command.folder / "watched").open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", "status", "--json", "--watch", "0.5"],
            env=command.environment(),
            stdout=file,
        )
    try:
        until(lambda: (command.folder / "watched").read_text().count('"queues"') >= 2, "the second document")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == ExitCode.INTERRUPTED
    first, _ = json.JSONDecoder().raw_decode((command.folder / "watched").read_text())
    assert "workers" in first
