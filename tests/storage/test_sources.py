"""What a node or gateway does wrong ends in a clear error in time, or in the right bytes from another."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from storage import (
    IPFS,
    ContentMismatch,
    ContentNotFound,
    SourceUnavailable,
    StorageError,
    StorageSettings,
)
from storage.cid import CID, RAW
from storage.deadline import Deadline
from storage.gateways import Gateway
from storage.importer import Profile
from storage.rpc import RpcNode
from storage.sources import RemoteSource
from tests.storage.dags import dag_of
from tests.storage.faulty import Fault, FaultyNode, faulty_node
from tests.storage.ports import free_port

DATA = random.Random(5).randbytes(700_000)
ROOT, BLOCKS = dag_of(DATA, Profile("test", 50_000, 5, 0, raw_leaves=False))
DEADLINE_SECONDS = 3.0

HARMLESS = [Fault.NONE, Fault.REVERSED, Fault.DUPLICATES, Fault.MISSING_BLOCK, Fault.ENDS_CLEANLY_HALFWAY]
HARMFUL = {
    Fault.WRONG_BYTES: ContentMismatch,
    Fault.WRONG_BLOCK: ContentMismatch,
    Fault.OVERSIZE_BLOCK: SourceUnavailable,
    Fault.SILENT: SourceUnavailable,
    Fault.DRIPS: SourceUnavailable,
    Fault.DRIPS_HEAD: SourceUnavailable,
    Fault.ENDLESS: SourceUnavailable,
    Fault.REDIRECTS: SourceUnavailable,
    Fault.FAILS: SourceUnavailable,
    Fault.NOT_FOUND: ContentNotFound,
    Fault.NONSENSE: SourceUnavailable,
    Fault.GIANT_CHUNK: SourceUnavailable,
}


def reader(tmp_path: Path, node: FaultyNode, kind: str, *gateways: str) -> IPFS:
    """A reader that asks the node, by RPC or as a gateway behind an empty store, and then other gateways."""
    settings = StorageSettings(
        ipfs_api=node.url if kind == "rpc" else "",
        ipfs_store=tmp_path / "empty",
        ipfs_gateways=(node.url, *gateways) if kind == "gateway" else gateways,
        ipfs_timeout_seconds=1.0,
    )
    return IPFS(settings=settings)


@pytest.mark.parametrize("kind", ["rpc", "gateway"])
@pytest.mark.parametrize("fault", HARMLESS)
def test_what_blocks_alone_can_repair_ends_in_the_right_bytes(fault: Fault, kind: str, tmp_path: Path) -> None:
    with faulty_node(ROOT, BLOCKS, fault) as node:
        assert reader(tmp_path, node, kind).get(str(ROOT)) == DATA


@pytest.mark.parametrize("kind", ["rpc", "gateway"])
@pytest.mark.parametrize("fault", HARMFUL)
def test_the_rest_ends_in_a_clear_error_in_time(fault: Fault, kind: str, tmp_path: Path) -> None:
    with faulty_node(ROOT, BLOCKS, fault) as node:
        begin = time.monotonic()
        with pytest.raises(StorageError) as failure:
            reader(tmp_path, node, kind).get(str(ROOT), max_bytes=1 << 20, deadline_seconds=DEADLINE_SECONDS)
        assert time.monotonic() - begin < DEADLINE_SECONDS + 2
    expected = HARMFUL[fault]
    assert isinstance(failure.value, expected), failure.value
    assert failure.value.transient
    assert str(ROOT) in str(failure.value) or node.url in str(failure.value)


@pytest.mark.parametrize("fault", HARMFUL)
def test_the_next_source_gives_the_right_bytes(fault: Fault, tmp_path: Path) -> None:
    with faulty_node(ROOT, BLOCKS, fault) as bad, faulty_node(ROOT, BLOCKS, Fault.NONE) as good:
        ipfs = reader(tmp_path, bad, "rpc", good.url)
        assert ipfs.get(str(ROOT), max_bytes=1 << 20, deadline_seconds=10) == DATA


@pytest.mark.parametrize("kind", ["rpc", "gateway"])
def test_redirects_are_not_followed_even_to_the_right_bytes(kind: str, tmp_path: Path) -> None:
    """A source that could send the reader elsewhere could send it to services inside the operator's network."""
    with faulty_node(ROOT, BLOCKS, Fault.NONE) as inside, faulty_node(ROOT, BLOCKS, Fault.REDIRECTS) as node:
        node.redirect_to = inside.url
        with pytest.raises(SourceUnavailable, match="redirects elsewhere"):
            reader(tmp_path, node, kind).get(str(ROOT))
        assert inside.asked == []


