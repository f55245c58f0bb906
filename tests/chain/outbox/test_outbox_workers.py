"""Several worker processes on one account, on a real chain and Redis; and processes that are killed."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chain.connection import web3_for
from chain.outbox import Outbox, OutboxPolicy, RedisOutboxStore
from chain.outbox_entries import State
from tests.chain.outbox.worker import FRIEND, gift
from tests.evm import Evm, anvil, development_signer

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def chain() -> Iterator[Evm]:
    with anvil() as url:
        yield Evm(url, steady_clock=False)


@pytest.fixture
def fresh(chain: Evm) -> Iterator[Evm]:
    with chain.undone():
        yield chain


def start(chain: Evm, redis_url: str, keys: list[str], *, die: str | None = None) -> subprocess.Popen[str]:
    order = {"rpc": chain.url, "redis": redis_url, "account": 5, "keys": keys, "die": die}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chain.outbox.worker", json.dumps(order)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def finished(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return [json.loads(line) for line in out.splitlines()]


def killed(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors


def outbox_of(chain: Evm, redis_url: str) -> Outbox:
    store = RedisOutboxStore(redis_url, lock_seconds=2.0)
    return Outbox(web3_for(chain.url), development_signer(5), store, policy=OutboxPolicy(poll_seconds=0.1))


def test_four_workers_send_a_hundred_steps_without_gap_or_double(fresh: Evm, broker_url: str) -> None:
    before = fresh.balance(FRIEND)
    workers = [start(fresh, broker_url, [f"{name}-{number}" for number in range(25)]) for name in "abcd"]
    receipts = [receipt for worker in workers for receipt in finished(worker)]
    assert sorted(receipt["nonce"] for receipt in receipts) == list(range(100))
    assert len({receipt["tx"] for receipt in receipts}) == 100
    assert fresh.balance(FRIEND) == before + 100
    assert outbox_of(fresh, broker_url).live() == []


def test_workers_with_the_same_steps_send_each_once(fresh: Evm, broker_url: str) -> None:
    before = fresh.balance(FRIEND)
    keys = [f"step-{number}" for number in range(8)]
    workers = [start(fresh, broker_url, keys) for _ in range(3)]
    answers = [finished(worker) for worker in workers]
    assert answers[0] == answers[1] == answers[2]
    assert fresh.balance(FRIEND) == before + 8


@pytest.mark.parametrize(
    ("moment", "kept", "mined"),
    [
        ("before-save", None, False),
        ("before-send", State.SIGNED, False),
        ("after-send", State.SIGNED, True),
        ("before-note", State.SIGNED, True),
    ],
)
def test_killed_at_any_moment_a_step_is_sent_once(
    fresh: Evm, broker_url: str, moment: str, kept: State | None, mined: bool
) -> None:
    before = fresh.balance(FRIEND)
    killed(start(fresh, broker_url, ["step"], die=moment))
    outbox = outbox_of(fresh, broker_url)
    entries = outbox.live()
    assert [entry.state for entry in entries] == ([] if kept is None else [kept])
    assert (fresh.balance(FRIEND) == before + 1) is mined

    receipt = outbox.send("step", gift())
    assert fresh.balance(FRIEND) == before + 1
    if kept is not None:
        assert receipt.transaction == entries[0].newest.transaction  # the identical bytes
    assert outbox.send("step", gift()).transaction == receipt.transaction
    assert outbox.send("next", gift()).nonce == receipt.nonce + 1


def test_step_of_a_dead_worker_goes_out_before_anybody_elses(fresh: Evm, broker_url: str) -> None:
    killed(start(fresh, broker_url, ["first"], die="before-send"))
    outbox = outbox_of(fresh, broker_url)
    (orphan,) = outbox.live()
    assert outbox.send("second", gift()).nonce == orphan.nonce + 1
    assert fresh.w3.eth.get_transaction_receipt(orphan.newest.transaction)["status"] == 1  # type: ignore[arg-type]


def test_settled_store_survives_a_new_worker(fresh: Evm, broker_url: str) -> None:
    first = finished(start(fresh, broker_url, ["step"]))
    assert finished(start(fresh, broker_url, ["step"])) == first
