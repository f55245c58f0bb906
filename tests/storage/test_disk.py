"""The host's store: complete blobs only, verified on use, evicted by age, never while somebody uses them."""

from __future__ import annotations

import os
import random
import threading
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import SourceUnavailable, StoreFull
from storage.assembly import Assembly, Limits
from storage.cid import CID
from storage.deadline import Deadline
from storage.disk import DiskStore, Lease
from storage.errors import ContentMismatch
from storage.importer import V1_2025, Profile
from storage.skeleton import Skeleton
from tests.storage.dags import SMALL, SMALL_RAW, dag_of

PROFILE = Profile("test", 1000, 4, 0, raw_leaves=False)


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path, max_bytes=100_000)


def put(store: DiskStore, data: bytes, profile: Profile = PROFILE) -> tuple[CID, Lease]:
    root, blocks = dag_of(data, profile)
    with store.draft() as draft, closing(Assembly(root, draft.target, limits=Limits(1 << 24))) as assembly:
        for cid, block in reversed(blocks.items()):
            assembly.offer(cid, block, source="the test")
        assert assembly.complete
        store.make_room(len(data))
        return root, store.store(root, draft, assembly.skeleton)


@pytest.mark.parametrize("profile", [PROFILE, SMALL, SMALL_RAW, V1_2025])
@pytest.mark.parametrize("size", [0, 1, 16, 17, 3000])
def test_what_was_stored_is_leased_by_any_process(tmp_path: Path, profile: Profile, size: int) -> None:
    data = random.Random(size).randbytes(size)
    cid, lease = put(DiskStore(tmp_path, max_bytes=100_000), data, profile)
    lease.release()
    found = DiskStore(tmp_path, max_bytes=100_000).lease(cid)  # a store of its own knows nothing yet
    assert found is not None and found.size == size
    assert found.path.read_bytes() == data
    assert list((tmp_path / "tmp").iterdir()) == []
    found.release()


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=100),
    position=st.integers(0, 10**6),
    bit=st.integers(0, 7),
    what=st.sampled_from(["data", "dag"]),
)
def test_every_flipped_bit_on_disk_is_detected(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, position: int, bit: int, what: str
) -> None:
    folder = tmp_path_factory.mktemp("store")
    cid, lease = put(DiskStore(folder, max_bytes=100_000), data, SMALL)
    lease.release()
    path = lease.path.with_name(what)
    damaged = bytearray(path.read_bytes())
    damaged[position % len(damaged)] ^= 1 << bit
    path.chmod(0o644)
    path.write_bytes(damaged)
    store = DiskStore(folder, max_bytes=100_000)
    assert store.lease(cid) is None
    assert not lease.path.exists()
    assert len(list((folder / "quarantine").iterdir())) == 1
    _, again = put(store, data, SMALL)
    assert again.path.read_bytes() == data
    again.release()


@pytest.mark.parametrize("damage", ["truncated", "longer", "no dag", "empty dag"])
def test_other_damage_is_detected_too(store: DiskStore, tmp_path: Path, damage: str) -> None:
    cid, lease = put(store, bytes(range(250)) * 20)
    lease.release()
    lease.path.chmod(0o644)
    dag = lease.path.with_name("dag")
    if damage == "truncated":
        os.truncate(lease.path, 4000)
    elif damage == "longer":
        os.truncate(lease.path, 6000)
    elif damage == "no dag":
        dag.unlink()
    else:
        dag.write_bytes(b"")
    assert DiskStore(tmp_path, max_bytes=100_000).lease(cid) is None


def test_damage_after_the_first_use_is_noticed_by_its_traces(store: DiskStore) -> None:
    cid, lease = put(store, bytes(5000))
    lease.release()
    again = store.lease(cid)
    assert again is not None
    again.release()
    lease.path.chmod(0o644)
    lease.path.write_bytes(b"\1" + bytes(4999))
    assert store.lease(cid) is None


def test_least_recently_used_goes_first(store: DiskStore) -> None:
    blobs = [put(store, random.Random(number).randbytes(20_000)) for number in range(4)]
    for age, (_, lease) in enumerate(blobs):
        lease.release()
        os.utime(lease.path.with_name("dag"), (1000 + age, 1000 + age))
    touched = store.lease(blobs[0][0])
    assert touched is not None
    touched.release()
    _, newest = put(store, random.Random(9).randbytes(30_000))
    present = [lease.path.exists() for _, lease in blobs]
    assert present == [True, False, True, True]
    assert newest.path.exists()


