"""Where outboxes keep their entries: Redis for any number of workers, or the memory of one process.

A store has one lock for each account (an account is named `{chain}:{genesis}:{address}`). Whoever writes
proves with its lease that it still holds the lock, in the same atomic operation: a worker that slept too
long writes nothing. `settle` alone needs no lock; it compares and sets.

Layout in Redis, all under `fitchain:outbox:{account}:` (the braces are part of the key: one slot in a
cluster)

lock    string   token of the writer, expires live    hash     step key → entry (JSON) that is not in a
block yet done    hash     step key → entry that is nonces  zset     step key of `done` by nonce; the newest
1,000 are kept
"""

import logging
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, cast

import redis
from redis.exceptions import RedisError

from chain.connection import redact
from chain.errors import LockLost, OutboxBusy, OutboxStoreError
from chain.outbox_entries import OutboxEntry

logger = logging.getLogger(__name__)

LOCK_SECONDS = 10.0
"""A worker that dies in the middle of sending blocks its account for at most this long."""

_HISTORY = 1_000
_SOCKET_SECONDS = 10.0
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.003, 0.05

_FINISH = """
local function finish(live, done, nonces, key, json, nonce, history)
  redis.call('HDEL', live, key)
  redis.call('HSET', done, key, json)
  redis.call('ZADD', nonces, nonce, key)
  local old = redis.call('ZRANGE', nonces, 0, -1 - history)
  for _, name in ipairs(old) do redis.call('HDEL', done, name) end
  redis.call('ZREMRANGEBYRANK', nonces, 0, -1 - history)
end
"""
_SAVE = (
    _FINISH
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[5] == 'live' then
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
  redis.call('HDEL', KEYS[3], ARGV[2])
  redis.call('ZREM', KEYS[4], ARGV[2])
else
  finish(KEYS[2], KEYS[3], KEYS[4], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[6]))
end
return 1
"""
)
_DISCARD = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[2], ARGV[2])
return 1
"""
_SETTLE = (
    _FINISH
    + """
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 0 end
finish(KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[3], ARGV[4], tonumber(ARGV[5]))
return 1
"""
)
_RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"
_EXTEND = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0"


class Lease:
    """Proof of holding an account's lock, as far as this process knows."""

    def __init__(self, token: str) -> None:
        self.token = token
        self._lost = threading.Event()

    @property
    def held(self) -> bool:
        """False once the lock is known to be lost. True is no proof: only the store's fence is."""
        return not self._lost.is_set()

    def lose(self) -> None:
        """Note that the lock is lost."""
        self._lost.set()


class OutboxStore(Protocol):
    """What an outbox needs of a store. Methods raise OutboxStoreError if it cannot be reached."""

    def lock(self, account: str, *, wait_seconds: float) -> AbstractContextManager[Lease]:
        """Be the account's only writer. Raises OutboxBusy if another is for all of `wait_seconds`."""

    def find(self, account: str, key: str) -> OutboxEntry | None:
        """The entry of a step, live or done."""

    def live(self, account: str) -> list[OutboxEntry]:
        """Entries that are not in a block yet, by nonce."""

    def done_from(self, account: str, nonce: int) -> list[OutboxEntry]:
        """Entries in blocks, with this nonce or a later one, by nonce."""

    def save(self, account: str, lease: Lease, entry: OutboxEntry) -> None:
        """Write an entry where its state belongs.

        Raises LockLost, and writes nothing, if the lease ran out.
        """

    def discard(self, account: str, lease: Lease, key: str) -> None:
        """Forget a live entry. Raises LockLost like `save`."""

    def settle(self, account: str, before: OutboxEntry, after: OutboxEntry) -> bool:
        """Move a live entry to the done ones; False, and nothing is done, if it has changed meanwhile."""


class MemoryOutboxStore:
    """Entries in this process, for commands and notebooks: its threads share them, nothing survives it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._entries: dict[str, dict[str, OutboxEntry]] = {}

    @contextmanager
    def lock(self, account: str, *, wait_seconds: float) -> Iterator[Lease]:
        """Be the account's only writer among the threads of this process."""
        with self._guard:
            lock = self._locks.setdefault(account, threading.Lock())
        if not lock.acquire(timeout=wait_seconds):
            raise OutboxBusy(_busy(account, wait_seconds))
        lease = Lease(secrets.token_hex(8))
        try:
            yield lease
        finally:
            lease.lose()
            lock.release()

    def find(self, account: str, key: str) -> OutboxEntry | None:
        """The entry of a step, live or done."""
        with self._guard:
            return self._entries.get(account, {}).get(key)

    def live(self, account: str) -> list[OutboxEntry]:
        """Entries that are not in a block yet, by nonce."""
        return [entry for entry in self._by_nonce(account) if entry.live]

    def done_from(self, account: str, nonce: int) -> list[OutboxEntry]:
        """Entries in blocks, with this nonce or a later one, by nonce."""
        return [entry for entry in self._by_nonce(account) if not entry.live and entry.nonce >= nonce]

    def save(self, account: str, lease: Lease, entry: OutboxEntry) -> None:
        """Write an entry."""
        _require(lease, account)
        with self._guard:
            self._entries.setdefault(account, {})[entry.key] = entry

    def discard(self, account: str, lease: Lease, key: str) -> None:
        """Forget an entry."""
        _require(lease, account)
        with self._guard:
            self._entries.get(account, {}).pop(key, None)

    def settle(self, account: str, before: OutboxEntry, after: OutboxEntry) -> bool:
        """Replace `before` by `after` if it is still what is kept."""
        with self._guard:
            entries = self._entries.get(account, {})
            if entries.get(before.key) != before:
                return False
            entries[after.key] = after
            return True

    def _by_nonce(self, account: str) -> list[OutboxEntry]:
        with self._guard:
            return sorted(self._entries.get(account, {}).values(), key=lambda entry: entry.nonce)


