"""IPFS as a notebook uses it, against the embedded store and against the node that serves it."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from storage import (
    IPFS,
    ContentInvalid,
    ContentMismatch,
    ContentNotFound,
    ContentTooLarge,
    InvalidCID,
    SourceUnavailable,
    StorageError,
    StorageSettings,
)

MISSING = "QmZFwmSaniaqGaw8r7PxYDBkkoTUbTibSsDpRetRrBFMKi"
DATA = random.Random(21).randbytes(1_500_000)


@pytest.fixture(params=["folder", "rpc", "multiaddr"])
def any_ipfs(request: pytest.FixtureRequest, tmp_path: Path) -> IPFS:
    """The three ways to name an address."""
    if request.param == "folder":
        return IPFS(f"file://{tmp_path / 'a folder'}")
    url: str = request.getfixturevalue("node_url")
    host, port = url.removeprefix("http://").split(":")
    return IPFS(url if request.param == "rpc" else f"/ip4/{host}/tcp/{port}")


def test_what_is_stored_comes_back(any_ipfs: IPFS, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    seen: list[tuple[int, int | None]] = []
    cid = any_ipfs.store_file(tmp_path / "file", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(DATA), len(DATA))
    assert cid == any_ipfs.store_bytes(DATA)
    assert any_ipfs.get(cid) == DATA
    seen.clear()
    size = any_ipfs.fetch(cid, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert size == len(DATA) and seen[-1] == (size, size)
    assert (tmp_path / "out").read_bytes() == DATA


def test_the_reference_example_is_served(any_ipfs: IPFS, seed_example: Path) -> None:
    cid = any_ipfs.store_file(seed_example / "model_params.h5")
    assert cid == MISSING
    assert any_ipfs.get(cid) == (seed_example / "model_params.h5").read_bytes()


def test_objects_have_one_cid_whatever_their_order(any_ipfs: IPFS) -> None:
    cid = any_ipfs.store_object({"b": [1, None, "ü"], "a": 1.5})
    assert cid == any_ipfs.store_object({"a": 1.5, "b": [1, None, "ü"]})
    assert any_ipfs.get_object(cid) == {"a": 1.5, "b": [1, None, "ü"]}
    with pytest.raises(ContentInvalid, match="no JSON"):
        any_ipfs.get_object(any_ipfs.store_bytes(b"{broken"))


def test_reading_what_cannot_be_read(any_ipfs: IPFS, tmp_path: Path) -> None:
    store = any_ipfs.store_bytes(DATA)
    with pytest.raises(ContentTooLarge):
        any_ipfs.get(store, max_bytes=len(DATA) - 1)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ContentInvalid, match="a folder"):
        any_ipfs.get(any_ipfs.store_file(tmp_path / "folder"))
    for bad in ("", "Qm", "../x", f"{MISSING}/file"):
        with pytest.raises(InvalidCID):
            any_ipfs.get(bad)
    with pytest.raises(ContentNotFound) as failure:
        any_ipfs.get("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
    assert failure.value.transient
    with pytest.raises(StorageError, match="is not there"):
        any_ipfs.store_file(tmp_path / "nothing")


def test_pins_and_ping(any_ipfs: IPFS) -> None:
    cid = any_ipfs.store_bytes(b"pinned")
    assert any_ipfs.unpin(cid)
    assert not any_ipfs.unpin(cid)
    any_ipfs.pin(cid)
    assert any_ipfs.unpin(cid)
    with pytest.raises(ContentNotFound):
        any_ipfs.pin("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
    assert "version" in any_ipfs.ping()


def test_a_damaged_block_is_noticed_and_repaired_by_adding_again(tmp_path: Path) -> None:
    ipfs = IPFS(f"file://{tmp_path}")
    cid = ipfs.store_bytes(DATA)
    for block in (tmp_path / "blocks").glob("*/*"):
        if block.stat().st_size > 200_000:
            block.write_bytes(block.read_bytes()[:-1] + b"?")
            break
    with pytest.raises(ContentMismatch, match="embedded store"):
        ipfs.get(cid)
    assert ipfs.store_bytes(DATA) == cid
    assert ipfs.get(cid) == DATA


def test_settings_decide_where_no_address_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITCHAIN_IPFS_STORE", str(tmp_path / "store"))
    assert str(tmp_path / "store") in repr(IPFS())
    monkeypatch.setenv("FITCHAIN_IPFS_API", "http://127.0.0.1:5999")
    monkeypatch.setenv("FITCHAIN_IPFS_GATEWAYS", "https://one.example, https://two.example/")
    monkeypatch.setenv("FITCHAIN_STORE_MAX_BYTES", "3GiB")
    settings = StorageSettings()
    assert settings.store_max_bytes == 3 << 30
    assert [source.name for source in IPFS().sources] == [
        "the IPFS node at http://127.0.0.1:5999",
        "the gateway https://one.example",
        "the gateway https://two.example",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FITCHAIN_IPFS_API", "localhost:5001"),
        ("FITCHAIN_IPFS_GATEWAYS", "file:///etc"),
        ("FITCHAIN_MAX_BLOB_BYTES", "lots"),
        ("FITCHAIN_FETCH_DEADLINE_SECONDS", "-1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=name.removeprefix("FITCHAIN_").lower()):
        StorageSettings()


def test_a_folder_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceUnavailable, match="cannot be used"):
        IPFS(f"file://{tmp_path / 'file'}")


def test_reading_schemas_loads_no_clients() -> None:
    """A sandboxed child that only parses schemas should not pay for Redis and HTTP, nor have them at hand."""
    code = (
        "import sys; from storage import ModelSchema, SchemaError; "
        "print([name for name in ('redis', 'requests', 'ipfshttpclient') if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
