"""From bytes to a DAG: files and folders cut, laid out and named exactly as ``ipfs add`` does.

Profiles: https://specs.ipfs.tech/ipips/ipip-0499/. ``unixfs-v0-2015`` is the default of Kubo and of 2018;
its CIDs are those that published schemas carry. The layout is balanced: all leaves at one depth, each inner
node filled before the next begins. Blocks go to a sink as they are made; memory is one chunk and the open
node of each level. Folders too large for one block (HAMT shards) are refused.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from storage.cid import CID, DAG_PB, RAW
from storage.dagpb import Link
from storage.errors import ContentTooLarge, StorageError
from storage.unixfs import encode_file, encode_folder, leaf_wrapping

Sink = Callable[[CID, bytes | memoryview], None]  # the block is valid during the call only
Progress = Callable[[int, int | None], None]


class Readable(Protocol):
    """What files are imported from."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


_MARGIN_BYTES: Final = 64
_MAX_FOLDER_BLOCK_BYTES: Final = 262_144  # where Kubo begins to shard
_MAX_FOLDER_DEPTH: Final = 64


@dataclass(frozen=True, slots=True)
class Profile:
    """How bytes become blocks: chunk size in bytes, links of an inner node, CID version, leaves raw or
    wrapped."""

    name: str
    chunk_bytes: int
    links: int
    cid_version: int
    raw_leaves: bool


V0_2015: Final = Profile("unixfs-v0-2015", 262_144, 174, 0, raw_leaves=False)
V1_2025: Final = Profile("unixfs-v1-2025", 1_048_576, 1024, 1, raw_leaves=True)
PROFILES: Final = {profile.name: profile for profile in (V0_2015, V1_2025)}


@dataclass(frozen=True, slots=True)
class Added:
    """A DAG that was written: its root, the bytes of content, and the bytes of all its blocks (duplicates
    counted)."""

    cid: CID
    size: int
    tsize: int


def add_file(
    stream: Readable, sink: Sink, *, profile: Profile = V0_2015, on_bytes: Callable[[int], None] | None = None
) -> Added:
    """Import the bytes of a stream until its end; ``on_bytes`` is told the size of each chunk."""
    levels: list[list[tuple[Link, int]]] = [[]]
    for block, size in _Cutter(stream, profile).blocks():
        levels[0].append(_leaf(block, size, sink, profile))
        if on_bytes is not None:
            on_bytes(size)
        level = 0
        while len(levels[level]) == profile.links:
            if level + 1 == len(levels):
                levels.append([])
            levels[level + 1].append(_inner(levels[level], sink, profile))
            levels[level] = []
            level += 1
    return _close(levels, sink, profile)


def cid_of(data: bytes, *, profile: Profile = V0_2015) -> str:
    """The CID that adding these bytes gives; nothing is stored."""
    return str(add_file(io.BytesIO(data), lambda *_: None, profile=profile).cid)


def add_path(path: Path, sink: Sink, *, profile: Profile = V0_2015, progress: Progress | None = None) -> Added:
    """Import a file, or a folder with all that it holds (hidden files included, symbolic links refused).

    Raises StorageError for what is neither file nor folder, ContentTooLarge for a folder with too many
    entries.
    """
    total = _size_of(path) if progress is not None else None
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return _add_path(path, sink, profile, on_bytes, 0)


def add_folder(links: list[tuple[str, Added]], sink: Sink, *, profile: Profile = V0_2015) -> Added:
    """Write the folder node over entries that were imported before. Raises ContentTooLarge, StorageError."""
    for name, _ in links:
        if not name or "/" in name or "\0" in name:
            raise StorageError(f"{name!r} cannot be the name of an entry in a folder")
    block = encode_folder([Link(entry.cid, name, entry.tsize) for name, entry in links])
    if len(block) > _MAX_FOLDER_BLOCK_BYTES:
        raise ContentTooLarge(f"a folder of {len(links)} entries does not fit into one block; use fewer or nest them")
    cid = CID.of(block, codec=DAG_PB, version=profile.cid_version)
    sink(cid, block)
    size = sum(entry.size for _, entry in links)
    return Added(cid, size, len(block) + sum(entry.tsize for _, entry in links))