class RedisOutboxStore:
    """Entries in Redis, for all processes that send for an account. Meant for one with AOF and noeviction."""

    def __init__(self, url: str, *, lock_seconds: float = LOCK_SECONDS) -> None:
        """Nothing is connected yet. `lock_seconds` is how long a lock outlives a writer that died."""
        self._url = url
        self._lock_seconds = lock_seconds
        self._redis = redis.Redis.from_url(url, socket_timeout=_SOCKET_SECONDS, decode_responses=True)
        self._save = self._redis.register_script(_SAVE)
        self._discard = self._redis.register_script(_DISCARD)
        self._settle = self._redis.register_script(_SETTLE)
        self._release = self._redis.register_script(_RELEASE)
        self._extend = self._redis.register_script(_EXTEND)

    @contextmanager
    def lock(self, account: str, *, wait_seconds: float) -> Iterator[Lease]:
        """Be the account's only writer in the cluster; the lock is extended for as long as the block runs."""
        name = _names(account)[0]
        lease = Lease(secrets.token_hex(16))
        give_up = time.monotonic() + wait_seconds
        pause = _SHORTEST_PAUSE_SECONDS
        with self._reaching():
            while not self._redis.set(name, lease.token, nx=True, px=int(self._lock_seconds * 1000)):
                if time.monotonic() >= give_up:
                    raise OutboxBusy(_busy(account, wait_seconds))
                time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 -- spreads waiters, guards nothing
                pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
        released = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(name, lease, released), daemon=True)
        keeper.start()
        try:
            yield lease
        finally:
            released.set()
            keeper.join()
            try:
                self._release(keys=[name], args=[lease.token])
            except RedisError as error:
                logger.warning("outbox lock not released, it will expire: account=%s error=%s", account, error)

    def find(self, account: str, key: str) -> OutboxEntry | None:
        """The entry of a step, live or done."""
        _, live, done, _ = _names(account)
        with self._reaching():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.hget(live, key)
            pipeline.hget(done, key)
            found = pipeline.execute()
        text = found[0] or found[1]
        return OutboxEntry.from_json(text) if text else None

    def live(self, account: str) -> list[OutboxEntry]:
        """Entries that are not in a block yet, by nonce."""
        with self._reaching():
            texts = cast("list[str]", self._redis.hvals(_names(account)[1]))
        return sorted(map(OutboxEntry.from_json, texts), key=lambda entry: entry.nonce)

    def done_from(self, account: str, nonce: int) -> list[OutboxEntry]:
        """Entries in blocks, with this nonce or a later one, by nonce."""
        _, _, done, nonces = _names(account)
        with self._reaching():
            keys = cast("list[str]", self._redis.zrangebyscore(nonces, nonce, "+inf"))
            texts = cast("list[str | None]", self._redis.hmget(done, keys)) if keys else []
        return [OutboxEntry.from_json(text) for text in texts if text]

    def save(self, account: str, lease: Lease, entry: OutboxEntry) -> None:
        """Write an entry where its state belongs, under the fence of the lock."""
        place = "live" if entry.live else "done"
        arguments: list[str | int] = [lease.token, entry.key, entry.to_json(), entry.nonce, place, _HISTORY]
        with self._reaching():
            kept = self._save(keys=list(_names(account)), args=arguments)
        if not kept:
            lease.lose()
        _require(lease, account)

    def discard(self, account: str, lease: Lease, key: str) -> None:
        """Forget a live entry, under the fence of the lock."""
        with self._reaching():
            kept = self._discard(keys=list(_names(account)), args=[lease.token, key])
        if not kept:
            lease.lose()
        _require(lease, account)

    def settle(self, account: str, before: OutboxEntry, after: OutboxEntry) -> bool:
        """Move a live entry to the done ones if it is still `before`."""
        arguments: list[str | int] = [before.key, before.to_json(), after.to_json(), after.nonce, _HISTORY]
        with self._reaching():
            return bool(self._settle(keys=list(_names(account)), args=arguments))

    def _keep(self, name: str, lease: Lease, released: threading.Event) -> None:
        """Extend the lock until it is released or lost.

        A failure to reach Redis is tried again while it can last.
        """
        extended = time.monotonic()
        while not released.wait(self._lock_seconds / 3):
            try:
                if not self._extend(keys=[name], args=[lease.token, int(self._lock_seconds * 1000)]):
                    lease.lose()
                    return
                extended = time.monotonic()
            except RedisError:
                if time.monotonic() - extended > self._lock_seconds:
                    lease.lose()
                    return

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            raise OutboxStoreError(
                f"The outbox cannot use Redis at {redact(self._url)} ({type(error).__name__}). "
                "Nothing is sent that is not kept there first; start Redis, or correct its URL."
            ) from error


def _names(account: str) -> tuple[str, str, str, str]:
    prefix = f"fitchain:outbox:{{{account}}}:"
    return prefix + "lock", prefix + "live", prefix + "done", prefix + "nonces"


def _require(lease: Lease, account: str) -> None:
    if not lease.held:
        raise LockLost(f"The lock on the outbox {account} ran out while it was in use: nothing was written.")


def _busy(account: str, wait_seconds: float) -> str:
    return f"The outbox {account} was in use by other workers for {wait_seconds:.0f} s. It is tried again."
