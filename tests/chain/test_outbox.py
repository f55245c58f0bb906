"""One outbox on a real chain: what it refuses to send, how it waits, and what it does when things go wrong.

Faults that a real node cannot be made to produce are put between the outbox and the node: a lost answer, a
count that lags, a clock that moves.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from hexbytes import HexBytes

from chain.connection import web3_for
from chain.errors import (
    CallReverted,
    EndpointUnavailable,
    FeeCapReached,
    InsufficientFunds,
    NotMined,
    OutboxBusy,
    StepExpired,
    StepNotOwed,
    StepRejected,
)
from chain.node import Answer, Node
from chain.outbox import MemoryOutboxStore, Outbox, OutboxPolicy, Receipt
from chain.outbox_entries import OutboxEntry, State
from tests.chain.outbox_process import FRIEND, gift
from tests.evm import ETHER, TERMS, Evm, Market, anvil, development_signer, valid

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


@pytest.fixture(scope="module")
def chain() -> Iterator[Evm]:
    with anvil() as url:
        yield Evm(url, steady_clock=False)


@pytest.fixture
def fresh(chain: Evm) -> Iterator[Evm]:
    """The chain, mining each transaction at once; taken back after the test."""
    with chain.undone():
        yield chain
        chain.rpc("evm_setAutomine", True)
        chain.rpc("evm_mine")


@pytest.fixture
def still(fresh: Evm) -> Evm:
    """The chain, mining only when told to."""
    fresh.rpc("evm_setAutomine", False)
    return fresh


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that wait for receipts."""
    with ThreadPoolExecutor(8) as executor:
        yield executor
        OVER.set()
    OVER.clear()


def _sleep(seconds: float) -> None:
    """Let waiting threads end with their test, should it fail."""
    if OVER.wait(seconds):
        raise RuntimeError("the test is over")


def outbox(evm: Evm, *, store: MemoryOutboxStore | None = None, **options: Any) -> Outbox:
    options = {"policy": FAST, "sleep": _sleep, **options}
    return Outbox(web3_for(evm.url), development_signer(SENDER), store or MemoryOutboxStore(), **options)


def nonce(evm: Evm) -> int:
    return evm.w3.eth.get_transaction_count(development_signer(SENDER).address)  # type: ignore[arg-type]


