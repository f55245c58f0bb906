"""dag-pb: the block format of UnixFS nodes, a protobuf message of links and data.

Format: https://ipld.io/specs/codecs/dag-pb/spec/ (PBNode: 1 Data, 2 Links; PBLink: 1 Hash, 2 Name, 3 Tsize).
What the data of a node means is said by ``storage.unixfs``.

Encoded and decoded by hand for two reasons. The canonical form puts field 2 before field 1 and is strict
about order and repetition, which the protobuf runtime can neither write nor check; and leaves are read as
views of the block, so that a 256 KiB leaf costs 5 µs to take apart instead of a copy of its bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from storage.cid import CID, read_varint, write_varint
from storage.errors import ContentInvalid, InvalidCID

MAX_LINKS: Final = 65_536  # more do not fit into a block that the network would carry
_VARINT: Final = 0
_BYTES: Final = 2
_FIXED_SIZES: Final = {1: 8, 5: 4}


@dataclass(frozen=True, slots=True)
class Link:
    """A link to another block: its CID, its name (empty in files) and the cumulative size that the writer
    claims."""

    cid: CID
    name: str
    tsize: int | None


@dataclass(frozen=True, slots=True)
class Node:
    """A decoded node; ``data`` is a view of the block from ``data_at`` on, or None where the node carries
    none.
    """

    links: tuple[Link, ...]
    data: memoryview | None
    data_at: int


def encode_node(links: Sequence[Link], data: bytes) -> bytes:
    """The canonical bytes of a node with the given links, in the given order, and data."""
    out = bytearray()
    for link in links:
        body = _field(1, link.cid.encode()) + _field(2, link.name.encode())
        if link.tsize is not None:
            body += b"\x18" + write_varint(link.tsize)
        out += _field(2, body)
    out += _field(1, data)
    return bytes(out)


def decode_node(block: bytes | memoryview) -> Node:
    """Take a node apart, strictly. Raises ContentInvalid."""
    links: list[Link] = []
    data: memoryview | None = None
    data_at = 0
    links_done = False
    for number, value, at in fields(memoryview(block)):
        if not isinstance(value, memoryview):
            raise ContentInvalid(f"dag-pb field {number} is a number")
        if number == 2:
            if links_done:
                raise ContentInvalid("dag-pb links are interrupted by data")
            links.append(_link(value))
            if len(links) > MAX_LINKS:
                raise ContentInvalid(f"a dag-pb node with more than {MAX_LINKS} links")
        elif number == 1 and data is None:
            data, data_at = value, at
            links_done = bool(links)
        else:
            raise ContentInvalid(f"dag-pb field {number} is unknown or repeated")
    return Node(tuple(links), data, data_at)


def fields(view: memoryview) -> Iterator[tuple[int, int | memoryview, int]]:
    """The fields of a protobuf message in their order: number, value (bytes as views), position of the value.

    Raises ContentInvalid where the message breaks off or is not protobuf.
    """
    at, end = 0, len(view)
    try:
        while at < end:
            key, at = read_varint(view, at)
            number, wire = key >> 3, key & 7
            if wire == _VARINT:
                start = at
                value, at = _read_uint64(view, at)
                yield number, value, start
                continue
            if wire == _BYTES:
                size, at = read_varint(view, at)
            elif wire in _FIXED_SIZES:
                size = _FIXED_SIZES[wire]
            else:
                raise ContentInvalid(f"protobuf wire type {wire} is not used here")
            if at + size > end:
                raise ContentInvalid("a protobuf field reaches beyond its message")
            yield number, view[at : at + size], at
            at += size
    except InvalidCID as error:
        raise ContentInvalid(f"broken protobuf: {error}") from error


def _link(view: memoryview) -> Link:
    cid: CID | None = None
    name = ""
    tsize: int | None = None
    last = 0
    for number, value, _ in fields(view):
        if number <= last:
            raise ContentInvalid("fields of a dag-pb link are out of order or repeated")
        last = number
        if number == 1 and isinstance(value, memoryview):
            try:
                cid = CID.decode(value)
            except InvalidCID as error:
                raise ContentInvalid(f"a dag-pb link holds no valid CID: {error}") from error
        elif number == 2 and isinstance(value, memoryview):
            try:
                name = str(value, "utf-8")
            except UnicodeDecodeError as error:
                raise ContentInvalid("a name in a folder is not UTF-8") from error
        elif number == 3 and isinstance(value, int):
            tsize = value
        else:
            raise ContentInvalid(f"dag-pb link field {number} is unknown or of the wrong type")
    if cid is None:
        raise ContentInvalid("a dag-pb link without a CID")
    return Link(cid, name, tsize)


def _read_uint64(view: memoryview, start: int) -> tuple[int, int]:
    """Protobuf's numbers may take ten bytes, one more than those of multiformats."""
    value = 0
    for index in range(10):
        if start + index >= len(view):
            break
        byte = view[start + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, start + index + 1
    raise ContentInvalid("a protobuf number breaks off or is too long")


def _field(number: int, body: bytes | bytearray) -> bytes:
    return bytes([number << 3 | _BYTES]) + write_varint(len(body)) + body
