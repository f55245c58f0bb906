"""The blob cache that all hosts share: a Redis of its own, ``allkeys-lfu``, separate from the broker.

A blob is kept as the CAR of its DAG in pieces of 4 MiB, so that what comes back is verified like an answer of
any other source; Redis may evict single pieces, and then the rest is fetched elsewhere. Keys::

    fitchain:blob:<CID>       number of pieces, written last
    fitchain:blob:<CID>:<n>   piece n of the CAR
    fitchain:flight:<CID>     token of whoever downloads it for all (storage.flight)

A cache that is gone is no error: it is logged once, left alone for some seconds, and everything goes on
without it.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from storage.assembly import Assembly
from storage.car import CarError, header, read_car, section
from storage.cid import CID
from storage.deadline import Clock, Deadline
from storage.errors import ContentMismatch, ContentNotFound

_LOG = logging.getLogger(__name__)
_PIECE_BYTES: Final = 4_194_304
_KEEP_SECONDS: Final = 7 * 86_400  # eviction makes room before that; this ends what nobody asks for
_CONNECT_SECONDS: Final = 2.0
_PIECE_SECONDS: Final = 30.0  # patience for 4 MiB on a busy network
_LEAVE_ALONE_SECONDS: Final = 10.0
_PREFIX: Final = "fitchain:blob:"


class RedisCache:
    """Blobs by CID in Redis; a source like any other, which may also be filled."""

    def __init__(self, url: str, *, max_blob_bytes: int, clock: Clock = time.monotonic) -> None:
        self.name = "the Redis blob cache"
        self.max_blob_bytes = max_blob_bytes
        self._clock = clock
        self._away_until = 0.0
        self._was_away = False
        self.client = redis.Redis.from_url(
            url,
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=_PIECE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    @property
    def away(self) -> bool:
        """Whether Redis failed a moment ago and is left alone for now."""
        return self._clock() < self._away_until

    def has(self, cid: CID) -> bool:
        """Whether the blob seems to be here; pieces may still be missing."""
        try:
            return not self.away and bool(self.client.exists(_key(cid)))
        except redis.RedisError as error:
            self.failed(error)
            return False

    def fill(self, assembly: Assembly, deadline: Deadline) -> None:
        """Offer the cached blocks. Raises ContentNotFound where they do not suffice, whatever the reason."""
        if self.away:
            raise ContentNotFound(f"{self.name} is away")
        cid = assembly.cid
        try:
            for found, block in read_car(self._pieces(cid, deadline)):
                assembly.offer(found, block, source=self.name)
                if assembly.complete:
                    return
        except redis.RedisError as error:
            self.failed(error)
        except (ContentMismatch, CarError) as error:
            _LOG.warning("cached blob is damaged, it was dropped cid=%s: %s", cid, error)
            self.drop(cid)
        raise ContentNotFound(f"{self.name} does not have all of {cid}")

    def put(self, cid: CID, blocks: Iterable[tuple[CID, bytes]], size: int) -> bool:
        """Keep a blob of ``size`` bytes; returns whether it is there now. Too large or Redis away: it is
        not."""
        if size > self.max_blob_bytes or self.away:
            return False
        try:
            count = 0
            for count, piece in enumerate(_cut(_car(cid, blocks)), 1):
                self.client.set(f"{_key(cid)}:{count - 1}", piece, ex=_KEEP_SECONDS)
            self.client.set(_key(cid), count, ex=_KEEP_SECONDS)
        except redis.RedisError as error:
            self.failed(error)
            return False
        self.answered()
        return True

    def drop(self, cid: CID) -> None:
        """Forget a blob."""
        try:
            self.client.delete(_key(cid))
        except redis.RedisError as error:
            self.failed(error)

    def failed(self, error: redis.RedisError) -> None:
        """Note that Redis did not do what it was asked; said once until it answers again."""
        self._away_until = self._clock() + _LEAVE_ALONE_SECONDS
        if not self._was_away:
            self._was_away = True
            _LOG.warning("the blob cache does not answer, going on without it: %s", error)

    def answered(self) -> None:
        """Note that Redis answered."""
        if self._was_away:
            self._was_away = False
            _LOG.info("the blob cache answers again")

    def _pieces(self, cid: CID, deadline: Deadline) -> Iterator[bytes]:
        count = self.client.get(_key(cid))
        self.answered()
        if count is None:
            raise ContentNotFound(f"{self.name} does not have {cid}")
        for number in range(int(count)):
            deadline.check(self.name)
            piece = self.client.get(f"{_key(cid)}:{number}")
            if not isinstance(piece, bytes):  # evicted: the end of what can be had here
                return
            yield piece


def _key(cid: CID) -> str:
    return f"{_PREFIX}{cid}"


def _car(root: CID, blocks: Iterable[tuple[CID, bytes]]) -> Iterator[bytes]:
    """The CAR of the blocks, each once."""
    yield header(root)
    seen: set[bytes] = set()
    for cid, block in blocks:
        key = cid.multihash
        if key not in seen:
            seen.add(key)
            yield section(cid, block)


def _cut(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of equal size."""
    buffer = bytearray()
    for part in parts:
        buffer += part
        while len(buffer) >= _PIECE_BYTES:
            yield bytes(buffer[:_PIECE_BYTES])
            del buffer[:_PIECE_BYTES]
    if buffer:
        yield bytes(buffer)
