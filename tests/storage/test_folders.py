"""Folders are read entry by entry, sharded ones too; names that lead elsewhere never reach a file system."""

from __future__ import annotations

import random
from pathlib import Path
from urllib.parse import urlsplit

import ipfshttpclient
import pytest

from storage import IPFS, ContentInvalid, ContentNotFound, ContentTooLarge, StorageError
from storage.blocks import BlockStore
from storage.cid import CID, DAG_PB, RAW, write_varint
from storage.dagpb import Link, encode_node
from storage.folders import read_folder
from storage.unixfs import encode_folder
from tests.storage.dags import Blocks

FILE = CID.of(b"x", codec=RAW, version=1)


def tree(folder: Path, seed: int = 1) -> dict[str, bytes]:
    """Random files in random folders; returns them by path."""
    rng = random.Random(seed)
    files = {}
    for number in range(30):
        parts = [f"dir {rng.randrange(3)}" for _ in range(rng.randrange(4))]
        path = "/".join([*parts, rng.choice(["a", "Z", ".hidden", "ü"]) + str(number)])
        files[path] = rng.randbytes(rng.randrange(400_000))
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(files[path])
    return files


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["folder", "rpc"])
def test_folders_come_back_as_they_were(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    ipfs = IPFS(f"file://{tmp_path / 'store'}" if kind == "folder" else request.getfixturevalue("node_url"))
    files = tree(tmp_path / "tree")
    (tmp_path / "tree" / "empty").mkdir()
    cid = ipfs.store_file(tmp_path / "tree")
    assert [entry.name for entry in ipfs.ls(cid)] == sorted(path.name for path in (tmp_path / "tree").iterdir())
    assert ipfs.fetch_folder(cid, tmp_path / "out") == sum(map(len, files.values()))
    assert files_in(tmp_path / "out") == files
    assert (tmp_path / "out" / "empty").is_dir()
    assert ipfs.store_file(tmp_path / "out") == cid


def test_limits_and_failures_leave_nothing_behind(tmp_path: Path) -> None:
    ipfs = IPFS(f"file://{tmp_path / 'store'}")
    files = tree(tmp_path / "tree")
    cid = ipfs.store_file(tmp_path / "tree")
    total = sum(map(len, files.values()))
    out = tmp_path / "results" / "out"
    with pytest.raises(ContentTooLarge):
        ipfs.fetch_folder(cid, out, max_bytes=total - 1)
    with pytest.raises(ContentTooLarge, match="entries"):
        ipfs.fetch_folder(cid, out, max_files=5)
    with pytest.raises(ContentInvalid, match="not a folder"):
        ipfs.fetch_folder(ipfs.store_bytes(b"a file"), out)
    with pytest.raises(ContentNotFound):
        ipfs.fetch_folder("QmZFwmSaniaqGaw8r7PxYDBkkoTUbTibSsDpRetRrBFMKi", out)
    assert list(out.parent.iterdir()) == []
    out.mkdir()
    with pytest.raises(StorageError, match="there already"):
        ipfs.fetch_folder(cid, out)


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "/etc/passwd", "nul\0", "x" * 256])
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    store = BlockStore(tmp_path / "store")
    block = encode_folder([Link(FILE, name, 1)])
    cid = CID.of(block, codec=DAG_PB, version=0)
    store.put(cid, block)
    store.put(FILE, b"x")
    with pytest.raises(ContentInvalid, match="no file can have"):
        IPFS(f"file://{store.folder}").fetch_folder(str(cid), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def shard_of(links: list[tuple[str, CID]], fanout: int = 256) -> tuple[CID, bytes]:
    data = b"\x08\x05\x12\x01\xff\x28\x22\x30" + write_varint(fanout)
    block = encode_node([Link(cid, name, 1) for name, cid in links], data)
    return CID.of(block, codec=DAG_PB, version=0), block


def test_shards_are_read_to_their_depth() -> None:
    inner, inner_block = shard_of([("00deep", FILE), ("FFer", FILE)])
    outer, outer_block = shard_of([("0Aplain", FILE), ("1B", inner)])
    blocks: Blocks = {inner: inner_block, outer: outer_block}
    assert [entry.name for entry in read_folder(outer, blocks.__getitem__)] == ["deep", "er", "plain"]


@pytest.mark.parametrize(
    ("links", "fanout", "words"),
    [
        ([("G0name", FILE)], 256, "slot"),
        ([("0", FILE)], 256, "slot"),
        ([("00a", FILE), ("01a", FILE)], 256, "two entries"),
        ([("00../up", FILE)], 256, "no file can have"),
        ([("00a", FILE)], 8, "not a folder"),
    ],
)
def test_shards_that_make_no_sense_are_refused(links: list[tuple[str, CID]], fanout: int, words: str) -> None:
    cid, block = shard_of(links, fanout)
    with pytest.raises(ContentInvalid, match=words):
        read_folder(cid, {cid: block}.__getitem__)


def test_a_chain_of_shards_without_end_is_refused() -> None:
    cid, block = shard_of([("00end", FILE)])
    blocks = {cid: block}
    for _ in range(40):
        cid, block = shard_of([("00", cid)])
        blocks[cid] = block
    with pytest.raises(ContentInvalid, match="too many shards"):
        read_folder(cid, blocks.__getitem__)


@pytest.mark.kubo
def test_large_folders_of_kubo_are_read(kubo_url: str, tmp_path: Path) -> None:
    """Kubo shards what does not fit into a block; the entries are the same, and so are those read block by block."""
    names = [f"{number:04}-" + "n" * 100 for number in range(3000)]
    (tmp_path / "large").mkdir()
    for name in names:
        (tmp_path / "large" / name).write_bytes(name[:4].encode())
    parts = urlsplit(kubo_url)
    with ipfshttpclient.Client(f"/ip4/{parts.hostname}/tcp/{parts.port}") as client:
        cid = client.add(tmp_path / "large", recursive=True)[-1]["Hash"]
    assert [entry.name for entry in IPFS(kubo_url).ls(cid)] == names
