"""Stores of the outbox: both keep the same promises, and the one in Redis keeps them when Redis does not."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from chain.connection import web3_for
from chain.errors import LockLost, OutboxBusy, OutboxStoreError
from chain.fees import Fees
from chain.node import Node
from chain.outbox import Outbox, OutboxPolicy, OutboxStore
from chain.outbox_entries import Attempt, OutboxEntry, State
from chain.outbox_store import MemoryOutboxStore, RedisOutboxStore
from tests.chain.outbox.worker import FRIEND, gift
from tests.evm import Evm, anvil, development_signer

ACCOUNT = "31337:00aa:0xabc"
LOCK = f"fitchain:outbox:{{{ACCOUNT}}}:lock"


def entry(key: str = "step", nonce: int = 0, state: State = State.SIGNED) -> OutboxEntry:
    attempt = Attempt("0x01", "0x02", Fees(5, 1), 100.5)
    return OutboxEntry(key, "a step", nonce, FRIEND, "0x", 1, 21_000, None, state, (attempt,))


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> OutboxStore:
    if request.param == "memory":
        return MemoryOutboxStore()
    return RedisOutboxStore(request.getfixturevalue("broker_url"))


@pytest.fixture
def client(broker_url: str) -> "Iterator[redis.Redis]":
    with redis.Redis.from_url(broker_url, decode_responses=True) as connected:
        yield connected


def keep(store: OutboxStore, *entries: OutboxEntry) -> None:
    with store.lock(ACCOUNT, wait_seconds=5) as lease:
        for one in entries:
            store.save(ACCOUNT, lease, one)


def test_entries_are_found_by_key_and_listed_by_nonce(store: OutboxStore) -> None:
    keep(
        store,
        entry("b", 2, State.SENT),
        entry("a", 1),
        entry("d", 0, State.MINED),
        entry("r", 3, State.REVERTED),
    )
    assert store.find(ACCOUNT, "a") == entry("a", 1)
    assert store.find(ACCOUNT, "d") == entry("d", 0, State.MINED)
    assert store.find(ACCOUNT, "x") is None
    assert store.find("another", "a") is None
    assert [one.key for one in store.live(ACCOUNT)] == ["a", "b"]
    assert [one.key for one in store.done_from(ACCOUNT, 0)] == ["d", "r"]
    assert [one.key for one in store.done_from(ACCOUNT, 1)] == ["r"]


def test_an_entry_is_in_one_place_only(store: OutboxStore) -> None:
    keep(store, entry(), entry(state=State.MINED))
    assert (store.live(ACCOUNT), len(store.done_from(ACCOUNT, 0))) == ([], 1)
    keep(store, entry(state=State.SENT))
    assert (len(store.live(ACCOUNT)), store.done_from(ACCOUNT, 0)) == (1, [])
    with store.lock(ACCOUNT, wait_seconds=5) as lease:
        store.discard(ACCOUNT, lease, "step")
        store.discard(ACCOUNT, lease, "step")
    assert store.find(ACCOUNT, "step") is None


def test_settling_compares_first(store: OutboxStore) -> None:
    before = entry(state=State.SENT)
    keep(store, before)
    assert not store.settle(ACCOUNT, entry(state=State.SIGNED), entry(state=State.MINED))
    assert store.find(ACCOUNT, "step") == before
    assert store.settle(ACCOUNT, before, entry(state=State.MINED))
    assert not store.settle(ACCOUNT, before, entry(state=State.REVERTED))
    assert store.find(ACCOUNT, "step") == entry(state=State.MINED)


def test_one_writer_at_a_time(store: OutboxStore) -> None:
    inside, most = [], []

    def write(number: int) -> None:
        with store.lock(ACCOUNT, wait_seconds=20):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.005)
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(24)))
    assert (len(most), max(most)) == (24, 1)


def test_whoever_waits_too_long_is_told(store: OutboxStore) -> None:
    with store.lock(ACCOUNT, wait_seconds=1), store.lock("another", wait_seconds=1):
        with pytest.raises(OutboxBusy) as caught, store.lock(ACCOUNT, wait_seconds=0.1):
            pass
        assert caught.value.transient
    with store.lock(ACCOUNT, wait_seconds=0.1) as lease:
        assert lease.held


def test_lease_is_worth_nothing_after_release(store: OutboxStore) -> None:
    with store.lock(ACCOUNT, wait_seconds=1) as lease:
        pass
    with pytest.raises(LockLost):
        store.save(ACCOUNT, lease, entry())
    assert store.find(ACCOUNT, "step") is None


def test_lock_lasts_as_long_as_the_work(broker_url: str) -> None:
    store = RedisOutboxStore(broker_url, lock_seconds=0.3)
    with store.lock(ACCOUNT, wait_seconds=1) as lease:
        time.sleep(1)
        store.save(ACCOUNT, lease, entry())
    assert store.find(ACCOUNT, "step") == entry()


def test_lock_of_a_dead_writer_expires(client: "redis.Redis", broker_url: str) -> None:
    client.set(LOCK, "somebody who died", px=300)
    with RedisOutboxStore(broker_url).lock(ACCOUNT, wait_seconds=5) as lease:
        assert lease.held


def test_writer_whose_lock_was_taken_writes_nothing(client: "redis.Redis", broker_url: str) -> None:
    store = RedisOutboxStore(broker_url, lock_seconds=0.3)
    with store.lock(ACCOUNT, wait_seconds=1) as lease:
        client.set(LOCK, "another")
        for write in (
            lambda: store.save(ACCOUNT, lease, entry()),
            lambda: store.discard(ACCOUNT, lease, "step"),
        ):
            with pytest.raises(LockLost):
                write()
        time.sleep(0.3)
        assert not lease.held
    assert client.get(LOCK) == "another"  # neither extended nor released
    assert client.ttl(LOCK) == -1
    assert store.find(ACCOUNT, "step") is None


def test_history_is_bounded(client: "redis.Redis", broker_url: str) -> None:
    store = RedisOutboxStore(broker_url)
    keep(store, *(entry(f"step-{number}", number, State.MINED) for number in range(1_005)))
    assert store.find(ACCOUNT, "step-4") is None
    assert store.find(ACCOUNT, "step-5") is not None
    assert len(store.done_from(ACCOUNT, 0)) == client.hlen(LOCK.replace("lock", "done")) == 1_000


def test_redis_that_is_down_is_named_without_its_password() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    store = RedisOutboxStore(f"redis://:secretword@127.0.0.1:{port}/0")
    with pytest.raises(OutboxStoreError, match=f"redis://127.0.0.1:{port}/0") as caught:
        store.find(ACCOUNT, "step")
    assert "secretword" not in str(caught.value)
    assert caught.value.transient
    with pytest.raises(OutboxStoreError), store.lock(ACCOUNT, wait_seconds=1):
        pass


@given(
    st.integers(0, 2**256 - 1),
    st.one_of(st.none(), st.floats(0, 1e12)),
    st.sampled_from(State),
    st.lists(
        st.tuples(st.integers(0, 2**256), st.one_of(st.none(), st.integers(0)), st.floats(0, 1e12)),
        min_size=1,
    ),
    st.text(),
)
def test_entries_survive_their_json(
    value: int,
    deadline: float | None,
    state: State,
    offers: list[tuple[int, int | None, float]],
    words: str,
) -> None:
    attempts = tuple(Attempt(f"0x{n}", "0x", Fees(most, tip), at) for n, (most, tip, at) in enumerate(offers))
    one = OutboxEntry(words, words, value, FRIEND, "0x00", value, value, deadline, state, attempts, None)
    again = OutboxEntry.from_json(one.to_json())
    assert again == one
    assert again.to_json() == one.to_json()


@pytest.fixture(scope="module")
def chain() -> Iterator[Evm]:
    with anvil() as url:
        yield Evm(url, steady_clock=False)


def outbox(chain: Evm, url: str, sender: int) -> Outbox:
    policy = OutboxPolicy(poll_seconds=0.05, receipt_seconds=30)
    return Outbox(web3_for(chain.url), development_signer(sender), RedisOutboxStore(url), policy=policy)


def test_flushed_redis_loses_no_step_and_no_nonce(chain: Evm, broker_url: str, client: "redis.Redis") -> None:
    before = chain.balance(FRIEND)
    boxes = [outbox(chain, broker_url, 7) for _ in range(3)]
    chain.rpc("evm_setAutomine", False)
    try:
        with ThreadPoolExecutor(3) as pool:
            first = pool.submit(boxes[0].send, "first", gift())
            _until(lambda: [one.state for one in boxes[0].live()] == [State.SENT])
            client.flushall()
            second = pool.submit(boxes[1].send, "second", gift())
            _until(lambda: [one.state for one in boxes[2].live()] == [State.SENT] * 2)
            client.flushall()
            chain.rpc("evm_mine")
            receipts = [first.result(20), second.result(20)]
    finally:
        chain.rpc("evm_setAutomine", True)
    assert [receipt.nonce for receipt in receipts] == [0, 1]
    assert boxes[2].send("third", gift()).nonce == 2
    assert chain.balance(FRIEND) == before + 3


def test_flush_before_saving_sends_nothing(chain: Evm, broker_url: str, client: "redis.Redis") -> None:
    box = outbox(chain, broker_url, 8)

    def forget() -> bool:
        client.flushall()
        return True

    with pytest.raises(LockLost) as caught:
        box.send("step", gift(), still_owed=forget)
    assert caught.value.transient
    assert chain.w3.eth.get_transaction_count(development_signer(8).address) == 0  # type: ignore[arg-type]
    assert box.send("step", gift()).nonce == 0


def test_redis_that_goes_away_after_acceptance_does_not_hide_the_receipt(
    chain: Evm, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = outbox(chain, broker_url, 9)
    away = threading.Event()
    real = redis.Redis.execute_command

    def failing(self: object, *args: object, **options: object) -> object:
        if away.is_set():
            raise redis.ConnectionError("gone")
        return real(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(redis.Redis, "execute_command", failing)
    broadcast = Node.broadcast

    def then_gone(node: Node, raw: bytes) -> object:
        answer = broadcast(node, raw)
        away.set()
        return answer

    monkeypatch.setattr(Node, "broadcast", then_gone)
    receipt = box.send("step", gift())
    away.clear()
    assert box.send("step", gift()).transaction == receipt.transaction
    assert chain.w3.eth.get_transaction_count(development_signer(9).address) == 1  # type: ignore[arg-type]


def _until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < give_up, "did not happen in time"
        time.sleep(0.01)
