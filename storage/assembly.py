"""Putting a file together from verified blocks, in whatever order and from however many sources they come.

An ``Assembly`` knows which blocks are still wanted and where in the file each belongs. A source offers
blocks; each is hashed before anything else is done with it, then written straight to its place. So a source
that breaks off half-way costs nothing: the next one is asked only for what is missing. No network here;
sources are in ``storage.sources``.

What bounds it: the size that the root claims is checked before anything is fetched and every deeper claim
must agree with it, each part has at least one byte, and depth and the number of parts are limited. So a tiny
DAG cannot expand beyond what was allowed, and a cycle would need a block that holds its own hash.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from storage.cid import CID, DAG_PB, IDENTITY, RAW
from storage.errors import ContentInvalid, ContentMismatch, ContentTooLarge
from storage.skeleton import Skeleton
from storage.spool import Spool
from storage.unixfs import file_node

MAX_BLOCK_BYTES: Final = 2_097_152 + 65_536  # what the network carries (2 MiB), and room for a wrapping
_COPY_BYTES: Final = 1_048_576

Progress = Callable[[int, int | None], None]
_Key = tuple[int, bytes]  # codec and multihash: the same bytes may be a leaf here and a node there


class Target(Protocol):
    """Where the file grows; positions and sizes in bytes."""

    def write_at(self, offset: int, data: memoryview) -> None:
        """Write all of ``data`` at ``offset``."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Read back what was written before."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one file: bytes, parts (leaves and inner nodes, repetitions counted), depth, bytes kept
    aside."""

    max_bytes: int
    max_parts: int = 400_000
    max_depth: int = 32
    spool_bytes: int = 268_435_456


@dataclass(frozen=True, slots=True)
class _Place:
    cid: CID
    offset: int
    size: int | None  # None for the root, whose size nobody has claimed yet
    depth: int

    @property
    def key(self) -> _Key:
        return (self.cid.codec, self.cid.multihash)


@dataclass(slots=True)
class _Known:
    """A block that was used: where a leaf's bytes are in the file, or the children of an inner node."""

    offset: int
    size: int
    body_size: int
    children: tuple[tuple[CID, int], ...] = field(default=())