def _add_path(path: Path, sink: Sink, profile: Profile, on_bytes: Callable[[int], None], depth: int) -> Added:
    if path.is_symlink() and depth:
        raise StorageError(f"{path} is a symbolic link; publish the file that it points at")
    if path.is_dir():
        if depth >= _MAX_FOLDER_DEPTH:
            raise StorageError(f"{path} lies more than {_MAX_FOLDER_DEPTH} folders deep")
        entries = sorted(path.iterdir(), key=lambda entry: entry.name.encode())
        added = [(entry.name, _add_path(entry, sink, profile, on_bytes, depth + 1)) for entry in entries]
        return add_folder(added, sink, profile=profile)
    if not path.is_file():
        raise StorageError(f"{path} is not there, or is neither a file nor a folder")
    with path.open("rb") as stream:
        return add_file(stream, sink, profile=profile, on_bytes=on_bytes)


def _size_of(path: Path) -> int:
    if path.is_dir():
        return sum(entry.lstat().st_size for entry in path.rglob("*") if entry.is_file())
    return path.stat().st_size if path.exists() else 0


class _Cutter:
    """Cuts a stream into leaves, in one buffer that holds a chunk with its wrapping around it: allocating and
    copying each block would cost a third of the time of hashing it."""

    def __init__(self, stream: Readable, profile: Profile) -> None:
        self._stream = stream
        self._raw = profile.raw_leaves
        self._view = memoryview(bytearray(_MARGIN_BYTES + profile.chunk_bytes + _MARGIN_BYTES))

    def blocks(self) -> Iterator[tuple[memoryview, int]]:
        """The block of each leaf, valid until the next, and the bytes of the file in it; one for an empty file."""
        room = self._view[_MARGIN_BYTES:-_MARGIN_BYTES]
        first = True
        while True:
            size = self._fill(room)
            if size or first:
                yield self._wrapped(size), size
            if size < len(room):
                return
            first = False

    def _fill(self, room: memoryview) -> int:
        """Read until the chunk is full or the stream ends; a pipe or a socket may give less than asked."""
        done = 0
        while done < len(room):
            if isinstance(self._stream, io.BufferedIOBase):
                count = self._stream.readinto(room[done:])
            else:
                data = self._stream.read(len(room) - done)
                count = len(data)
                room[done : done + count] = data
            if not count:
                break
            done += count
        return done

    def _wrapped(self, size: int) -> memoryview:
        if self._raw:
            return self._view[_MARGIN_BYTES : _MARGIN_BYTES + size]
        head, tail = leaf_wrapping(size)
        start, end = _MARGIN_BYTES - len(head), _MARGIN_BYTES + size
        self._view[start:_MARGIN_BYTES] = head
        self._view[end : end + len(tail)] = tail
        return self._view[start : end + len(tail)]


def _leaf(block: memoryview, size: int, sink: Sink, profile: Profile) -> tuple[Link, int]:
    cid = CID.of(block, codec=RAW if profile.raw_leaves else DAG_PB, version=profile.cid_version)
    sink(cid, block)
    return Link(cid, "", len(block)), size


def _inner(children: list[tuple[Link, int]], sink: Sink, profile: Profile) -> tuple[Link, int]:
    block = encode_file(children)
    cid = CID.of(block, codec=DAG_PB, version=profile.cid_version)
    sink(cid, block)
    tsize = len(block) + sum(link.tsize or 0 for link, _ in children)
    return Link(cid, "", tsize), sum(size for _, size in children)


def _close(levels: list[list[tuple[Link, int]]], sink: Sink, profile: Profile) -> Added:
    """Close the open node of each level, from the leaves up, until one root is left."""
    level = 0
    while level + 1 < len(levels) or len(levels[level]) > 1:
        if level + 1 == len(levels):
            levels.append([])
        if levels[level]:
            levels[level + 1].append(_inner(levels[level], sink, profile))
        level += 1
    link, size = levels[level][0]
    return Added(link.cid, size, link.tsize or 0)
