"""Building DAGs in memory, good ones with the importer and bad ones by hand."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from contextlib import closing

from storage.assembly import Assembly, Limits
from storage.cid import CID, DAG_PB, write_varint
from storage.dagpb import Link, encode_node
from storage.importer import V0_2015, Profile, add_file
from storage.targets import MemoryTarget
from storage.unixfs import encode_leaf

SMALL = Profile("small", 16, 3, 0, raw_leaves=False)
SMALL_RAW = Profile("small-raw", 16, 3, 1, raw_leaves=True)

Blocks = dict[CID, bytes]


def dag_of(data: bytes, profile: Profile = V0_2015) -> tuple[CID, Blocks]:
    """The DAG of some bytes, blocks in the order in which the importer makes them."""
    blocks: Blocks = {}
    return add_file(
        io.BytesIO(data), lambda cid, block: blocks.update({cid: bytes(block)}), profile=profile
    ).cid, blocks


def node_of(
    children: Sequence[tuple[CID, int]],
    *,
    filesize: int | None = None,
    sizes: Sequence[int] | None = None,
    kind: int = 2,
) -> tuple[CID, bytes]:
    """An inner node that may say anything about its children."""
    claimed = [size for _, size in children] if sizes is None else sizes
    total = sum(claimed) if filesize is None else filesize
    data = bytes([8, kind, 0x18]) + write_varint(total) + b"".join(b"\x20" + write_varint(size) for size in claimed)
    block = encode_node([Link(cid, "", 1) for cid, _ in children], data)
    return CID.of(block, codec=DAG_PB, version=0), block


def leaf_of(data: bytes) -> tuple[CID, bytes]:
    """A wrapped leaf."""
    block = encode_leaf(data)
    return CID.of(block, codec=DAG_PB, version=0), block


def assemble(
    root: CID, blocks: Iterable[tuple[CID, bytes]], *, max_bytes: int = 1 << 20, limits: Limits | None = None
) -> bytes | None:
    """Offer blocks in the given order; the bytes, or None if some are missing still."""
    target = MemoryTarget()
    with closing(Assembly(root, target, limits=limits or Limits(max_bytes))) as assembly:
        for cid, block in blocks:
            assembly.offer(cid, block, source="the test")
        if not assembly.complete:
            return None
        data = target.content()
        assert assembly.size == len(data)
        assert assembly.next_wanted() is None
        rebuilt = dict(assembly.skeleton.blocks(root, len(data), lambda at, count: data[at : at + count]))
        assert all(cid.matches(block) for cid, block in rebuilt.items())
        return data
