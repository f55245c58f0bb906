"""What tests of the outbox have in common: an outbox for an account of the development chain, and ways to watch it."""

import threading
import time
from collections.abc import Callable
from typing import Any

from chain.connection import web3_for
from chain.outbox import MemoryOutboxStore, Outbox, OutboxPolicy
from chain.outbox_entries import OutboxEntry, State
from tests.chain.outbox.worker import FRIEND
from tests.evm import Evm, development_signer

SENDER = 6
GWEI = 10**9
OVER = threading.Event()
FAST = OutboxPolicy(poll_seconds=0.05, receipt_seconds=20, replace_seconds=30)


class Clock:
    """Unix time that also moves when told to."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def nonce(evm: Evm) -> int:
    return evm.w3.eth.get_transaction_count(development_signer(SENDER).address)  # type: ignore[arg-type]


def outbox(evm: Evm, *, store: MemoryOutboxStore | None = None, **options: Any) -> Outbox:
    options = {"policy": FAST, "sleep": _sleep, **options}
    return Outbox(web3_for(evm.url), development_signer(SENDER), store or MemoryOutboxStore(), **options)


def eventually(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < give_up, "did not happen in time"
        time.sleep(0.01)


def sent(box: Outbox, count: int = 1) -> list[OutboxEntry]:
    """Wait until so many entries are accepted."""
    eventually(lambda: [entry.state for entry in box.live()] == [State.SENT] * count)
    return box.live()


def strange(evm: Evm, nonce: int, max_fee_wei: int = 100 * GWEI) -> bytes:
    """A transaction of the same account that no outbox knows of."""
    return development_signer(SENDER).sign_transaction(
        {
            "chainId": evm.chain_id,
            "nonce": nonce,
            "gas": 21_000,
            "to": FRIEND,
            "value": 1000,
            "type": 2,
            "maxFeePerGas": max_fee_wei,
            "maxPriorityFeePerGas": max_fee_wei // 10,
        }
    )


def _sleep(seconds: float) -> None:
    """Let waiting threads end with their test, should it fail."""
    if OVER.wait(seconds):
        raise RuntimeError("the test is over")
