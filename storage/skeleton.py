"""Everything of a file's DAG but the bytes of the file: what it takes to check the file against its CID
later.

A CID names a DAG, and the same bytes have as many CIDs as there are ways to cut them. Whoever keeps only the
file could never verify it again. So the skeleton keeps, for each block, what stands before and after the
file's bytes in it (links, sizes, wrapping): with it the blocks can be rebuilt from the file at the speed of
hashing, and compared with the CID down from the root. Nothing in a skeleton is trusted; a wrong one only
makes the comparison fail.

Encoding: ``fitchain-dag-1\\n``, then for each block four fields, each a varint length and bytes: binary CID,
head, tail, and the varint of the body's size. A 4 GiB file in chunks of 256 KiB has a skeleton of 1.8 MB.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from storage.cid import CID, read_varint, write_varint
from storage.errors import ContentInvalid, ContentMismatch, InvalidCID
from storage.unixfs import FileNode, file_node

_MAGIC: Final = b"fitchain-dag-1\n"
ReadAt = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class _Frame:
    head: bytes
    tail: bytes
    body_size: int


class Skeleton:
    """The frames of a DAG's blocks, by codec and multihash."""

    def __init__(self) -> None:
        self._frames: dict[tuple[int, bytes], _Frame] = {}
        self._cids: list[CID] = []

    def add(self, cid: CID, block: bytes | memoryview, node: FileNode) -> None:
        """Note a verified block."""
        end = node.body_at + len(node.body)
        self._put(cid, _Frame(bytes(block[: node.body_at]), bytes(block[end:]), len(node.body)))

    def blocks(self, root: CID, size: int, read_at: ReadAt) -> Iterator[tuple[CID, bytes]]:
        """Rebuild the DAG's blocks from the file, in the order of the file, and verify every byte of it.

        ``read_at(offset, count)`` reads the file of ``size`` bytes. Raises ContentMismatch where file or
        skeleton differ from what the root's CID promises.
        """
        todo = [(root, 0)]
        covered = 0
        while todo:
            cid, offset = todo.pop()
            frame = self._frames.get((cid.codec, cid.multihash))
            if frame is None:
                raise ContentMismatch(f"{root}: the skeleton lacks block {cid}")
            body = read_at(offset, frame.body_size) if frame.body_size else b""
            block = b"".join((frame.head, body, frame.tail)) if frame.head or frame.tail else body
            if not cid.matches(block):
                raise ContentMismatch(f"{root}: the bytes from {offset} on are not those of block {cid}")
            try:
                node = file_node(cid, block)
            except ContentInvalid as error:
                raise ContentMismatch(f"{root}: {error}") from error
            if cid == root and node.size != size:
                raise ContentMismatch(f"{root} has {node.size} bytes, the file has {size}")
            covered += frame.body_size
            yield cid, block
            offset += frame.body_size
            placed: list[tuple[CID, int]] = []
            for child, part in node.children:
                placed.append((child, offset))
                offset += part
            todo.extend(reversed(placed))
        if covered != size:
            raise ContentMismatch(f"{root} accounts for {covered} of the file's {size} bytes")

    def encode(self) -> bytes:
        """The bytes to keep beside the file."""
        out = bytearray(_MAGIC)
        for cid in self._cids:
            frame = self._frames[(cid.codec, cid.multihash)]
            for field in (cid.encode(), frame.head, frame.tail):
                out += write_varint(len(field)) + field
            out += write_varint(frame.body_size)
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes) -> "Skeleton":
        """Read it back. Raises ContentMismatch for bytes that are no skeleton."""
        if not data.startswith(_MAGIC):
            raise ContentMismatch("the skeleton beside a stored file is damaged")
        out = cls()
        at = len(_MAGIC)
        try:
            while at < len(data):
                fields: list[bytes] = []
                for _ in range(3):
                    size, at = read_varint(data, at)
                    fields.append(data[at : at + size])
                    at += size
                body_size, at = read_varint(data, at)
                out._put(CID.decode(fields[0]), _Frame(fields[1], fields[2], body_size))
        except InvalidCID as error:
            raise ContentMismatch(f"the skeleton beside a stored file is damaged: {error}") from error
        return out

    def _put(self, cid: CID, frame: _Frame) -> None:
        key = (cid.codec, cid.multihash)
        if key not in self._frames:
            self._cids.append(cid)
        self._frames[key] = frame
