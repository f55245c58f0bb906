"""The one road to a blob: this host's disk, the cluster's Redis, the IPFS node, the gateways.

Whatever tier has it, the caller gets a path to bytes that were verified against the CID and that stay there
while the blob is open. One process of a host and, with Redis, one host of the cluster downloads a CID; the
others wait and take it from disk or Redis. A tier that fails costs time, never correctness.
"""

import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from storage.assembly import Assembly, Limits, Progress
from storage.cid import CID
from storage.deadline import Deadline
from storage.disk import DiskStore, Lease
from storage.errors import ContentNotFound, ContentTooLarge
from storage.flight import Flight, single_flight
from storage.ipfs import IPFS
from storage.redis_cache import RedisCache
from storage.settings import StorageSettings
from storage.sources import fill_from

Tier = Literal["disk", "redis", "ipfs"]
TIERS: Final[tuple[Tier, ...]] = ("disk", "redis", "ipfs")


@dataclass(frozen=True, slots=True)
class Blob:
    """A verified blob: a read-only file that stays in place while the blob is open, its size in bytes, its
    tier.
    """

    path: Path
    cid: str
    size: int
    tier: Tier


class Content:
    """Blobs by CID through all tiers. One per process; threads may share it."""

    def __init__(self, ipfs: IPFS, disk: DiskStore, cache: RedisCache | None, settings: StorageSettings) -> None:
        self.ipfs = ipfs
        self.disk = disk
        self.cache = cache
        self._settings = settings
        self._counts: Counter[Tier] = Counter()
        self._guard = threading.Lock()

    @classmethod
    def from_settings(cls, settings: StorageSettings | None = None) -> "Content":
        """Build the road that the settings describe. Raises SourceUnavailable if a folder cannot be used."""
        settings = settings or StorageSettings()
        cache = None
        if settings.cache_url:
            cache = RedisCache(settings.cache_url, max_blob_bytes=settings.redis_max_blob_bytes)
        disk = DiskStore(settings.store_dir, max_bytes=settings.store_max_bytes)
        return cls(IPFS(settings=settings), disk, cache, settings)

    @property
    def counters(self) -> Mapping[Tier, int]:
        """How many blobs each tier gave since this object was made."""
        with self._guard:
            return {tier: self._counts[tier] for tier in TIERS}

    @contextmanager
    def open(
        self,
        cid: str,
        *,
        max_bytes: int | None = None,
        deadline_seconds: float | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Blob]:
        """A verified blob, leased while the ``with`` block lasts.

        ``max_bytes`` defaults to FITCHAIN_MAX_BLOB_BYTES, ``deadline_seconds`` to
        FITCHAIN_FETCH_DEADLINE_SECONDS; ``progress`` is told bytes done and, once it is known, bytes in all.
        Raises InvalidCID, ContentInvalid and ContentTooLarge, which are facts about the content, and the
        transient ContentNotFound, ContentMismatch, SourceUnavailable and StoreFull.
        """
        parsed = CID.parse(cid)
        limit = self._settings.max_blob_bytes if max_bytes is None else max_bytes
        seconds = self._settings.fetch_deadline_seconds if deadline_seconds is None else deadline_seconds
        deadline = Deadline.after(seconds, idle_seconds=self._settings.ipfs_timeout_seconds)
        lease, tier = self._get(parsed, limit, deadline, progress)
        try:
            if lease.size > limit:
                raise ContentTooLarge(f"{cid} has {lease.size} bytes; at most {limit} are read")
            with self._guard:
                self._counts[tier] += 1
            if progress is not None and tier == "disk":
                progress(lease.size, lease.size)
            yield Blob(lease.path, cid, lease.size, tier)
        finally:
            lease.release()

    def _get(self, cid: CID, limit: int, deadline: Deadline, progress: Progress | None) -> tuple[Lease, Tier]:
        lease = self.disk.lease(cid)
        if lease is not None:
            return lease, "disk"
        with self.disk.downloading(cid, deadline):
            lease = self.disk.lease(cid)  # another process of this host may have brought it meanwhile
            if lease is not None:
                return lease, "disk"
            return self._download(cid, limit, deadline, progress)

    def _download(self, cid: CID, limit: int, deadline: Deadline, progress: Progress | None) -> tuple[Lease, Tier]:
        steps = _Steps(self.disk, self.cache, progress)
        with self.disk.draft() as draft:
            assembly = Assembly(cid, draft.target, limits=Limits(limit), progress=steps)
            with closing(assembly):
                if self._from_cache(assembly, deadline):
                    return self.disk.store(cid, draft, assembly.skeleton), "redis"
                with single_flight(self.cache, cid, deadline) as flight:
                    # Whoever flew before us may have landed between our last look at Redis and our turn.
                    if self._arrived(cid) and self._from_cache(assembly, deadline):
                        return self.disk.store(cid, draft, assembly.skeleton), "redis"
                    steps.flight = flight
                    fill_from(self.ipfs.sources, assembly, deadline)
                    lease = self.disk.store(cid, draft, assembly.skeleton)
                    self._share(cid, lease)
                    return lease, "ipfs"

    def _arrived(self, cid: CID) -> bool:
        return self.cache is not None and self.cache.has(cid)

    def _from_cache(self, assembly: Assembly, deadline: Deadline) -> bool:
        """Take what Redis has; the rest, if any, is left to the sources after it."""
        if self.cache is None:
            return False
        try:
            self.cache.fill(assembly, deadline)
        except ContentNotFound:
            return False
        return True

    def _share(self, cid: CID, lease: Lease) -> None:
        """Put a blob that was just downloaded into Redis for the other hosts."""
        if self.cache is None or self.cache.away or lease.size > self.cache.max_blob_bytes:
            return
        with lease.path.open("rb") as file:
            fd = file.fileno()
            skeleton = self.disk.skeleton(cid)
            blocks = skeleton.blocks(cid, lease.size, lambda at, count: os.pread(fd, count, at))
            self.cache.put(cid, blocks, lease.size)


class _Steps:
    """What happens while a blob arrives: room is made as soon as its size is known, others are not kept
    waiting for a blob that is too large for Redis, and the caller's progress is told."""

    def __init__(self, disk: DiskStore, cache: RedisCache | None, progress: Progress | None) -> None:
        self.flight: Flight | None = None
        self._disk = disk
        self._cache = cache
        self._progress = progress
        self._sized = False

    def __call__(self, done: int, total: int | None) -> None:
        if total is not None and not self._sized:
            self._sized = True
            self._disk.make_room(total)
        if self.flight is not None and self._cache is not None and (total or 0) > self._cache.max_blob_bytes:
            self.flight.land()
        if self._progress is not None:
            self._progress(done, total)
