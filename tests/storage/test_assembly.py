"""Files are put together from verified blocks in any order; whatever is wrong with a DAG is noticed."""

from __future__ import annotations

import random
from contextlib import closing, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import ContentInvalid, ContentMismatch, ContentTooLarge, StorageError
from storage.assembly import MAX_BLOCK_BYTES, Assembly, Limits
from storage.cid import CID, DAG_PB, IDENTITY, RAW
from storage.dagpb import Link, encode_node
from storage.targets import MemoryTarget
from storage.unixfs import encode_folder
from tests.storage.dags import SMALL, SMALL_RAW, assemble, dag_of, leaf_of, node_of

DATA = random.Random(3).randbytes(400)


@given(data=st.binary(max_size=300), seed=st.randoms(use_true_random=False), raw=st.booleans())
def test_order_does_not_matter(data: bytes, seed: random.Random, raw: bool) -> None:
    root, blocks = dag_of(data, SMALL_RAW if raw else SMALL)
    shuffled = list(blocks.items())
    seed.shuffle(shuffled)
    assert assemble(root, shuffled) == data


@given(st.lists(st.sampled_from([b"\0" * 16, b"\1" * 16, b"\2" * 16]), max_size=40), st.booleans())
def test_blocks_that_repeat_are_needed_once(chunks: list[bytes], parents_first: bool) -> None:
    data = b"".join(chunks)
    root, blocks = dag_of(data, SMALL)
    order = list(blocks.items())
    assert assemble(root, reversed(order) if parents_first else order) == data


