"""One outbox when things go wrong: lost answers, dropped transactions, reorganisations, strangers on the account.

Faults that a real node cannot be made to produce are put between the outbox and the node: a lost answer, a
count that lags, a clock that moves.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hexbytes import HexBytes

from chain.errors import (
    EndpointUnavailable,
    StepExpired,
)
from chain.node import Answer, Node
from chain.outbox import MemoryOutboxStore, OutboxPolicy, Receipt
from chain.outbox_entries import State
from tests.chain.outbox.sending import GWEI, Clock, eventually, nonce, outbox, sent, strange
from tests.chain.outbox.worker import FRIEND, gift
from tests.evm import TERMS, Evm, Market, valid


def test_dropped_by_the_node_the_same_bytes_go_in_again(still: Evm, pool: ThreadPoolExecutor, clock: Clock) -> None:
    store = MemoryOutboxStore()
    box = outbox(still, store=store, clock=clock)
    futures = [pool.submit(outbox(still, store=store, clock=clock).send, f"s{n}", gift()) for n in range(2)]
    entries = sent(box, 2)
    for entry in entries:
        still.rpc("anvil_dropTransaction", entry.newest.transaction)
    still.rpc("evm_mine")
    assert nonce(still) == entries[0].nonce
    clock.ahead += 6
    box.tend()
    still.rpc("evm_mine")
    assert {future.result(20).transaction for future in futures} == {entry.newest.transaction for entry in entries}


def test_block_that_lost_its_place_is_noticed(fresh: Evm) -> None:
    box = outbox(fresh)
    receipts = [box.send(f"step-{number}", gift()) for number in range(3)]
    before = fresh.balance(FRIEND)
    fresh.rpc("anvil_reorg", 3, [])
    assert fresh.balance(FRIEND) == before - 3
    assert [box.send(f"step-{n}", gift()).transaction for n in (2, 0, 1)] == [
        receipts[n].transaction for n in (2, 0, 1)
    ]
    assert fresh.balance(FRIEND) == before
    assert box.send("next", gift()).nonce == receipts[2].nonce + 1


def test_nonce_lost_in_a_reorganisation_is_sent_again(fresh: Evm, clock: Clock) -> None:
    box = outbox(fresh, clock=clock)
    receipt = box.send("step", gift(5))
    fresh.rpc("anvil_reorg", 1, [])
    fresh.w3.eth.send_raw_transaction(strange(fresh, receipt.nonce))
    assert nonce(fresh) == receipt.nonce + 1
    before = fresh.balance(FRIEND)
    clock.ahead += 6
    again = box.send("step", gift(5))
    assert (again.nonce, fresh.balance(FRIEND)) == (receipt.nonce + 1, before + 5)


def test_reorganisation_while_waiting_for_confirmations(still: Evm, pool: ThreadPoolExecutor, clock: Clock) -> None:
    box = outbox(still, clock=clock, policy=OutboxPolicy(confirmations=3, poll_seconds=0.05, receipt_seconds=100))
    future = pool.submit(box.send, "step", gift())
    sent(box)
    still.rpc("evm_mine")
    time.sleep(0.2)
    still.rpc("anvil_reorg", 1, [])
    clock.ahead += 6
    box.tend()
    for _ in range(3):
        still.rpc("evm_mine")
    receipt = future.result(20)
    assert still.w3.eth.get_transaction_receipt(HexBytes(receipt.transaction))["blockNumber"] == receipt.block


def test_lost_answer_is_looked_up_not_sent_anew(fresh: Evm, monkeypatch: pytest.MonkeyPatch) -> None:
    box = outbox(fresh)
    real = Node.broadcast

    def mute(node: Node, raw: bytes) -> tuple[Answer, str]:
        real(node, raw)
        return Answer.UNANSWERED, "timed out"

    before = fresh.balance(FRIEND)
    monkeypatch.setattr(Node, "broadcast", mute)
    with pytest.raises(EndpointUnavailable, match="not known yet") as caught:
        box.send("step", gift())
    assert caught.value.transient
    (entry,) = box.live()
    monkeypatch.setattr(Node, "broadcast", lambda *_: pytest.fail("sent again"))
    assert box.send("step", gift()).transaction == entry.newest.transaction
    assert fresh.balance(FRIEND) == before + 1


def test_nonce_too_low_about_ourselves_is_success(fresh: Evm, monkeypatch: pytest.MonkeyPatch) -> None:
    box, real, said = outbox(fresh), Node.broadcast, []

    def twice(node: Node, raw: bytes) -> tuple[Answer, str]:
        """As a connection that breaks after the request makes the HTTP library do it."""
        real(node, raw)
        eventually(lambda: fresh.balance(FRIEND) == before + 1)
        said.append(real(node, raw))
        return said[-1]

    before = fresh.balance(FRIEND)
    monkeypatch.setattr(Node, "broadcast", twice)
    box.send("step", gift())
    assert [answer for answer, _ in said] == [Answer.NONCE_TOO_LOW]
    assert fresh.balance(FRIEND) == before + 1


def test_arrived_without_an_answer_is_kept_beyond_its_deadline(
    still: Evm, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    box = outbox(still, clock=clock)
    real = Node.broadcast
    with monkeypatch.context() as mute:
        mute.setattr(Node, "broadcast", lambda node, raw: (real(node, raw), (Answer.UNANSWERED, "?"))[1])
        with pytest.raises(EndpointUnavailable):
            box.send("step", gift(), deadline=time.time() + 20)
    (entry,) = box.live()
    clock.ahead = 25
    box.tend()
    assert [(one.key, one.state) for one in box.live()] == [("step", State.SENT)]
    still.rpc("evm_mine")
    assert box.send("step", gift(), deadline=1).transaction == entry.newest.transaction


def test_nonce_of_a_dropped_transaction_is_not_given_away(still: Evm, pool: ThreadPoolExecutor) -> None:
    store = MemoryOutboxStore()
    first, second = outbox(still, store=store), outbox(still, store=store)
    futures = [pool.submit(first.send, "first", gift())]
    (entry,) = sent(first)
    still.rpc("anvil_dropTransaction", entry.newest.transaction)
    futures.append(pool.submit(second.send, "second", gift()))
    assert [one.nonce for one in sent(first, 2)] == [entry.nonce, entry.nonce + 1]
    still.w3.eth.send_raw_transaction(HexBytes(entry.newest.raw))
    still.rpc("evm_mine")
    assert [future.result(20).nonce for future in futures] == [entry.nonce, entry.nonce + 1]


@pytest.mark.parametrize("retried", [True, False])
def test_never_arrived_and_too_late_frees_its_nonce(
    fresh: Evm, monkeypatch: pytest.MonkeyPatch, clock: Clock, retried: bool
) -> None:
    box = outbox(fresh, clock=clock)
    deadline = time.time() + 50
    with monkeypatch.context() as deaf:
        deaf.setattr(Node, "broadcast", lambda *_: (Answer.UNANSWERED, "timed out"))
        with pytest.raises(EndpointUnavailable):
            box.send("late", gift(), deadline=deadline)
    (entry,) = box.live()
    clock.ahead = 60
    if retried:
        with pytest.raises(StepExpired):
            box.send("late", gift(), deadline=deadline)
        assert box.live() == []
    assert box.send("next", gift()).nonce == entry.nonce


def test_never_arrived_and_no_longer_wanted_is_not_sent(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    market.stake(3)
    challenge = market.challenge(TERMS)
    market.play(challenge, [valid(1), valid(1), valid(1)])
    other = market.challenge(TERMS)
    market.evm.move_to(market.pool.challenge(other).reveal_deadline + 1)
    box = outbox(market.evm)
    with monkeypatch.context() as deaf:
        deaf.setattr(Node, "broadcast", lambda *_: (Answer.UNANSWERED, "timed out"))
        with pytest.raises(EndpointUnavailable):
            box.send("settle", market.pool.settle_call(other))
    market.settle(other)
    before = nonce(market.evm)
    box.tend()
    assert (box.live(), nonce(market.evm)) == ([], before)


@pytest.mark.parametrize("pending", ["taken", "mined"])
def test_nonce_that_a_stranger_used_is_left_alone(
    still: Evm, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, pending: str
) -> None:
    start = nonce(still)
    still.w3.eth.send_raw_transaction(strange(still, start, GWEI * 20))
    if pending == "mined":
        still.rpc("evm_mine")
    monkeypatch.setattr(Node, "count", _lagging(Node.count, start))
    box = outbox(still)
    future: Future[Receipt] = pool.submit(box.send, "step", gift())
    sent(box)
    still.rpc("evm_mine")
    assert future.result(20).nonce == start + 1


def test_nonce_lost_to_a_stranger_after_acceptance_is_sent_again(
    still: Evm, pool: ThreadPoolExecutor, clock: Clock
) -> None:
    box = outbox(still, clock=clock)
    future = pool.submit(box.send, "step", gift())
    (entry,) = sent(box)
    still.w3.eth.send_raw_transaction(strange(still, entry.nonce))
    still.rpc("evm_mine")
    clock.ahead += 6
    eventually(lambda: [(one.nonce, one.state) for one in box.live()] == [(entry.nonce + 1, State.SENT)])
    still.rpc("evm_mine")
    assert future.result(20).nonce == entry.nonce + 1


def test_refused_by_the_node_leaves_nothing_behind(fresh: Evm, monkeypatch: pytest.MonkeyPatch) -> None:
    box = outbox(fresh)
    with monkeypatch.context() as full:
        full.setattr(Node, "broadcast", lambda *_: (Answer.REFUSED, "txpool is full"))
        with pytest.raises(EndpointUnavailable, match="txpool is full"):
            box.send("step", gift())
    assert box.live() == []
    start = nonce(fresh)
    assert box.send("step", gift()).nonce == start


def _lagging(real: Callable[..., int], count: int) -> Callable[..., int]:
    """A count of pending transactions that has not heard of the last ones."""

    def lagging(node: Node, address: str, block: str) -> int:
        return count if block == "pending" else real(node, address, block)

    return lagging
