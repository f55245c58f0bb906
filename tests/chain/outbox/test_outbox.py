"""One outbox on a real chain: what it sends, what it refuses to send, what it offers for it and how it waits."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hexbytes import HexBytes

from chain.errors import (
    CallReverted,
    FeeCapReached,
    InsufficientFunds,
    NotMined,
    OutboxBusy,
    StepExpired,
    StepNotOwed,
    StepRejected,
)
from chain.outbox import MemoryOutboxStore, OutboxPolicy
from tests.chain.outbox.sending import GWEI, SENDER, Clock, eventually, nonce, outbox, sent
from tests.chain.outbox.worker import FRIEND, gift
from tests.evm import ETHER, TERMS, Evm, Market, anvil, development_signer


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


def test_a_deadline_that_passed_on_a_chain_without_blocks_counts() -> None:
    with anvil() as url:
        market = Market.open(Evm(url, steady_clock=False))
        market.publish()
        market.stake(3)
        challenge = market.challenge()
        box = outbox(market.evm)
        with pytest.raises(StepRejected, match="not due"):
            box.send("settle", market.pool.settle_call(challenge))
        market.evm.rpc("evm_increaseTime", hex(TERMS.commit_seconds + 1))  # and no block is mined
        head = market.evm.w3.eth.block_number
        receipt = box.send("settle", market.pool.settle_call(challenge))
        assert receipt.block == head + 1
        assert market.pool.challenge(challenge).settled


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
    before = still.balance(FRIEND)
    with store.lock(first.account, wait_seconds=1):  # both have seen that the key is new when they get the lock
        futures = [pool.submit(box.send, "step", gift()) for box in (first, second)]
        time.sleep(0.5)
    sent(first)
    time.sleep(0.2)
    still.rpc("evm_mine")
    assert futures[0].result(20) == futures[1].result(20)
    assert still.balance(FRIEND) == before + 1


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