def eventually(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < give_up, "did not happen in time"
        time.sleep(0.01)


def sent(box: Outbox, count: int = 1) -> list[OutboxEntry]:
    """Wait until so many entries are accepted."""
    eventually(lambda: [entry.state for entry in box.live()] == [State.SENT] * count)
    return box.live()


def test_a_step_is_sent_once_and_its_receipt_comes_back(fresh: Evm) -> None:
    box = outbox(fresh)
    before, start = fresh.balance(FRIEND), nonce(fresh)
    receipt = box.send("step", gift(7))
    assert fresh.balance(FRIEND) == before + 7
    mined = fresh.w3.eth.get_transaction_receipt(HexBytes(receipt.transaction))
    assert (receipt.block, receipt.nonce, receipt.gas_used) == (mined["blockNumber"], start, 21_000)
    assert receipt.fee_wei == 21_000 * mined["effectiveGasPrice"]
    assert mined["type"] == 2
    assert box.send("step", gift(7)) == receipt
    assert nonce(fresh) == start + 1
    assert box.live() == []


def test_what_would_revert_is_not_sent_and_says_why(market: Market) -> None:
    box = outbox(market.evm)
    before = nonce(market.evm)
    with pytest.raises(StepRejected, match="settle challenge 99 would be refused: unknown challenge") as caught:
        box.send("step", market.pool.settle_call(99))
    assert caught.value.reason == "unknown challenge"
    assert nonce(market.evm) == before
    assert box.live() == []


def test_what_is_not_owed_is_not_sent_and_asked_under_the_lock(fresh: Evm) -> None:
    store = MemoryOutboxStore()
    box = outbox(fresh, store=store)
    asked = []

    def still_owed() -> bool:
        with pytest.raises(OutboxBusy), store.lock(box.account, wait_seconds=0.01):
            pass
        asked.append(True)
        return False

    before = nonce(fresh)
    with pytest.raises(StepNotOwed, match="gift of 1 wei"):
        box.send("step", gift(), still_owed=still_owed)
    assert (asked, nonce(fresh)) == ([True], before)


@pytest.mark.parametrize("whose", ["our clock", "the chain's clock"])
def test_after_the_deadline_nothing_is_sent(fresh: Evm, clock: Clock, whose: str) -> None:
    box = outbox(fresh, clock=clock)
    deadline = time.time() + 50
    if whose == "our clock":
        clock.ahead = 60
    else:
        fresh.move_to(int(deadline) + 10)
    before = nonce(fresh)
    with pytest.raises(StepExpired, match="too late"):
        box.send("step", gift(), deadline=deadline, still_owed=lambda: pytest.fail("asked for nothing"))
    assert nonce(fresh) == before


def test_deadline_that_passes_while_waiting_for_the_lock_counts(fresh: Evm, clock: Clock) -> None:
    store = MemoryOutboxStore()
    box = outbox(fresh, store=store, clock=clock)
    before = nonce(fresh)
    with ThreadPoolExecutor(1) as executor:
        with store.lock(box.account, wait_seconds=1):
            future = executor.submit(box.send, "step", gift(), deadline=time.time() + 50)
            time.sleep(0.5)
            clock.ahead = 60
        with pytest.raises(StepExpired):
            future.result(20)
    assert nonce(fresh) == before


def test_several_steps_are_in_flight_together(still: Evm, pool: ThreadPoolExecutor) -> None:
    store = MemoryOutboxStore()
    boxes = [outbox(still, store=store) for _ in range(5)]
    futures = [pool.submit(box.send, f"step-{number}", gift()) for number, box in enumerate(boxes)]
    entries = sent(boxes[0], 5)
    assert [entry.nonce for entry in entries] == list(range(nonce(still), nonce(still) + 5))
    still.rpc("evm_mine")
    assert {future.result(20).block for future in futures} == {still.w3.eth.block_number}


def test_key_in_flight_is_waited_for(still: Evm, pool: ThreadPoolExecutor) -> None:
    store = MemoryOutboxStore()
    first, second = outbox(still, store=store), outbox(still, store=store)
    futures = [pool.submit(box.send, "step", gift()) for box in (first, second)]
    sent(first)
    time.sleep(0.2)
    assert len(first.live()) == 1
    still.rpc("evm_mine")
    assert futures[0].result(20) == futures[1].result(20)


def test_revert_in_a_block_is_explained_and_the_key_free_again(market: Market, pool: ThreadPoolExecutor) -> None:
    evm = market.evm
    market.stake(3)
    challenge = market.challenge(TERMS)
    market.evm.move_to(market.pool.challenge(challenge).reveal_deadline + 1)
    box = outbox(evm)
    evm.rpc("evm_setAutomine", False)
    try:
        evm.rpc(
            "eth_sendTransaction",
            {
                "from": market.outsider,
                "to": market.pool.address,
                "data": "0x" + market.pool.settle_call(challenge).data.hex(),
                "gas": hex(2_000_000),
                "maxFeePerGas": hex(100 * GWEI),
                "maxPriorityFeePerGas": hex(50 * GWEI),  # mined first
            },
        )
        future = pool.submit(box.send, "step", market.pool.settle_call(challenge))
        sent(box)
        evm.rpc("evm_mine")
        with pytest.raises(CallReverted, match="was refused in block") as caught:
            future.result(20)
    finally:
        evm.rpc("evm_setAutomine", True)
    assert caught.value.reason == "challenge already settled"
    assert caught.value.transaction is not None
    assert box.live() == []
    with pytest.raises(StepRejected, match="challenge already settled"):
        box.send("step", market.pool.settle_call(challenge))


def test_stuck_transaction_is_replaced_up_to_the_cap(still: Evm, pool: ThreadPoolExecutor, clock: Clock) -> None:
    cap = 6 * GWEI
    box = outbox(still, clock=clock, policy=OutboxPolicy(max_fee_wei=cap, poll_seconds=0.05, receipt_seconds=10**6))
    future = pool.submit(box.send, "step", gift())
    (entry,) = sent(box)
    rounds = 0
    while rounds < 20:
        clock.ahead += 46
        box.tend()
        (now,) = box.live()
        if len(now.attempts) == len(entry.attempts):
            break
        entry, rounds = now, rounds + 1
    offers = [attempt.fees.max_fee_wei for attempt in entry.attempts]
    assert rounds >= 2
    assert all(later * 1000 >= earlier * 1125 for earlier, later in pairwise(offers))
    assert offers[-1] <= cap < offers[-1] * 1.125
    before = still.balance(FRIEND)
    still.rpc("evm_mine")
    assert future.result(20).transaction == entry.newest.transaction
    assert still.balance(FRIEND) == before + 1


def test_waiting_replaces_by_itself(still: Evm, pool: ThreadPoolExecutor) -> None:
    box = outbox(still, policy=OutboxPolicy(replace_seconds=0.4, poll_seconds=0.05, receipt_seconds=30))
    future = pool.submit(box.send, "step", gift())
    eventually(lambda: bool(box.live()) and len(box.live()[0].attempts) >= 3)
    still.rpc("evm_mine")
    assert future.result(20).nonce == nonce(still) - 1


def test_gas_above_the_cap_is_not_paid(fresh: Evm) -> None:
    fresh.rpc("anvil_setNextBlockBaseFeePerGas", hex(300 * GWEI))
    fresh.rpc("evm_mine")
    before = nonce(fresh)
    try:
        with pytest.raises(FeeCapReached, match="FITCHAIN_MAX_FEE_GWEI allows 200"):
            outbox(fresh).send("step", gift())
        assert nonce(fresh) == before
    finally:
        fresh.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))  # the snapshot does not hold it


def test_empty_account_is_said(fresh: Evm) -> None:
    fresh.rpc("anvil_setBalance", development_signer(SENDER).address, "0x0")
    with pytest.raises(InsufficientFunds, match="Send it funds"):
        outbox(fresh).send("step", gift())


