"""Reading ``multipart/form-data`` as a stream: parts of any size in bounded memory.

Format: https://www.rfc-editor.org/rfc/rfc7578 with the conventions of Kubo's ``add``: a part's file name
may be a path, percent-encoded, and folders are parts of the type ``application/x-directory``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from typing import BinaryIO, Final
from urllib.parse import unquote

FOLDER_TYPE: Final = "application/x-directory"
_READ_BYTES: Final = 262_144
_MAX_HEAD_BYTES: Final = 16_384
_MAX_PARTS: Final = 100_000
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,70}")


class BrokenUpload(ValueError):
    """The request's body is not the multipart document that its head announces."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its file name (a relative path, or empty), its type, and its bytes, to be read before the
    next part."""

    name: str
    content_type: str
    body: "PartBody"


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type header names. Raises BrokenUpload."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_maintype() != "multipart" or not isinstance(boundary, str):
        raise BrokenUpload("the request carries no multipart/form-data with a file")
    if not _BOUNDARY.fullmatch(boundary):
        raise BrokenUpload("the multipart boundary is malformed")
    return boundary.encode("ascii")


def read_parts(stream: BinaryIO, boundary: bytes) -> Iterator[Part]:
    """The parts of a body in their order. Raises BrokenUpload."""
    buffer = _Buffer(stream)
    delimiter = b"\r\n--" + boundary
    buffer.push(b"\r\n")  # so that the first boundary, which begins the body, looks like the others
    for _ in buffer.until(delimiter):
        pass  # a preamble is to be ignored
    for _ in range(_MAX_PARTS):
        if buffer.take(2) == b"--":
            return
        head = b"".join(buffer.until(b"\r\n\r\n", limit=_MAX_HEAD_BYTES))
        headers = BytesHeaderParser().parsebytes(head)
        body = PartBody(buffer.until(delimiter))
        yield Part(_name_of(headers), headers.get_content_type(), body)
        body.drain()
    raise BrokenUpload(f"more than {_MAX_PARTS} parts in one upload")


class PartBody:
    """The bytes of a part as a file that can be read once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes (all without one); fewer only at the end of the part."""
        parts = [self._rest]
        have = len(self._rest)
        while size < 0 or have < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts)
        if size < 0:
            size = len(data)
        self._rest = data[size:]
        return data[:size]

    def drain(self) -> None:
        """Skip what was not read."""
        for _ in self._chunks:
            pass


class _Buffer:
    """Bytes of a stream that end at given marks."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._data = b""

    def push(self, data: bytes) -> None:
        self._data = data + self._data

    def take(self, size: int) -> bytes:
        while len(self._data) < size:
            self._fill()
        out, self._data = self._data[:size], self._data[size:]
        return out

    def until(self, mark: bytes, limit: int | None = None) -> Iterator[bytes]:
        """Everything before the mark, which is skipped; at most ``limit`` bytes."""
        passed = 0
        while True:
            at = self._data.find(mark)
            # Without the mark, as many bytes are held back as its beginning may take.
            end = at if at >= 0 else max(0, len(self._data) - len(mark) + 1)
            passed += end
            if limit is not None and passed > limit:
                raise BrokenUpload("the head of a part is too large")
            if end:
                yield self._data[:end]
            if at >= 0:
                self._data = self._data[at + len(mark) :]
                return
            self._data = self._data[end:]
            self._fill()

    def _fill(self) -> None:
        more = self._stream.read(_READ_BYTES)
        if not more:
            raise BrokenUpload("the upload breaks off before its last boundary")
        self._data += more


def _name_of(headers: Message) -> str:
    """The path in the Content-Disposition, without anything that could lead elsewhere. Raises
    BrokenUpload."""
    name = unquote(headers.get_filename() or "")
    parts = [part for part in name.split("/") if part]
    if any(part in {".", ".."} or "\0" in part for part in parts):
        raise BrokenUpload(f"{name!r} is no name for a file in an upload")
    return "/".join(parts)
