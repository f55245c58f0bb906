"""The road to a blob: tiers in their order, one download for all, and every tier may fail."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from storage import (
    IPFS,
    Content,
    ContentInvalid,
    ContentNotFound,
    ContentTooLarge,
    InvalidCID,
    SourceUnavailable,
    StorageSettings,
    StoreFull,
)
from storage.importer import V0_2015
from tests.storage.dags import dag_of
from tests.storage.faulty import Fault, faulty_node
from tests.storage.ports import free_port

DATA = random.Random(11).randbytes(9_000_000)
ROOT, BLOCKS = dag_of(DATA, V0_2015)
CID = str(ROOT)


def road(settings: StorageSettings, **changes: Any) -> Content:
    return Content.from_settings(settings.model_copy(update=changes))


def tier_of(content: Content, cid: str = CID) -> str:
    with content.open(cid) as blob:
        assert blob.path.read_bytes() == DATA
        assert blob.size == len(DATA) and blob.cid == cid
        assert not os.access(blob.path, os.W_OK) or os.geteuid() == 0
        return blob.tier


def test_tiers_are_asked_in_their_order(settings: StorageSettings, cache_url: str, tmp_path: Path) -> None:
    assert IPFS(settings=settings).store_bytes(DATA) == CID
    here = road(settings, cache_url=cache_url)
    assert [tier_of(here), tier_of(here)] == ["ipfs", "disk"]
    there = road(settings, cache_url=cache_url, store_dir=tmp_path / "there", ipfs_store=tmp_path / "nothing")
    assert [tier_of(there), tier_of(there)] == ["redis", "disk"]
    assert here.counters == {"disk": 1, "redis": 0, "ipfs": 1}
    assert there.counters == {"disk": 1, "redis": 1, "ipfs": 0}


def test_progress_is_told_from_every_tier(settings: StorageSettings, cache_url: str, tmp_path: Path) -> None:
    IPFS(settings=settings).store_bytes(DATA)
    for changes in ({}, {}, {"store_dir": tmp_path / "there"}):
        seen: list[tuple[int, int | None]] = []
        with road(settings, cache_url=cache_url, **changes).open(
            CID, progress=lambda done, total, seen=seen: seen.append((done, total))
        ):
            assert seen[-1] == (len(DATA), len(DATA))


def test_limits_hold_in_every_tier(settings: StorageSettings, content: Content) -> None:
    IPFS(settings=settings).store_bytes(DATA)
    for _ in range(2):
        with pytest.raises(ContentTooLarge) as failure, content.open(CID, max_bytes=len(DATA) - 1):
            raise AssertionError
        assert not failure.value.transient
        assert tier_of(content) in {"ipfs", "disk"}


def test_what_is_not_there_or_not_a_file(settings: StorageSettings, content: Content, tmp_path: Path) -> None:
    with pytest.raises(ContentNotFound) as missing, content.open(CID):
        raise AssertionError
    assert missing.value.transient
    (tmp_path / "folder").mkdir()
    folder = IPFS(settings=settings).store_file(tmp_path / "folder")
    with pytest.raises(ContentInvalid, match="a folder, not a file") as invalid, content.open(folder):
        raise AssertionError
    assert not invalid.value.transient
    with pytest.raises(InvalidCID), content.open("../../etc/passwd"):
        raise AssertionError


def test_a_blob_damaged_in_redis_is_dropped_and_fetched(
    settings: StorageSettings, cache_url: str, tmp_path: Path
) -> None:
    IPFS(settings=settings).store_bytes(DATA)
    tier_of(road(settings, cache_url=cache_url))
    with redis.Redis.from_url(cache_url) as client:
        key = f"fitchain:blob:{CID}:1"
        piece = client.get(key)
        assert isinstance(piece, bytes)
        client.set(key, piece[:1000] + bytes([piece[1000] ^ 1]) + piece[1001:])
        there = road(settings, cache_url=cache_url, store_dir=tmp_path / "there")
        assert tier_of(there) == "ipfs"
        assert client.get(key) == piece, "the download repaired the cache"


def test_a_blob_damaged_in_redis_is_never_used_when_nobody_else_has_it(
    settings: StorageSettings, cache_url: str, tmp_path: Path
) -> None:
    IPFS(settings=settings).store_bytes(DATA)
    tier_of(road(settings, cache_url=cache_url))
    there = road(settings, cache_url=cache_url, store_dir=tmp_path / "there", ipfs_store=tmp_path / "nothing")
    with redis.Redis.from_url(cache_url) as client:
        client.setrange(f"fitchain:blob:{CID}:2", 0, b"not these bytes")
        with pytest.raises(ContentNotFound), there.open(CID):
            raise AssertionError
        assert not client.exists(f"fitchain:blob:{CID}")


@pytest.mark.parametrize("key", ["", ":0", ":1", ":2"])
def test_pieces_that_redis_evicted_are_fetched_elsewhere(
    settings: StorageSettings, cache_url: str, tmp_path: Path, key: str
) -> None:
    with faulty_node(ROOT, BLOCKS, Fault.NONE) as node:
        tier_of(road(settings, cache_url=cache_url, ipfs_api=node.url))
        with redis.Redis.from_url(cache_url) as client:
            assert client.delete(f"fitchain:blob:{CID}{key}") == 1
        node.asked.clear()
        there = road(settings, cache_url=cache_url, store_dir=tmp_path / "there", ipfs_api=node.url)
        assert tier_of(there) == "ipfs"
        if key in {":1", ":2"}:
            # what Redis still had was not fetched again
            assert node.asked and not any(CID in request for request in node.asked)


def test_large_blobs_stay_out_of_redis(settings: StorageSettings, cache_url: str) -> None:
    IPFS(settings=settings).store_bytes(DATA)
    assert tier_of(road(settings, cache_url=cache_url, redis_max_blob_bytes=len(DATA) - 1)) == "ipfs"
    with redis.Redis.from_url(cache_url) as client:
        assert client.dbsize() == 0


def test_redis_that_is_gone_is_said_once_and_done_without(
    settings: StorageSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    IPFS(settings=settings).store_bytes(DATA)
    content = road(settings, cache_url=f"redis://127.0.0.1:{free_port()}/0")
    begin = time.monotonic()
    assert tier_of(content) == "ipfs"
    content.disk.evict(CID)
    assert tier_of(content) == "ipfs"
    assert time.monotonic() - begin < 5
    assert [record.getMessage() for record in caplog.records if "without it" in record.getMessage()] != []
    assert len([record for record in caplog.records if "without it" in record.getMessage()]) == 1


def test_a_corrupted_file_is_put_aside_and_fetched_again(settings: StorageSettings, content: Content) -> None:
    IPFS(settings=settings).store_bytes(DATA)
    with content.open(CID) as blob:
        path = blob.path
    path.chmod(0o644)
    path.write_bytes(DATA[:-1] + b"?")
    assert tier_of(road(settings)) == "ipfs"
    assert len(list((settings.store_dir / "quarantine").iterdir())) == 1


def test_a_full_disk_is_said_and_leaves_nothing(
    settings: StorageSettings, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    IPFS(settings=settings).store_bytes(DATA)
    real = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if offset > 1_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreFull, match="no room on the disk") as failure, content.open(CID):
        raise AssertionError
    assert failure.value.transient
    assert content.disk.blobs() == [] and list((settings.store_dir / "tmp").iterdir()) == []


def test_the_deadline_holds_whatever_the_node_does(settings: StorageSettings) -> None:
    with faulty_node(ROOT, BLOCKS, Fault.SILENT) as node:
        content = road(settings, ipfs_api=node.url)
        begin = time.monotonic()
        with pytest.raises(SourceUnavailable), content.open(CID, deadline_seconds=1.0):
            raise AssertionError
        assert time.monotonic() - begin < 3


def start(settings: StorageSettings, folder: Path, **more: Any) -> subprocess.Popen[str]:
    arguments = {"settings": settings.model_dump(mode="json"), "cid": CID, "start": str(folder / "start"), **more}
    command = [sys.executable, "-m", "tests.storage.workers", json.dumps(arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("hosts", [1, 8])
def test_many_processes_cause_one_download(
    settings: StorageSettings, cache_url: str, tmp_path: Path, hosts: int
) -> None:
    """Four on one host without Redis, and eight hosts (stores of their own) with it."""
    with faulty_node(ROOT, BLOCKS, Fault.NONE) as node:
        cache = cache_url if hosts > 1 else ""
        base = settings.model_copy(update={"ipfs_api": node.url, "cache_url": cache})
        count = 8 if hosts > 1 else 4
        workers = [
            start(base.model_copy(update={"store_dir": tmp_path / f"host{number % hosts}"}), tmp_path)
            for number in range(count)
        ]
        time.sleep(1.0)
        (tmp_path / "start").touch()
        answers = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
        asked = node.asked
    assert {answer["sha256"] for answer in answers} == {hashlib.sha256(DATA).hexdigest()}
    assert asked == [f"dag/export {CID}"]
    tiers = sorted(answer["tier"] for answer in answers)
    assert tiers == (["ipfs", *["redis"] * 7] if hosts > 1 else [*["disk"] * 3, "ipfs"])


def test_whoever_waited_looks_into_redis_before_downloading(
    settings: StorageSettings, cache_url: str, tmp_path: Path
) -> None:
    """The blob arrives and the lock goes in the same instant: the next to hold the lock needs no download."""
    IPFS(settings=settings).store_bytes(DATA)
    tier_of(road(settings, cache_url=cache_url))
    there = road(settings, cache_url=cache_url, store_dir=tmp_path / "there", ipfs_store=tmp_path / "nothing")
    with redis.Redis.from_url(cache_url) as client:
        count = client.getdel(f"fitchain:blob:{CID}")
        assert isinstance(count, bytes)
        client.set(f"fitchain:flight:{CID}", "of somebody else", px=20_000)
        tiers: list[str] = []
        thread = threading.Thread(target=lambda: tiers.append(tier_of(there)))
        thread.start()
        time.sleep(0.5)
        assert tiers == []
        with client.pipeline(transaction=True) as both:
            both.set(f"fitchain:blob:{CID}", count).delete(f"fitchain:flight:{CID}").execute()
        thread.join(10)
    assert tiers == ["redis"]


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_fifty_processes_and_a_large_blob_cause_one_download(
    settings: StorageSettings, cache_url: str, tmp_path: Path
) -> None:
    """Ten hosts of five processes each; none ever sees a part of the blob under its final name."""
    data = random.Random(50).randbytes(200_000_000)
    root, blocks = dag_of(data)
    base = settings.model_copy(update={"cache_url": cache_url, "fetch_deadline_seconds": 600.0})
    folders = [tmp_path / f"host{number}" for number in range(10)]
    partial: list[Path] = []
    with faulty_node(root, blocks, Fault.NONE) as node:
        base = base.model_copy(update={"ipfs_api": node.url, "ipfs_timeout_seconds": 60.0})
        workers = [
            start(base.model_copy(update={"store_dir": folder}), tmp_path, cid=str(root))
            for folder in folders
            for _ in range(5)
        ]
        (tmp_path / "start").touch()
        while any(worker.poll() is None for worker in workers):
            found = tmp_path.glob("host*/blobs/*/*/data")
            partial.extend(path for path in found if path.stat().st_size != len(data))
            time.sleep(0.05)
        answers = [json.loads(worker.communicate()[0]) for worker in workers]
        asked = node.asked
    assert partial == []
    assert {answer["sha256"] for answer in answers} == {hashlib.sha256(data).hexdigest()}
    assert asked == [f"dag/export {root}"]
    assert sorted(answer["tier"] for answer in answers) == [*["disk"] * 40, "ipfs", *["redis"] * 9]


def test_a_flight_whose_holder_is_killed_is_taken_over(
    settings: StorageSettings, cache_url: str, tmp_path: Path
) -> None:
    """Killed in the middle: nothing half is visible, what it left is swept, and the next one goes on in seconds."""
    IPFS(settings=settings).store_bytes(DATA)
    (tmp_path / "start").touch()
    ours = settings.model_copy(update={"cache_url": cache_url})
    victim = start(ours, tmp_path, kill_at_bytes=3_000_000)
    assert victim.wait(60) == -signal.SIGKILL
    with redis.Redis.from_url(cache_url) as client:
        assert client.exists(f"fitchain:flight:{CID}"), "the lock outlives its holder for some seconds"
    assert len(list((settings.store_dir / "tmp").iterdir())) == 1
    assert list((settings.store_dir / "blobs").glob("*/*")) == []
    begin = time.monotonic()
    content = Content.from_settings(ours)
    assert list((settings.store_dir / "tmp").iterdir()) == []
    assert tier_of(content) == "ipfs"
    assert time.monotonic() - begin < 15


def test_a_lease_ends_with_its_process(settings: StorageSettings, content: Content, tmp_path: Path) -> None:
    IPFS(settings=settings).store_bytes(DATA)
    (tmp_path / "start").touch()
    holder = start(settings, tmp_path, hold_until=str(tmp_path / "never"))
    assert holder.stdout is not None and holder.stdout.readline() == "open\n"
    assert not content.disk.evict(CID)
    holder.kill()
    holder.wait(10)
    holder.stdout.close()
    assert content.disk.evict(CID)
    assert content.disk.blobs() == []


def test_threads_of_one_process_share_a_download(settings: StorageSettings) -> None:
    with faulty_node(ROOT, BLOCKS, Fault.NONE) as node:
        content = road(settings, ipfs_api=node.url)
        tiers: list[str] = []
        threads = [threading.Thread(target=lambda: tiers.append(tier_of(content))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(node.asked) == 1
    assert sorted(tiers) == [*["disk"] * 5, "ipfs"]