def test_pruning_keeps_what_was_used_last(store: DiskStore) -> None:
    blobs = [put(store, random.Random(number).randbytes(20_000)) for number in range(4)]
    for age, (_, lease) in enumerate(blobs):
        os.utime(lease.path.with_name("dag"), (1000 + age, 1000 + age))
    for _, lease in blobs[1:]:
        lease.release()
    gone = store.prune(50_000)
    assert [blob.cid for blob in gone] == [str(cid) for cid, _ in blobs[1:3]], "the first is in use"
    assert store.prune(50_000) == []


def test_verification_on_demand_looks_at_every_byte(store: DiskStore) -> None:
    cid, lease = put(store, bytes(5000))
    lease.release()
    assert store.verify(cid)
    before = lease.path.stat()
    lease.path.chmod(0o644)
    lease.path.write_bytes(b"\1" + bytes(4999))
    os.utime(lease.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not store.verify(cid)
    assert store.blobs() == []


def test_what_is_in_use_stays(store: DiskStore, tmp_path: Path) -> None:
    cid, lease = put(store, bytes(60_000))
    other = DiskStore(tmp_path, max_bytes=100_000)
    assert not other.evict(str(cid))
    with pytest.raises(StoreFull, match="in use") as failure:
        other.make_room(90_000)
    assert failure.value.transient
    lease.release()
    other.make_room(90_000)
    assert not lease.path.exists()


def test_a_blob_larger_than_the_store_is_refused(store: DiskStore) -> None:
    with pytest.raises(StoreFull, match="FITCHAIN_STORE_MAX_BYTES"):
        store.make_room(100_001)


def test_two_writers_of_one_blob_end_with_one(store: DiskStore, tmp_path: Path) -> None:
    data = bytes(5000)
    first, one = put(store, data)
    second, other = put(DiskStore(tmp_path, max_bytes=100_000), data)
    assert first == second and one.path == other.path
    assert len(store.blobs()) == 1
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_failed_draft_leaves_nothing(store: DiskStore, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), store.draft() as draft:
        draft.target.write_at(0, memoryview(b"half"))
        raise RuntimeError
    assert list((tmp_path / "tmp").iterdir()) == []
    assert store.blobs() == []


def test_drafts_of_the_living_survive_a_sweep_and_those_of_the_dead_do_not(store: DiskStore, tmp_path: Path) -> None:
    dead = tmp_path / "tmp" / "dead"
    dead.mkdir()
    (dead / "dag").touch()
    (dead / "data").write_bytes(b"half")
    with store.draft() as draft:
        DiskStore(tmp_path, max_bytes=100_000)
        assert draft.target.path.exists()
        assert not dead.exists()


def test_clock_jumps_do_not_matter(store: DiskStore, tmp_path: Path) -> None:
    cid, lease = put(store, bytes(5000))
    for when in (0, 2**33):
        os.utime(lease.path.with_name("dag"), (when, when))
        found = DiskStore(tmp_path, max_bytes=100_000).lease(cid)
        assert found is not None
        found.release()


def test_only_one_of_a_host_downloads_at_a_time(store: DiskStore, tmp_path: Path) -> None:
    cid, _ = dag_of(b"x")
    other = DiskStore(tmp_path, max_bytes=1)
    with store.downloading(cid, Deadline.after(5, idle_seconds=5)):
        with (
            pytest.raises(SourceUnavailable, match="another process"),
            other.downloading(cid, Deadline.after(0.1, idle_seconds=5)),
        ):
            raise AssertionError("both hold the lock")
        entered = threading.Event()

        def wait() -> None:
            with other.downloading(cid, Deadline.after(5, idle_seconds=5)):
                entered.set()

        thread = threading.Thread(target=wait)
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(5)
    thread.join()


def test_a_folder_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceUnavailable, match="cannot be used"):
        DiskStore(tmp_path / "file", max_bytes=1)


@given(st.binary(max_size=120))
def test_no_bytes_crash_the_skeleton_reader(data: bytes) -> None:
    root, _ = dag_of(b"x")
    for text in (data, b"fitchain-dag-1\n" + data):
        try:
            list(Skeleton.decode(text).blocks(root, 1, lambda at, count: b"x"[:count]))
        except ContentMismatch:
            continue
        raise AssertionError("a skeleton of random bytes passed")
