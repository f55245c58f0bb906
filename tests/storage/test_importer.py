"""The importer makes the DAGs of ``ipfs add``: known CIDs, boundary sizes, Kubo itself where it is."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import IPFS, ContentTooLarge, StorageError, cid_of
from storage.cid import CID
from storage.importer import V0_2015, V1_2025, Profile, add_file, add_folder, add_path
from storage.unixfs import file_node
from tests.storage.dags import SMALL, SMALL_RAW, Blocks, assemble, dag_of

KNOWN_V0 = [
    (b"", "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"),
    (b"hello world", "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"),
]


def nothing(cid: CID, block: bytes | memoryview) -> None:
    """A sink for the CID alone."""


@pytest.mark.parametrize(("data", "cid"), KNOWN_V0)
def test_known_contents_have_their_known_cids(data: bytes, cid: str) -> None:
    assert str(dag_of(data)[0]) == cid
    assert cid_of(data) == cid


def test_reference_example_has_its_published_cids(seed_example: Path) -> None:
    cids = {name: str(add_path(seed_example / name, nothing).cid) for name in ("model_params.h5", "test.csv")}
    assert cids == {
        "model_params.h5": "QmZFwmSaniaqGaw8r7PxYDBkkoTUbTibSsDpRetRrBFMKi",
        "test.csv": "QmWVZ87MXAwt5wvgsM9akHUnGE5K3SRSKMmkQtPXRsrPUk",
    }


def test_newer_profile_has_raw_leaves() -> None:
    cid, blocks = dag_of(b"hello world", V1_2025)
    assert str(cid) == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    assert list(blocks.values()) == [b"hello world"]


def depth_of(cid: CID, blocks: Blocks) -> int:
    node = file_node(cid, blocks[cid])
    depths = {depth_of(child, blocks) for child, _ in node.children}
    assert len(depths) <= 1, "in the balanced layout all leaves are at one depth"
    return 1 + depths.pop() if depths else 0


@pytest.mark.parametrize(
    ("chunks", "rest", "depth"),
    [
        (0, 0, 0),
        (0, 1, 0),
        (1, 0, 0),
        (1, 1, 1),
        (3, 0, 1),
        (3, 1, 2),
        (9, 0, 2),
        (9, 1, 3),
        (26, 15, 3),
        (27, 1, 4),
    ],
)
@pytest.mark.parametrize("profile", [SMALL, SMALL_RAW])
def test_layout_grows_by_a_level_where_links_run_out(chunks: int, rest: int, depth: int, profile: Profile) -> None:
    data = random.Random(1).randbytes(16 * chunks + rest)
    cid, blocks = dag_of(data, profile)
    assert depth_of(cid, blocks) == depth
    assert assemble(cid, blocks.items()) == data


@given(st.binary(max_size=400), st.integers(1, 40), st.integers(2, 5), st.booleans())
def test_what_was_imported_is_read_back(data: bytes, chunk: int, links: int, raw: bool) -> None:
    cid, blocks = dag_of(data, Profile("any", chunk, links, int(raw), raw))
    assert assemble(cid, blocks.items()) == data


class Dribble(io.BytesIO):
    """A stream that gives less than it is asked for, as pipes do."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(7, size or 7))


def test_chunks_do_not_depend_on_how_the_stream_delivers() -> None:
    data = random.Random(2).randbytes(1000)
    profile = Profile("any", 100, 4, 0, raw_leaves=False)
    assert add_file(Dribble(data), nothing, profile=profile) == add_file(io.BytesIO(data), nothing, profile=profile)


def test_progress_ends_at_the_size(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(300_000))
    (tmp_path / "b").write_bytes(bytes(10))
    seen: list[tuple[int, int | None]] = []
    add_path(tmp_path, nothing, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (300_010, 300_010)
    assert seen == sorted(seen)


def test_folders_that_cannot_be_published_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is not there"):
        add_path(tmp_path / "missing", nothing)
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(StorageError, match="symbolic link"):
        add_path(tmp_path, nothing)
    entry = add_file(io.BytesIO(b"x"), nothing)
    with pytest.raises(ContentTooLarge, match="does not fit into one block"):
        add_folder([(f"{number:060}", entry) for number in range(3000)], nothing)
    with pytest.raises(StorageError, match="cannot be the name"):
        add_folder([("a/b", entry)], nothing)


SIZES = [0, 1, 262_143, 262_144, 262_145, 2 * 262_144, 5_000_000]


@pytest.mark.parametrize("size", [*SIZES, 174 * 262_144 - 1, 174 * 262_144, 174 * 262_144 + 1])
@pytest.mark.kubo
def test_kubo_agrees_on_sizes_around_the_boundaries(size: int, kubo_url: str, tmp_path: Path) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "file").write_bytes(data)
    # store_file compares the node's CID with the one computed here, and refuses if they differ
    cid = IPFS(kubo_url).store_file(tmp_path / "file")
    assert cid == str(dag_of(data, V0_2015)[0])
    assert IPFS(kubo_url).get(cid) == data


@pytest.mark.kubo
def test_kubo_agrees_on_folders(kubo_url: str, tmp_path: Path) -> None:
    rng = random.Random(7)
    for number in range(40):
        folder = tmp_path.joinpath(*(f"dir {rng.randrange(4)}" for _ in range(rng.randrange(4))))
        folder.mkdir(parents=True, exist_ok=True)
        name = rng.choice(["a", "Z", ".hidden", "ü", "space here", "%41"]) + str(number)
        (folder / name).write_bytes(rng.randbytes(rng.randrange(600_000)))
    (tmp_path / "empty").mkdir()
    expected = str(add_path(tmp_path, nothing).cid)
    assert IPFS(kubo_url).store_file(tmp_path) == expected
