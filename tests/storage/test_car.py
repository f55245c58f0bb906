"""CARs are read as streams of any chunking; truncation and damage never pass for content."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import StorageError
from storage.car import CarError, header, read_car, section
from tests.storage.dags import SMALL, assemble, dag_of


def car_of(data: bytes) -> bytes:
    root, blocks = dag_of(data, SMALL)
    return header(root) + b"".join(section(cid, block) for cid, block in reversed(blocks.items()))


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@given(data=st.binary(max_size=200), size=st.integers(1, 300))
def test_chunking_does_not_matter(data: bytes, size: int) -> None:
    root, blocks = dag_of(data, SMALL)
    sections = [(cid, bytes(block)) for cid, block in read_car(pieces(car_of(data), size))]
    assert sections == list(reversed(blocks.items()))
    assert assemble(root, sections) == data


def test_header_is_canonical_dag_cbor() -> None:
    root, _ = dag_of(b"hello world")
    assert header(root).hex() == ("38a265726f6f747381d82a58230012" + root.encode()[1:].hex() + "6776657273696f6e01")


@given(data=st.binary(min_size=1, max_size=200), cut=st.integers(0, 10**6))
def test_truncation_is_an_error_or_leaves_the_file_incomplete(data: bytes, cut: int) -> None:
    root, _ = dag_of(data, SMALL)
    whole = car_of(data)
    try:
        got = assemble(root, ((cid, bytes(block)) for cid, block in read_car([whole[: cut % len(whole)]])))
    except CarError as error:
        assert error.transient
    else:
        assert got is None


@settings(max_examples=400)
@given(data=st.binary(min_size=1, max_size=120), position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_every_flipped_bit_is_detected_or_harmless(data: bytes, position: int, bit: int) -> None:
    """A flip in the header or in a CID may lose a block or change the version; it never changes the bytes."""
    root, _ = dag_of(data, SMALL)
    damaged = bytearray(car_of(data))
    damaged[position % len(damaged)] ^= 1 << bit
    try:
        got = assemble(root, ((cid, bytes(block)) for cid, block in read_car([bytes(damaged)])))
    except StorageError:
        return
    assert got in (None, data)
    if got == data:
        assert position % len(damaged) < len(header(root))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty answer"),
        (b"<html>404</html>", "CAR"),
        (b'{"Message": "no"}', "CAR"),
        (bytes.fromhex("0aa16776657273696f6e02"), "version 1"),
        (b"\xff" * 20, "nine bytes"),
        (header(dag_of(b"x")[0]) + b"\x00", "section of 0 bytes"),
        (header(dag_of(b"x")[0]) + b"\xff\xff\xff\x7f", "at most"),
        (header(dag_of(b"x")[0]) + b"\x05abcde", "valid CID"),
        (header(dag_of(b"x")[0]) + b"\x80", "breaks off"),
    ],
)
def test_other_streams_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(CarError, match=words):
        list(read_car([data]))
