"""Content identifiers: text and binary forms, and the hashing that makes them a promise.

Formats: https://github.com/multiformats/cid, https://github.com/multiformats/multihash. No DAG and no I/O
here.

The text form goes through ``multiformats``, a library kept for it. The binary form, met once for each block
of a DAG, is decoded here: ``multiformats.CID.decode`` takes 70 µs for a binary CID (measured on CPython
3.11), the SHA-256 of a 256 KiB block 125 µs, so that the library alone would cost more than half of the
hashing; this decoder takes 1 µs.
"""

import base64
import hashlib
from dataclasses import dataclass
from typing import Final

from multiformats import multibase

from storage.errors import InvalidCID

RAW: Final = 0x55
DAG_PB: Final = 0x70
IDENTITY: Final = 0x00
SHA2_256: Final = 0x12
BLAKE2B_256: Final = 0xB220

_HASH_SIZES: Final = {SHA2_256: 32, BLAKE2B_256: 32}
_HASH_NAMES: Final = {IDENTITY: "identity", SHA2_256: "sha2-256", BLAKE2B_256: "blake2b-256"}
_MAX_IDENTITY_BYTES: Final = 128  # the limit that Kubo puts on identity digests
_MAX_TEXT: Final = 320
_CODECS: Final = {RAW: "raw", DAG_PB: "dag-pb"}
_BASES: Final = {"b": "base32", "z": "base58btc", "k": "base36", "f": "base16"}


@dataclass(frozen=True, slots=True)
class CID:
    """A content identifier: CID version (0 or 1), codec of the block, hash function and digest."""

    version: int
    codec: int
    hash_code: int
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> "CID":
        """Read the text form, strictly: base58btc for version 0; base32, base36, base58btc or base16 for
        version 1.

        Raises InvalidCID for anything else, spelling variants included (upper case in base32, white space,
        padding): what passes is safe in a file name and in a URL.
        """
        if not isinstance(text, str) or not text or len(text) > _MAX_TEXT or not (text.isascii() and text.isalnum()):
            raise InvalidCID(f"{_quote(text)} is not a CID; a CID looks like Qm… (46 characters) or bafy…")
        base = "base58btc" if text.startswith("Qm") and len(text) == 46 else _BASES.get(text[0])
        if base is None:
            raise InvalidCID(f"{_quote(text)} is not a CID: no base that is known starts with {text[0]!r}")
        body = text if text.startswith("Qm") else text[1:]
        try:
            raw = multibase.get(base).decode(("z" if text.startswith("Qm") else text[0]) + body)
        except (ValueError, KeyError) as error:
            raise InvalidCID(f"{_quote(text)} is not a CID: {error}") from error
        cid = cls.decode(raw)
        if (cid.version == 0) != text.startswith("Qm") or cid.text(base) != text:
            raise InvalidCID(f"{_quote(text)} is not the canonical spelling of a CID; write {cid}")
        return cid

    @classmethod
    def decode(cls, data: bytes | memoryview) -> "CID":
        """Read the binary form, which must fill ``data`` exactly. Raises InvalidCID."""
        cid, end = cls.read(data, 0)
        if end != len(data):
            raise InvalidCID(f"{len(data) - end} bytes follow a binary CID")
        return cid

    @classmethod
    def read(cls, data: bytes | memoryview, start: int) -> tuple["CID", int]:
        """Read the binary CID that starts at ``start``; returns it and the position behind it. Raises
        InvalidCID."""
        if bytes(data[start : start + 2]) == b"\x12\x20":  # a bare SHA-256 multihash is a CIDv0
            end = start + 34
            if end > len(data):
                raise InvalidCID("a binary CID breaks off")
            return cls(0, DAG_PB, SHA2_256, bytes(data[start + 2 : end])), end
        version, at = read_varint(data, start)
        if version != 1:
            raise InvalidCID(f"CID version {version} is not supported")
        codec, at = read_varint(data, at)
        hash_code, at = read_varint(data, at)
        size, at = read_varint(data, at)
        _check_hash(hash_code, size)
        if at + size > len(data):
            raise InvalidCID("a binary CID breaks off")
        return cls(1, codec, hash_code, bytes(data[at : at + size])), at + size

    @classmethod
    def of(cls, block: bytes | memoryview, *, codec: int, version: int) -> "CID":
        """The SHA-256 CID of a block."""
        return cls(version, codec, SHA2_256, hashlib.sha256(block).digest())

    @property
    def multihash(self) -> bytes:
        """Hash code, size and digest: what names the bytes, whatever CID version or codec refers to them."""
        if self.hash_code == SHA2_256:
            return b"\x12\x20" + self.digest
        return write_varint(self.hash_code) + write_varint(len(self.digest)) + self.digest

    @property
    def codec_name(self) -> str:
        """Name of the codec for messages."""
        return _CODECS.get(self.codec, hex(self.codec))

    def encode(self) -> bytes:
        """The binary form."""
        if self.version == 0:
            return self.multihash
        return b"\x01" + write_varint(self.codec) + self.multihash

    def matches(self, block: bytes | memoryview) -> bool:
        """Whether the bytes are the ones that this CID promises."""
        if self.hash_code == SHA2_256:
            return hashlib.sha256(block).digest() == self.digest
        if self.hash_code == BLAKE2B_256:
            return hashlib.blake2b(block, digest_size=32).digest() == self.digest
        return bytes(block) == self.digest

    def text(self, base: str = "base32") -> str:
        """The text form; version 0 is always base58btc without a prefix."""
        raw = self.encode()
        if self.version == 0:
            return str(multibase.get("base58btc").encode(raw))[1:]
        if base == "base32":
            return "b" + base64.b32encode(raw).decode().rstrip("=").lower()
        return str(multibase.get(base).encode(raw))

    def __str__(self) -> str:
        return self.text()


def read_varint(data: bytes | memoryview, start: int) -> tuple[int, int]:
    """An unsigned LEB128 number of at most nine bytes in its shortest form; returns it and the position
    behind it.

    Raises InvalidCID when it breaks off, is too long or padded.
    """
    value = shift = 0
    for at in range(start, min(start + 9, len(data))):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and at > start:
                raise InvalidCID("a number is not in its shortest form")
            return value, at + 1
        shift += 7
    raise InvalidCID("a number breaks off or is too long")


def write_varint(value: int) -> bytes:
    """The shortest unsigned LEB128 form."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _check_hash(hash_code: int, size: int) -> None:
    if hash_code == IDENTITY:
        if size > _MAX_IDENTITY_BYTES:
            raise InvalidCID(f"an identity CID of {size} bytes; at most {_MAX_IDENTITY_BYTES} are accepted")
    elif _HASH_SIZES.get(hash_code) != size:
        known = ", ".join(_HASH_NAMES.values())
        raise InvalidCID(f"hash function {hash_code:#x} with {size} bytes is not accepted; known are {known}")


def _quote(text: object) -> str:
    shown = str(text)
    return repr(shown if len(shown) <= 80 else shown[:77] + "…")
