"""CIDs: known vectors, strict text, and agreement with the multiformats library."""

from __future__ import annotations

import hashlib

import multiformats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import InvalidCID
from storage.cid import BLAKE2B_256, CID, DAG_PB, IDENTITY, RAW, SHA2_256, read_varint, write_varint

HELLO = "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"
HELLO_RAW = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"

cids = st.builds(
    CID,
    st.just(1),
    st.sampled_from([RAW, DAG_PB]),
    st.sampled_from([SHA2_256, BLAKE2B_256]),
    st.binary(min_size=32, max_size=32),
) | st.builds(CID, st.just(0), st.just(DAG_PB), st.just(SHA2_256), st.binary(min_size=32, max_size=32))


@pytest.mark.parametrize("text", [HELLO, HELLO_RAW])
def test_known_texts_read_back(text: str) -> None:
    cid = CID.parse(text)
    assert str(cid) == text
    assert CID.decode(cid.encode()) == cid


def test_raw_cid_is_the_sha256_of_the_bytes() -> None:
    assert CID.parse(HELLO_RAW).digest == hashlib.sha256(b"hello world").digest()
    assert CID.parse(HELLO_RAW).matches(b"hello world")
    assert not CID.parse(HELLO_RAW).matches(b"hello worlD")


@given(cids)
def test_text_and_bytes_agree_with_multiformats(cid: CID) -> None:
    theirs = multiformats.CID.decode(str(cid))
    assert bytes(theirs) == cid.encode()
    assert CID.parse(str(cid)) == cid
    assert CID.decode(cid.encode()) == cid
    if cid.version == 1:
        for base in ("base36", "base58btc", "base16"):
            assert CID.parse(cid.text(base)) == cid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Qm",
        HELLO[:-1],
        HELLO + "A",
        HELLO.replace("f", "0", 1),
        " " + HELLO,
        HELLO + "\n",
        "../" + HELLO,
        HELLO + "/x",
        HELLO_RAW.upper(),
        HELLO_RAW[:-1] + "E",
        HELLO_RAW + "=",
        HELLO_RAW[:-2],
        "z" + HELLO,
        "b" + "a" * 400,
        "bafkreı" + HELLO_RAW[7:],
        CID(1, RAW, SHA2_256, bytes(32)).text()[:-1] + "b",
        "f01701220" + "00" * 32 + "00",
    ],
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(InvalidCID):
        CID.parse(text)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x12\x20" + bytes(31),
        b"\x01\x55\x12\x20" + bytes(31),
        b"\x01\x55\x12\x1f" + bytes(31),  # a shortened SHA-256 is no promise worth having
        b"\x01\x55\x13\x20" + bytes(32),
        b"\x02\x55\x12\x20" + bytes(32),
        b"\x01\xd5\x00\x12\x20" + bytes(32),
        b"\x01\x55\x12\x20" + bytes(33),
        b"\x01\x55\x00\xff\x01" + bytes(255),
        b"\x80" * 12,
    ],
)
def test_broken_binary_cids_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidCID):
        CID.decode(data)


def test_identity_and_blake2b_verify() -> None:
    assert CID(1, RAW, IDENTITY, b"abc").matches(b"abc")
    assert not CID(1, RAW, IDENTITY, b"abc").matches(b"abd")
    digest = hashlib.blake2b(b"abc", digest_size=32).digest()
    assert CID(1, RAW, BLAKE2B_256, digest).matches(b"abc")
    assert not CID(1, RAW, BLAKE2B_256, digest).matches(b"abd")


@given(st.integers(0, 2**63 - 1))
def test_numbers_read_back(value: int) -> None:
    assert read_varint(write_varint(value), 0) == (value, len(write_varint(value)))


@given(st.text(max_size=80))
def test_no_text_crashes_the_parser(text: str) -> None:
    try:
        cid = CID.parse(text)
    except InvalidCID:
        return
    assert CID.parse(str(cid)) == cid