@pytest.mark.parametrize("source", [RpcNode, Gateway])
def test_answers_are_read_in_small_pieces_however_they_are_sent(source: type[RemoteSource]) -> None:
    data = bytes(2_000_000)
    cid = CID.of(data, codec=RAW, version=1)
    for fault in (Fault.ONE_CHUNK, Fault.WITH_LENGTH):
        with faulty_node(cid, {cid: data}, fault) as node:
            deadline = Deadline.after(10, idle_seconds=5)
            with source(node.url).car(cid, deadline) as chunks:  # type: ignore[call-arg]
                sizes = [len(chunk) for chunk in chunks]
        assert sum(sizes) > len(data) and max(sizes) <= 262_144


def test_mismatch_names_cid_and_source(tmp_path: Path) -> None:
    with faulty_node(ROOT, BLOCKS, Fault.WRONG_BYTES) as node, pytest.raises(ContentMismatch) as failure:
        reader(tmp_path, node, "rpc").get(str(ROOT))
    assert node.url in str(failure.value)
    assert any(str(cid) in str(failure.value) for cid in BLOCKS)


@pytest.mark.parametrize("kind", ["rpc", "gateway"])
def test_a_broken_connection_is_taken_up_without_fetching_verified_blocks_again(kind: str, tmp_path: Path) -> None:
    with faulty_node(ROOT, BLOCKS, Fault.CUTS_CONNECTION_ONCE) as node:
        assert reader(tmp_path, node, kind).get(str(ROOT)) == DATA
        first, *rest = node.asked
    assert str(ROOT) in first
    assert rest and len(rest) < len(BLOCKS)
    assert all(str(ROOT) not in request for request in rest)
    assert len(set(rest)) == len(rest)


def test_each_source_gives_what_it_has(tmp_path: Path) -> None:
    """Two nodes with half of the blocks each, and neither knows all."""
    leaves = [cid for cid in BLOCKS if cid != ROOT]
    first = {cid: BLOCKS[cid] for cid in [*leaves[::2], ROOT]}
    second = {cid: BLOCKS[cid] for cid in [*leaves[1::2], ROOT]}
    with faulty_node(ROOT, first, Fault.NONE) as one, faulty_node(ROOT, second, Fault.NONE) as other:
        assert reader(tmp_path, one, "rpc", other.url).get(str(ROOT)) == DATA


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="does not answer; start it"):
        IPFS(f"http://127.0.0.1:{free_port()}").get(str(ROOT))
    with pytest.raises(SourceUnavailable, match="does not answer; start it"):
        IPFS(f"/ip4/127.0.0.1/tcp/{free_port()}").ping()


@pytest.mark.parametrize("address", ["http://", "ftp://x", "http://host:99999999", "http://host/some/path"])
def test_addresses_that_make_no_sense_are_refused_at_once(address: str) -> None:
    with pytest.raises(SourceUnavailable, match="no address of an IPFS node"):
        IPFS(address)


def test_passwords_in_addresses_are_not_shown() -> None:
    assert "secret" not in repr(IPFS("http://user:secret@127.0.0.1:5001"))


def test_a_resolved_file_is_not_visible_before_it_is_complete(tmp_path: Path) -> None:
    into = tmp_path / "out" / "model.h5"
    with faulty_node(ROOT, BLOCKS, Fault.NOT_FOUND) as node, pytest.raises(ContentNotFound):
        reader(tmp_path, node, "rpc").fetch(str(ROOT), into)
    assert list(into.parent.iterdir()) == []
    with faulty_node(ROOT, BLOCKS, Fault.NONE) as node:
        assert reader(tmp_path, node, "rpc").fetch(str(ROOT), into) == len(DATA)
    assert into.read_bytes() == DATA
    assert [entry.name for entry in into.parent.iterdir()] == ["model.h5"]