def test_account_that_can_pay_the_value_but_not_the_gas_is_said_and_its_nonce_stays_free(fresh: Evm) -> None:
    box = outbox(fresh)
    fresh.rpc("anvil_setBalance", box.account.split(":")[2], hex(21_000 * GWEI // 100))
    with pytest.raises(InsufficientFunds, match="Send it funds"):
        box.send("step", gift())
    assert box.live() == []
    fresh.rpc("anvil_setBalance", box.account.split(":")[2], hex(ETHER))
    start = nonce(fresh)
    assert box.send("step", gift()).nonce == start


def test_not_mined_in_time_stays_and_is_waited_for_again(still: Evm) -> None:
    box = outbox(still, policy=OutboxPolicy(receipt_seconds=0.3, poll_seconds=0.05))
    with pytest.raises(NotMined, match="stays in the outbox") as caught:
        box.send("step", gift())
    assert caught.value.transient
    (entry,) = box.live()
    still.rpc("evm_mine")
    assert box.send("step", gift()).transaction == entry.newest.transaction


def test_confirmations_are_waited_for(still: Evm, pool: ThreadPoolExecutor) -> None:
    box = outbox(still, policy=OutboxPolicy(confirmations=3, poll_seconds=0.05))
    future = pool.submit(box.send, "step", gift())
    sent(box)
    still.rpc("evm_mine")
    still.rpc("evm_mine")
    time.sleep(0.5)
    assert not future.done()
    still.rpc("evm_mine")
    assert future.result(20).block == still.w3.eth.block_number - 2


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
    stranger = development_signer(SENDER).sign_transaction(
        {
            "chainId": still.chain_id,
            "nonce": start,
            "gas": 21_000,
            "to": FRIEND,
            "value": 1000,
            "type": 2,
            "maxFeePerGas": 20 * GWEI,
            "maxPriorityFeePerGas": 2 * GWEI,
        }
    )
    still.w3.eth.send_raw_transaction(stranger)
    if pending == "mined":
        still.rpc("evm_mine")
    monkeypatch.setattr(Node, "count", _lagging(Node.count, start))
    box = outbox(still)
    future: Future[Receipt] = pool.submit(box.send, "step", gift())
    sent(box)
    still.rpc("evm_mine")
    assert future.result(20).nonce == start + 1


def _lagging(real: Callable[..., int], count: int) -> Callable[..., int]:
    """A count of pending transactions that has not heard of the last ones."""

    def lagging(node: Node, address: str, block: str) -> int:
        return count if block == "pending" else real(node, address, block)

    return lagging


def test_nonce_lost_to_a_stranger_after_acceptance_is_sent_again(
    still: Evm, pool: ThreadPoolExecutor, clock: Clock
) -> None:
    box = outbox(still, clock=clock)
    future = pool.submit(box.send, "step", gift())
    (entry,) = sent(box)
    stranger = development_signer(SENDER).sign_transaction(
        {
            "chainId": still.chain_id,
            "nonce": entry.nonce,
            "gas": 21_000,
            "to": FRIEND,
            "value": 1000,
            "type": 2,
            "maxFeePerGas": 100 * GWEI,
            "maxPriorityFeePerGas": 50 * GWEI,
        }
    )
    still.w3.eth.send_raw_transaction(stranger)
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


def test_chain_without_base_fee_gets_legacy_transactions(pool: ThreadPoolExecutor) -> None:
    with anvil(options=("--hardfork", "istanbul")) as url:
        evm = Evm(url, steady_clock=False)
        assert "baseFeePerGas" not in evm.w3.eth.get_block("latest")
        clock = Clock()
        box = outbox(evm, clock=clock, policy=OutboxPolicy(receipt_seconds=1000, poll_seconds=0.05))
        receipt = box.send("step", gift())
        assert evm.w3.eth.get_transaction_receipt(HexBytes(receipt.transaction))["type"] == 0
        evm.rpc("evm_setAutomine", False)
        future = pool.submit(box.send, "stuck", gift())
        (entry,) = sent(box)
        clock.ahead += 46
        box.tend()
        (raised,) = box.live()
        assert len(raised.attempts) == 2
        assert raised.newest.fees.tip_wei is None
        assert raised.newest.fees.max_fee_wei * 1000 >= entry.newest.fees.max_fee_wei * 1125
        evm.rpc("evm_mine")
        assert future.result(20).transaction == raised.newest.transaction


def test_restarted_development_chain_is_another_account(fresh: Evm) -> None:
    with anvil(options=("--timestamp", "1700000000")) as url:
        again = Evm(url, steady_clock=False)
        assert again.chain_id == fresh.chain_id
        assert outbox(again).account != outbox(fresh).account


def test_threads_of_one_process_share_a_store(fresh: Evm) -> None:
    store = MemoryOutboxStore()
    before, start = fresh.balance(FRIEND), nonce(fresh)

    def work(name: str) -> None:
        box = outbox(fresh, store=store)
        for number in range(4):
            box.send(f"{name}-{number}", gift())

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (fresh.balance(FRIEND) - before, nonce(fresh) - start) == (16, 16)