@given(data=st.binary(min_size=1, max_size=120), position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_every_flipped_bit_is_detected(data: bytes, position: int, bit: int) -> None:
    root, blocks = dag_of(data, SMALL)
    whole = b"".join(blocks.values())
    position %= len(whole)
    for cid, block in blocks.items():
        if position < len(block):
            damaged = bytearray(block)
            damaged[position] ^= 1 << bit
            with pytest.raises(ContentMismatch, match=str(cid)):
                assemble(root, {**blocks, cid: bytes(damaged)}.items())
            return
        position -= len(block)
    raise AssertionError("no block was damaged")


@given(data=st.binary(min_size=17, max_size=200), gone=st.integers(0, 100))
def test_a_missing_block_is_asked_for_and_nothing_else(data: bytes, gone: int) -> None:
    root, blocks = dag_of(data, SMALL)
    missing = list(blocks)[gone % len(blocks)]
    target = MemoryTarget()
    with closing(Assembly(root, target, limits=Limits(1000))) as assembly:
        for cid in [root, *blocks]:
            if cid != missing:
                assembly.offer(cid, blocks[cid], source="the test")
        assert not assembly.complete
        assert list(assembly.wanted()) == [missing]
        assert assembly.offer(missing, blocks[missing], source="the test")
        assert assembly.complete and target.content() == data


def test_progress_counts_bytes_and_knows_the_total() -> None:
    root, blocks = dag_of(DATA, SMALL)
    seen: list[tuple[int, int | None]] = []
    progress = lambda done, total: seen.append((done, total))  # noqa: E731
    with closing(Assembly(root, MemoryTarget(), limits=Limits(1000), progress=progress)) as assembly:
        for cid, block in reversed(blocks.items()):
            assembly.offer(cid, block, source="the test")
    assert seen[-1] == (400, 400) and seen == sorted(seen)


def test_a_blocks_wrapping_decides_not_its_order_of_mention() -> None:
    """The same bytes linked as a raw leaf and as a node are two different parts of a file."""
    leaf, block = leaf_of(b"abc")
    as_raw = CID(1, RAW, leaf.hash_code, leaf.digest)
    root, top = node_of([(as_raw, len(block)), (leaf, 3)])
    assert assemble(root, [(root, top), (as_raw, block)]) == block + b"abc"


def test_identity_cids_carry_their_bytes() -> None:
    inline = CID(1, RAW, IDENTITY, b"inline")
    assert assemble(inline, []) == b"inline"
    root, top = node_of([(inline, 6), (inline, 6)])
    assert assemble(root, [(root, top)]) == b"inlineinline"


def test_nodes_may_hold_bytes_of_their_own() -> None:
    leaf, block = leaf_of(b"tail")
    data = b"\x08\x02\x12\x04head\x18\x08\x20\x04"
    top = encode_node([Link(leaf, "", len(block))], data)
    root = CID.of(top, codec=DAG_PB, version=0)
    assert assemble(root, [(root, top), (leaf, block)]) == b"headtail"


LEAF, LEAF_BLOCK = leaf_of(b"abcd")
FOLDER = encode_folder([])


@pytest.mark.parametrize(
    ("root", "words"),
    [
        (node_of([(LEAF, 4)], filesize=5), "claims 5 bytes"),
        (node_of([(LEAF, 5)]), "claims 5 bytes and has 4"),
        (node_of([(LEAF, 4), (LEAF, 4)], sizes=[4]), "2 links but gives the sizes of 1"),
        (node_of([(LEAF, 0)]), "part of no bytes"),
        (node_of([(LEAF, 4)], kind=1), "a folder, not a file"),
        (node_of([(LEAF, 4)], kind=4), "a symbolic link"),
        (node_of([(LEAF, 4)], kind=5), "folder, not a file"),
        (node_of([(LEAF, 4)], kind=9), "unknown"),
        ((CID.of(FOLDER, codec=DAG_PB, version=0), FOLDER), "a folder, not a file"),
        ((CID.of(b"\xff\xff", codec=DAG_PB, version=0), b"\xff\xff"), "not a UnixFS file"),
        ((CID.of(b"", codec=DAG_PB, version=0), b""), "no UnixFS data"),
        ((CID.of(b"{}", codec=0x0129, version=1), b"{}"), "files and folders are dag-pb or raw"),
    ],
)
def test_content_that_is_no_honest_file_is_refused_for_good(root: tuple[CID, bytes], words: str) -> None:
    with pytest.raises(ContentInvalid, match=words) as refusal:
        assemble(root[0], [root, (LEAF, LEAF_BLOCK)])
    assert not refusal.value.transient


def test_size_is_refused_before_anything_is_fetched() -> None:
    root, block = node_of([(LEAF, 2**50)])
    with pytest.raises(ContentTooLarge, match="at most 1048576"):
        assemble(root, [(root, block)])


def test_a_tiny_dag_that_expands_enormously_is_refused_early() -> None:
    """Fifteen blocks that say they are 4^14 bytes, in agreement with each other."""
    cid, block = leaf_of(b"x")
    chain, size = [(cid, block)], 1
    for _ in range(14):
        cid, block = node_of([(cid, size)] * 4)
        size *= 4
        chain.append((cid, block))
    with pytest.raises(ContentTooLarge):
        assemble(cid, reversed(chain), max_bytes=size - 1)
    with pytest.raises(ContentInvalid, match="more than 1000 parts"):
        assemble(cid, reversed(chain), limits=Limits(size, max_parts=1000))


def test_depth_is_limited() -> None:
    cid, block = leaf_of(b"x")
    chain = [(cid, block)]
    for _ in range(40):
        cid, block = node_of([(cid, 1)])
        chain.append((cid, block))
    with pytest.raises(ContentInvalid, match="levels deep"):
        assemble(cid, reversed(chain))


def test_a_block_that_is_too_large_is_not_even_hashed() -> None:
    huge = bytes(MAX_BLOCK_BYTES + 1)
    with pytest.raises(ContentMismatch, match="at most"):
        assemble(CID.of(huge, codec=RAW, version=1), [(CID.of(huge, codec=RAW, version=1), huge)])


def test_what_nobody_asked_for_is_kept_aside_within_bounds() -> None:
    root, blocks = dag_of(DATA, SMALL)
    order = sorted(blocks.items(), key=lambda item: item[0] == root)
    assert assemble(root, order, limits=Limits(1000, spool_bytes=10_000)) == DATA
    assert assemble(root, order, limits=Limits(1000, spool_bytes=100)) is None


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_no_block_crashes_the_reader(block: bytes) -> None:
    cid = CID.of(block, codec=DAG_PB, version=0)
    with suppress(StorageError):
        assemble(cid, [(cid, block)])


@settings(max_examples=300)
@given(data=st.binary(min_size=20, max_size=200), cut=st.integers(0, 200), junk=st.binary(max_size=4))
def test_no_mutated_node_crashes_the_reader(data: bytes, cut: int, junk: bytes) -> None:
    root, blocks = dag_of(data, SMALL)
    block = blocks[root]
    mutated = block[: cut % len(block)] + junk + block[cut % len(block) + len(junk) :]
    cid = CID.of(mutated, codec=DAG_PB, version=0)
    with suppress(StorageError):
        assemble(cid, [(cid, mutated), *blocks.items()])
