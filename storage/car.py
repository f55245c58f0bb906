"""CAR version 1: blocks of a DAG one after the other, read and written as a stream.

Format: https://ipld.io/specs/transport/car/carv1/. A section is a varint length, a binary CID and the block.
The reader believes nothing: it hands out what is there, and whoever uses a block hashes it first. Roots in
the header are not looked at, since the reader knows which DAG it asked for.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from storage.assembly import MAX_BLOCK_BYTES
from storage.cid import CID, read_varint, write_varint
from storage.errors import InvalidCID, SourceUnavailable

MEDIA_TYPE: Final = "application/vnd.ipld.car"
_MAX_HEADER_BYTES: Final = 65_536
_MAX_SECTION_BYTES: Final = MAX_BLOCK_BYTES + 256
_VERSION_1: Final = b"\x67version\x01"


class CarError(SourceUnavailable):
    """The stream is no CAR, or it breaks off in the middle; whoever sent it may do better next time."""


def header(root: CID) -> bytes:
    """The header of a CAR with one root, in canonical DAG-CBOR."""
    link = b"\x00" + root.encode()
    body = b"\xa2\x65roots\x81\xd8\x2a\x58" + bytes([len(link)]) + link + _VERSION_1
    return write_varint(len(body)) + body


def section(cid: CID, block: bytes) -> bytes:
    """One block with its CID and length."""
    name = cid.encode()
    return b"".join((write_varint(len(name) + len(block)), name, block))


def read_car(chunks: Iterable[bytes]) -> Iterator[tuple[CID, memoryview]]:
    """The sections of a CAR that arrives in chunks of any size; ends where the stream ends between two
    sections.

    An end is no proof of completeness: a node that fails half-way may end its answer cleanly. Memory is one
    section and one chunk. Raises CarError.
    """
    stream = _Stream(chunks)
    size = stream.varint()
    if size is None:
        raise CarError("an empty answer instead of a CAR")
    if size > _MAX_HEADER_BYTES or _VERSION_1 not in bytes(stream.take(size)):
        raise CarError("the answer is not a CAR of version 1")
    while (size := stream.varint()) is not None:
        if not 0 < size <= _MAX_SECTION_BYTES:
            raise CarError(f"a CAR section of {size} bytes; at most {_MAX_SECTION_BYTES} are read")
        body = stream.take(size)
        try:
            cid, at = CID.read(body, 0)
        except InvalidCID as error:
            raise CarError(f"a CAR section without a valid CID: {error}") from error
        yield cid, body[at:]


class _Stream:
    """Exact reads over chunks; a read that lies within one chunk is a view of it."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._view = memoryview(b"")

    def varint(self) -> int | None:
        """The next number, or None at the end of the stream."""
        raw = bytearray()
        while not raw or raw[-1] & 0x80:
            if not self._view and not self._fill():
                if raw:
                    raise CarError("the CAR breaks off in the middle of a length")
                return None
            raw.append(self._view[0])
            self._view = self._view[1:]
            if len(raw) > 9:
                raise CarError("the answer is not a CAR: a length of more than nine bytes")
        try:
            return read_varint(bytes(raw), 0)[0]
        except InvalidCID as error:
            raise CarError(f"the answer is not a CAR: {error}") from error

    def take(self, size: int) -> memoryview:
        """Exactly ``size`` bytes."""
        if len(self._view) >= size:
            out, self._view = self._view[:size], self._view[size:]
            return out
        parts = [self._view]
        missing = size - len(self._view)
        while missing:
            if not self._fill():
                raise CarError(f"the CAR breaks off {missing} bytes before the end of a section")
            part = self._view[:missing]
            parts.append(part)
            self._view = self._view[len(part) :]
            missing -= len(part)
        return memoryview(b"".join(parts))

    def _fill(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._view = memoryview(chunk)
                return True
        return False