class Assembly:
    """One file under construction."""

    def __init__(self, cid: CID, target: Target, *, limits: Limits, progress: Progress | None = None) -> None:
        """Begin with nothing but the root's CID; an identity CID is complete at once."""
        self.cid = cid
        self.max_bytes = limits.max_bytes
        self.size: int | None = None
        self.blocks = 0  # distinct blocks that were used, for whoever asks whether a source made progress
        self.received_bytes = 0
        self.skeleton = Skeleton()
        self._target = target
        self._limits = limits
        self._progress = progress
        self._written = 0
        self._parts = 0
        self._pending: dict[_Key, list[_Place]] = {}
        self._known: dict[_Key, _Known] = {}
        self._order: list[_Place] = []  # what is wanted, last first, so that reading follows the file
        self._spool = Spool(limits.spool_bytes)
        self._want([_Place(cid, 0, None, 0)])

    @property
    def complete(self) -> bool:
        """Whether every byte is in place."""
        return not self._pending

    def next_wanted(self) -> CID | None:
        """The missing block that comes first in the file, or None when the file is complete."""
        while self._order and self._order[-1].key not in self._pending:
            self._order.pop()
        return self._order[-1].cid if self._order else None

    def wanted(self) -> Iterator[CID]:
        """The missing blocks that are known so far, in the order of the file; offering one does not disturb
        it."""
        seen: set[_Key] = set()
        for place in reversed(self._order.copy()):
            key = place.key
            if key in self._pending and key not in seen:
                seen.add(key)
                yield place.cid

    def claimed_size(self, cid: CID) -> int | None:
        """The bytes that a missing block and all below it stand for, or None where nobody has said."""
        places = self._pending.get((cid.codec, cid.multihash))
        return places[0].size if places else None

    def offer(self, cid: CID, block: bytes | memoryview, *, source: str) -> bool:
        """Verify a block and put it in place; returns whether it was of use now.

        A block that nobody asked for yet is kept aside (children may arrive before their parents), up to a
        limit. Raises ContentMismatch if the bytes do not match, ContentInvalid or ContentTooLarge if they do
        but the file cannot be what it claims.
        """
        if len(block) > MAX_BLOCK_BYTES:
            raise ContentMismatch(f"{source} sent a block of {len(block)} bytes; at most {MAX_BLOCK_BYTES} are read")
        if not cid.matches(block):
            raise ContentMismatch(f"{source} sent bytes that are not {cid}; they were thrown away")
        multihash = cid.multihash
        used = False
        for key in ((RAW, multihash), (DAG_PB, multihash)):
            if key in self._pending:
                self.received_bytes += len(block)
                for batch in self._use(key, block):
                    self._want(batch)
                used = True
        if not used and (RAW, multihash) not in self._known and (DAG_PB, multihash) not in self._known:
            self._spool.keep(multihash, block)
        return used

    def close(self) -> None:
        """Free what was kept aside."""
        self._spool.close()

    def _want(self, places: list[_Place]) -> None:
        """Note new places, first of the file first, and fill those whose block is at hand."""
        todo = [places]
        while todo:
            batch = todo.pop()
            self._check_parts(batch)
            self._order.extend(reversed(batch))
            for place in batch:
                key = place.key
                known = self._known.get(key)
                if known is not None:
                    self._repeat(place, known, todo)
                    continue
                first = key not in self._pending
                self._pending.setdefault(key, []).append(place)
                if first:
                    block = place.cid.digest if place.cid.hash_code == IDENTITY else self._spool.take(key[1])
                    if block is not None:
                        todo.extend(self._use(key, block))

    def _use(self, key: _Key, block: bytes | memoryview) -> list[list[_Place]]:
        """Write a block to all its places; returns the places of its children, a batch for each
        occurrence."""
        places = self._pending[key]
        first = places[0]
        node = file_node(first.cid, block)
        if self.size is None:
            self._set_size(node.size)
        known = _Known(first.offset, node.size, len(node.body), node.children)
        batches: list[list[_Place]] = []
        for place in places:
            self._check(place, node.size, bool(node.children))
            if len(node.body):
                self._write(place.offset, node.body)
            if node.children:
                batches.append(_children(place, known))
        self.skeleton.add(first.cid, block, node)
        del self._pending[key]
        self._known[key] = known
        self.blocks += 1
        return batches

    def _repeat(self, place: _Place, known: _Known, todo: list[list[_Place]]) -> None:
        """Fill a place from a block that was used before: its bytes are read back from the file."""
        self._check(place, known.size, bool(known.children))
        for start in range(0, known.body_size, _COPY_BYTES):
            count = min(_COPY_BYTES, known.body_size - start)
            self._write(place.offset + start, memoryview(self._target.read_at(known.offset + start, count)))
        if known.children:
            todo.append(_children(place, known))

    def _check(self, place: _Place, size: int, has_children: bool) -> None:
        if place.size is not None and place.size != size:
            raise ContentInvalid(f"{self.cid}: a part claims {place.size} bytes and has {size} ({place.cid})")
        if has_children and place.depth >= self._limits.max_depth:
            raise ContentInvalid(f"{self.cid} is more than {self._limits.max_depth} levels deep")

    def _check_parts(self, batch: list[_Place]) -> None:
        for place in batch:
            if place.cid.codec not in (RAW, DAG_PB):
                codec = place.cid.codec_name
                raise ContentInvalid(f"{place.cid} is a {codec} block; files and folders are dag-pb or raw")
        self._parts += len(batch)
        if self._parts > self._limits.max_parts:
            raise ContentInvalid(f"{self.cid} has more than {self._limits.max_parts} parts; use larger chunks")

    def _set_size(self, size: int) -> None:
        if size > self._limits.max_bytes:
            raise ContentTooLarge(f"{self.cid} has {size} bytes; at most {self._limits.max_bytes} are read")
        self.size = size

    def _write(self, offset: int, body: memoryview) -> None:
        self._target.write_at(offset, body)
        self._written += len(body)
        if self._progress is not None:
            self._progress(self._written, self.size)


def _children(place: _Place, known: _Known) -> list[_Place]:
    out: list[_Place] = []
    offset = place.offset + known.body_size
    for cid, size in known.children:
        out.append(_Place(cid, offset, size, place.depth + 1))
        offset += size
    return out
