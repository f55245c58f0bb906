"""Zip archives from strangers: the list of members is checked before one of them is unpacked.

Here lives what makes a zip safe to read: known member names only (so no traversal), none of them twice, none
encrypted or packed with a rare method, no overlaps, and no more bytes than declared and allowed. What the
members mean is not decided here. Format: PKWARE APPNOTE 6.3, through zipfile.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tasks.errors import InvalidContent

SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
MAX_MEMBERS = 10_000
MAX_EXPANSION = 1_100  # deflate cannot pack better than 1,032 to 1, so more is a lie
_COPY_BYTES = 2**20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Archive:
    """An opened zip whose list of members has been checked. Made by `open_archive` only."""

    def __init__(self, handle: zipfile.ZipFile, place: str) -> None:
        self._handle = handle
        self.place = place

    @property
    def names(self) -> list[str]:
        """The names of the members."""
        return self._handle.namelist()

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """One member as a whole. Raises InvalidContent if it is missing, too large or damaged."""
        info = self._info(name)
        if info.file_size > max_bytes:
            raise self._refuse("zip-bomb", name, f"unpacks to {info.file_size:,} bytes; at most {max_bytes:,} are read")
        return b"".join(self._chunks(info))

    def extract(self, name: str, into: Path, *, max_bytes: int) -> None:
        """One member, copied piece by piece to the file `into`, whose name does not come from the archive."""
        info = self._info(name)
        if info.file_size > max_bytes:
            raise self._refuse("zip-bomb", name, f"unpacks to {info.file_size:,} bytes; at most {max_bytes:,} are read")
        with into.open("xb") as target:
            for chunk in self._chunks(info):
                target.write(chunk)

    def _info(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._handle.getinfo(name)
        except KeyError as error:
            raise self._refuse("zip-missing", name, "there is no such member in the archive") from error

    def _chunks(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        total = 0
        try:
            with self._handle.open(info) as member:
                while chunk := member.read(_COPY_BYTES):
                    total += len(chunk)
                    if total > info.file_size:
                        raise self._refuse("zip-bomb", info.filename, "holds more bytes than it declares")
                    yield chunk
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            RuntimeError,
            NotImplementedError,
        ) as error:
            raise self._refuse("zip-damaged", info.filename, f"cannot be unpacked: {error!s:.200}") from error
        if total != info.file_size:
            raise self._refuse("zip-damaged", info.filename, "is shorter than it declares")

    def _refuse(self, rule: str, name: str, sentence: str) -> InvalidContent:
        return InvalidContent(rule, f"{self.place}:{name[:200]}", sentence)


@contextmanager
def open_archive(source: Path | BinaryIO, *, place: str, allowed: Collection[str]) -> Iterator[Archive]:
    """Open a zip and check its list of members; nothing is unpacked.

    `allowed` are the member names that may occur. Raises InvalidContent for an archive that is damaged or
    breaks a rule.
    """
    try:
        handle = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, UnicodeError) as error:
        raise InvalidContent("zip-damaged", place, f"the zip cannot be opened: {error!s:.200}") from error
    with handle:
        _check_members(handle, place, allowed)
        yield Archive(handle, place)


def _check_members(handle: zipfile.ZipFile, place: str, allowed: Collection[str]) -> None:
    members = handle.infolist()
    if len(members) > MAX_MEMBERS:
        raise InvalidContent("zip-too-complex", place, f"{len(members)} members; at most {MAX_MEMBERS}")
    seen: set[str] = set()
    end_of_last = 0
    for info in sorted(members, key=lambda member: member.header_offset):
        where = f"{place}:{info.filename[:200]}"
        if info.filename in seen:
            raise InvalidContent("zip-duplicate", where, "the archive has this member twice")
        seen.add(info.filename)
        if info.filename not in allowed:
            raise InvalidContent(
                "zip-member", where, f"not one of the members that belong here: {', '.join(sorted(allowed))}"
            )
        if info.flag_bits & 0x1 or info.compress_type not in _METHODS:
            raise InvalidContent("zip-member", where, "encrypted, or packed with a rare method")
        if info.file_size > MAX_EXPANSION * max(1, info.compress_size):
            raise InvalidContent("zip-bomb", where, f"{info.file_size:,} bytes packed into {info.compress_size:,}")
        if info.header_offset < end_of_last:
            raise InvalidContent("zip-overlap", where, "shares its bytes with another member")
        end_of_last = info.header_offset + info.compress_size
