"""Content: what checking every block costs, against the bare operations that cannot be avoided.

All on one file of 256 MiB of random bytes, in turns, floors included:

- *verification*: the blocks of the file, in memory, offered to an assembly that hashes each and puts it in its place,
  nothing written to a disk. Floor: `hashlib.sha256` over the same bytes. The goal is 0.75 of its rate.
- *import*: a file becomes blocks with their CIDs, which are given to a sink that keeps none. Floor: reading the file
  and hashing it. The goal is 0.5 of its rate.
- *Redis hit*: a blob out of the shared cache, every block verified, assembled in memory. Floor: redis-py `GET` of the
  same pieces, nothing done with them. The goal is 0.7 of its rate. *With hash* adds a SHA-256 to the floor, which
  nobody who distrusts the cache can do without.
- *disk hit*: opening a blob that this host has, and reading it. Floor: reading the same file by its path.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis

from benchmarks.findings import Findings, Options, Table, seconds, spread
from benchmarks.measure import Sample, interleaved
from compose.local import LocalStack
from storage import IPFS, Content, StorageSettings
from storage.assembly import Assembly, Limits
from storage.cid import CID
from storage.deadline import Deadline
from storage.disk import DiskStore
from storage.importer import add_file
from storage.redis_cache import RedisCache

ROUNDS: Final = 5
MEBIBYTE: Final = 1024**2
SIZE_BYTES: Final = 256 * MEBIBYTE
_READ_BYTES = MEBIBYTE
# Ours, its floor, the share of the floor's rate that it should reach.
_PAIRS: Final = (
    ("verification", "sha256", "0.75"),
    ("import", "read and sha256", "0.50"),
    ("Redis hit", "Redis GET", "0.70"),
    ("Redis hit", "Redis GET with hash", ""),
    ("disk hit", "file read", "1.00"),
)


class _InMemory:
    """A target that is there already and costs no more than one copy."""

    def __init__(self, size: int) -> None:
        self._buffer = bytearray(os.urandom(size))  # written once, so that its pages are there

    def write_at(self, offset: int, data: memoryview) -> None:
        """Copy into place."""
        self._buffer[offset : offset + len(data)] = data

    def read_at(self, offset: int, size: int) -> bytes:
        """What was copied before."""
        return bytes(self._buffer[offset : offset + size])


@dataclass(frozen=True)
class Blob:
    """The file, its bytes, its CID and its blocks in the order in which nodes and caches send them."""

    path: Path
    data: bytes
    cid: CID
    blocks: list[tuple[CID, bytes]]


def run(options: Options) -> Findings:
    """Measure all pairs in turns."""
    size = 16 * MEBIBYTE if options.quick else SIZE_BYTES
    content, blob = _blob(options.folder, size)
    with LocalStack(options.folder / "stack", parts=("cache",)) as stack:
        url = stack.url("cache")
        cache = RedisCache(url, max_blob_bytes=2 * size)
        cache.put(blob.cid, blob.blocks, size)
        target = _InMemory(size)
        subjects: dict[str, Callable[[], None]] = {
            "verification": lambda: assemble(blob, target),
            "sha256": lambda: _hash(blob.data),
            "import": lambda: _import(blob.path),
            "read and sha256": lambda: _read(blob.path, hashed=True),
            "Redis hit": lambda: _from_cache(cache, blob, target),
            "Redis GET": lambda: _pieces(cache.client, blob.cid, hashed=False),
            "Redis GET with hash": lambda: _pieces(cache.client, blob.cid, hashed=True),
            "disk hit": lambda: _open_and_read(content, blob),
            "file read": lambda: _read(blob.path, hashed=False),
        }
        interleaved(1, subjects)
        samples = interleaved(options.rounds(ROUNDS), subjects)
    figures = {f"{ours}_of_{floor}".replace(" ", "_"): _share(samples, ours, floor) for ours, floor, _ in _PAIRS}
    return Findings((_table(samples, size),), figures)


def assemble(blob: Blob, target: _InMemory) -> None:
    """Offer every block."""
    with closing(Assembly(blob.cid, target, limits=Limits(len(blob.data)))) as assembly:
        for cid, block in blob.blocks:
            assembly.offer(cid, block, source="memory")
        assert assembly.complete


def _hash(data: bytes) -> None:
    hashlib.sha256(data).digest()


def _import(path: Path) -> None:
    with path.open("rb") as file:
        add_file(file, lambda *_: None)


def _read(path: Path, *, hashed: bool) -> None:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_READ_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            if hashed:
                digest.update(buffer[:count])


def _open_and_read(content: Content, blob: Blob) -> None:
    with content.open(str(blob.cid)) as found:
        assert found.tier == "disk"
        _read(found.path, hashed=False)


def _from_cache(cache: RedisCache, blob: Blob, target: _InMemory) -> None:
    with closing(Assembly(blob.cid, target, limits=Limits(len(blob.data)))) as assembly:
        cache.fill(assembly, Deadline.after(600, idle_seconds=60))


def _pieces(client: redis.Redis, cid: CID, *, hashed: bool) -> None:
    key, digest = f"fitchain:blob:{cid}", hashlib.sha256()
    count = client.get(key)
    assert isinstance(count, bytes)
    for number in range(int(count)):
        piece = client.get(f"{key}:{number}")
        if hashed and isinstance(piece, bytes):
            digest.update(piece)


def _blob(folder: Path, size: int) -> tuple[Content, Blob]:
    """A host that has a blob of random bytes."""
    path = folder / "blob"
    path.write_bytes(data := os.urandom(size))
    settings = StorageSettings(store_dir=folder / "blobs", ipfs_store=folder / "ipfs")
    ipfs = IPFS(settings=settings)
    content = Content(ipfs, DiskStore(settings.store_dir, max_bytes=settings.store_max_bytes), None, settings)
    cid = CID.parse(ipfs.store_file(path))
    with content.open(str(cid)):
        blocks = list(content.disk.skeleton(cid).blocks(cid, size, lambda at, count: data[at : at + count]))
    return content, Blob(path, data, cid, blocks)


def _share(samples: dict[str, Sample], ours: str, floor: str) -> float:
    """Our rate as a share of the floor's."""
    return samples[floor].median / samples[ours].median


def _table(samples: dict[str, Sample], size: int) -> Table:
    rows = []
    for ours, floor, goal in _PAIRS:
        rate = size / MEBIBYTE / samples[ours].median
        rows.append(
            (
                ours,
                f"{rate:,.0f} MiB/s",
                spread(samples[ours]),
                f"{floor}: {seconds(samples[floor].median)}",
                f"{_share(samples, ours, floor):.2f}",
                goal,
            )
        )
    rounds = len(samples["sha256"].values)
    columns = ("", "rate", "lowest … highest", "floor", "of floor's rate", "goal")
    return Table(f"A blob of {size // MEBIBYTE} MiB", columns, tuple(rows), f"{rounds} rounds, in turns")
