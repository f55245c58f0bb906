"""One download for the whole cluster: a lock in Redis per CID, which costs only duplicate work when it is
lost.

``SET NX PX`` with a token, extended while its holder works, released by compare-and-delete. A holder that
dies lets it run out within seconds. Without Redis everybody flies alone.
"""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis

from storage.cid import CID
from storage.deadline import Deadline
from storage.redis_cache import RedisCache

_LIFE_SECONDS: Final = 10.0
_EXTEND_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.1
_EXTEND: Final = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('pexpire', KEYS[1], ARGV[2]) or 0"
_RELEASE: Final = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('del', KEYS[1]) or 0"


class Flight:
    """The right to download, while it is held; ``land`` gives it back early."""

    def __init__(self, cache: RedisCache, key: str, token: str) -> None:
        self._cache = cache
        self._key = key
        self._token = token
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._extend, name="flight", daemon=True)
        self._thread.start()

    def land(self) -> None:
        """Let others download; safe to call twice."""
        if self._over.is_set():
            return
        self._over.set()
        self._run(_RELEASE, self._token)

    def _extend(self) -> None:
        while not self._over.wait(_EXTEND_SECONDS):
            self._run(_EXTEND, self._token, str(int(_LIFE_SECONDS * 1000)))

    def _run(self, script: str, *args: str) -> None:
        try:
            self._cache.client.eval(script, 1, self._key, *args)
        except redis.RedisError as error:
            self._cache.failed(error)


@contextmanager
def single_flight(cache: RedisCache | None, cid: CID, deadline: Deadline) -> Iterator[Flight | None]:
    """Wait until nobody else in the cluster downloads the CID, or until the cache has it.

    Yields the lock, or None where there is none to hold: the content arrived, the cache is away, or there is
    none. Raises SourceUnavailable at the deadline.
    """
    flight = None
    if cache is not None:
        key, token = f"fitchain:flight:{cid}", secrets.token_hex(16)
        while not cache.away and not _take(cache, key, token):
            if cache.has(cid):
                break
            deadline.check(f"waiting for another host that downloads {cid}")
            time.sleep(min(_POLL_SECONDS, deadline.patience()))
        else:
            flight = None if cache.away else Flight(cache, key, token)
    try:
        yield flight
    finally:
        if flight is not None:
            flight.land()


def _take(cache: RedisCache, key: str, token: str) -> bool:
    try:
        return bool(cache.client.set(key, token, nx=True, px=int(_LIFE_SECONDS * 1000)))
    except redis.RedisError as error:
        cache.failed(error)
        return False
