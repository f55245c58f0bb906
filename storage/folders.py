"""UnixFS folders: plain ones, and those sharded into a hash-array-mapped trie when they are large.

Format: https://specs.ipfs.tech/unixfs/. In a shard each link's name begins with the two hexadecimal digits
of its slot; nothing after them means a deeper shard. Blocks are verified by whoever hands them in. Names
come from strangers: one that could lead out of a folder is refused.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from storage.cid import CID, RAW
from storage.errors import ContentInvalid
from storage.unixfs import Kind, unixfs_node

_MAX_ENTRIES: Final = 100_000
_MAX_SHARDS: Final = 20_000
_MAX_SHARD_DEPTH: Final = 16
_MAX_NAME_BYTES: Final = 255
_FANOUT: Final = 256
_SLOT_DIGITS: Final = 2

GetBlock = Callable[[CID], bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a folder; ``tsize`` is the bytes of all its blocks as the folder's writer claims."""

    name: str
    cid: CID
    tsize: int | None


def is_folder(cid: CID, block: bytes) -> bool:
    """Whether a verified block is a folder. Raises ContentInvalid for what is no UnixFS."""
    if cid.codec == RAW:
        return False
    return unixfs_node(cid, block)[1].kind in (Kind.FOLDER, Kind.SHARDED_FOLDER)


def read_folder(cid: CID, get_block: GetBlock) -> list[Entry]:
    """The entries of a folder in the order of their names' bytes.

    ``get_block`` gives verified blocks; what it raises passes through. Raises ContentInvalid for what is no
    folder, and for one that is too large or carries names that a file system must not see.
    """
    entries: dict[str, Entry] = {}
    for entry in _walk(cid, get_block):
        _check_name(cid, entry.name)
        if entry.name in entries:
            raise ContentInvalid(f"the folder {cid} has two entries named {entry.name!r}")
        entries[entry.name] = entry
        if len(entries) > _MAX_ENTRIES:
            raise ContentInvalid(f"the folder {cid} has more than {_MAX_ENTRIES} entries")
    return sorted(entries.values(), key=lambda entry: entry.name.encode())


def _walk(root: CID, get_block: GetBlock) -> Iterator[Entry]:
    todo = [(root, 0)]
    shards = 0
    while todo:
        cid, depth = todo.pop()
        shards += 1
        if depth > _MAX_SHARD_DEPTH or shards > _MAX_SHARDS:
            raise ContentInvalid(f"the folder {root} is made of too many shards")
        node, data = unixfs_node(cid, get_block(cid))
        if data.kind == Kind.FOLDER and depth == 0:
            yield from (Entry(link.name, link.cid, link.tsize) for link in node.links)
        elif data.kind == Kind.SHARDED_FOLDER and data.fanout == _FANOUT:
            for link in node.links:
                slot, name = link.name[:_SLOT_DIGITS], link.name[_SLOT_DIGITS:]
                if len(slot) != _SLOT_DIGITS or slot.strip("0123456789ABCDEF"):
                    raise ContentInvalid(f"a shard of the folder {root} has the slot {slot!r}")
                if name:
                    yield Entry(name, link.cid, link.tsize)
                else:
                    todo.append((link.cid, depth + 1))
        else:
            raise ContentInvalid(f"{cid} is not a folder")


def _check_name(folder: CID, name: str) -> None:
    if name in {"", ".", ".."} or "/" in name or "\0" in name or len(name.encode()) > _MAX_NAME_BYTES:
        raise ContentInvalid(f"the folder {folder} has an entry named {name[:80]!r}, which no file can have")
