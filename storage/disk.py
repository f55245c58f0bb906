"""This host's store of verified blobs, shared by all processes of the host.

Layout, documented like an interface::

    STORE/blobs/<two letters>/<CID>/data   the bytes of a complete blob, read-only
    STORE/blobs/<two letters>/<CID>/dag    its skeleton (storage.skeleton); its mtime is the time of the last
    use STORE/tmp/<random>/                    a blob under construction; its dag is flock'ed by whoever
    writes it STORE/locks/<00..ff>                   locks under which a process of this host downloads
    STORE/quarantine/<CID>.<random>/       a blob that turned out damaged, for whoever wants to know why

A blob appears by one rename of its folder, after its bytes were verified and synced; a reader never sees half
of one. A blob in use has a shared flock on ``data``, and eviction takes an exclusive one first: a lease that
ends with its process, kill -9 included. What a process left under ``tmp`` is swept once nobody holds its
lock; clocks decide nothing.

Bytes on disk are no more trusted than those of a network. The first time that a process uses a blob, every
byte is hashed against the CID (about 2 GB/s); later uses check that inode, size and change times are the
same.
"""

import errno
import fcntl
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storage.cid import CID
from storage.deadline import Deadline
from storage.errors import ContentMismatch, SourceUnavailable, StoreFull
from storage.skeleton import Skeleton
from storage.targets import FileTarget, full_or

_LOG = logging.getLogger(__name__)
_POLL_SECONDS: Final = 0.05
_STRIPES: Final = 256
_MARGIN_BYTES: Final = 16_777_216  # left free on the disk
_QUARANTINED: Final = 3
_Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A complete blob: where it is, its size in bytes, and when it was last used (seconds since the
    epoch)."""

    cid: str
    path: Path
    size: int
    used_at: float


class Lease:
    """A verified blob that stays where it is until the lease is released or its process ends."""

    def __init__(self, path: Path, size: int, fd: int) -> None:
        self.path = path
        self.size = size
        self._fd = fd

    def release(self) -> None:
        """Let the blob be evicted when room is needed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Draft:
    """A blob under construction, in a folder of its own; the lock on its ``dag`` says that its writer is
    alive.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.lock = os.open(folder / "dag", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.target = FileTarget(folder / "data")
        except BaseException:
            os.close(self.lock)
            raise

    def close(self) -> None:
        """Close the files and remove what was not stored."""
        self.target.close()
        os.close(self.lock)
        shutil.rmtree(self.folder, ignore_errors=True)


class DiskStore:
    """Blobs by CID under a cap of bytes, least recently used out first."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        """Open or create the store. Raises SourceUnavailable if the folder cannot be used."""
        self.folder = folder
        self.max_bytes = max_bytes
        self._blobs, self._tmp = folder / "blobs", folder / "tmp"
        self._locks, self._quarantine = folder / "locks", folder / "quarantine"
        self._verified: dict[str, _Identity] = {}
        self._guard = threading.Lock()
        try:
            for part in (self._blobs, self._tmp, self._locks, self._quarantine):
                part.mkdir(parents=True, exist_ok=True, mode=0o755)
            self._sweep()
        except OSError as error:
            raise SourceUnavailable(f"the blob store {folder} cannot be used: {error.strerror}") from error

    def lease(self, cid: CID) -> Lease | None:
        """The blob if it is here and whole, leased. A damaged one is put into quarantine and counts as
        missing.
        """
        place = self._place(cid)
        try:
            fd = os.open(place / "data", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            stat = os.fstat(fd)
            if stat.st_nlink == 0:  # evicted between opening and locking
                os.close(fd)
                return None
            self._verify(cid, place, fd, stat)
        except (ContentMismatch, OSError) as error:
            os.close(fd)
            if isinstance(error, OSError) and error.errno not in (errno.ENOENT, errno.EIO):
                raise SourceUnavailable(f"the stored blob {place} cannot be read: {error.strerror}") from error
            self._put_aside(cid, place, error)
            return None
        with suppress(OSError):
            os.utime(place / "dag")
        return Lease(place / "data", stat.st_size, fd)

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """A place to write a new blob; whatever was not stored is removed at the end."""
        draft = self._new_draft()
        try:
            yield draft
        finally:
            draft.close()

    def store(self, cid: CID, draft: Draft, skeleton: Skeleton) -> Lease:
        """Make a draft whose bytes were verified while they were written visible, and lease it.

        Raises StoreFull if there is no room even without all that is not in use.
        """
        size = draft.target.size()
        dag = skeleton.encode()
        place = self._place(cid)
        fd = -1
        try:
            draft.target.sync()
            _write_synced(draft.lock, dag)
            draft.target.path.chmod(0o444)
            place.parent.mkdir(exist_ok=True)
            fd = os.open(draft.target.path, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_SH)
            draft.folder.rename(place)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return self._already_there(cid)
            raise full_or(error, place) from error
        _sync_folder(place.parent)
        with self._guard:
            self._verified[str(cid)] = _identity(os.fstat(fd))
        return Lease(place / "data", size, fd)

    def make_room(self, size: int) -> None:
        """Evict what was used least recently until ``size`` more bytes fit, under the cap and on the disk.

        Raises StoreFull.
        """
        blobs = sorted(self.blobs(), key=lambda blob: blob.used_at)
        over_cap = sum(blob.size for blob in blobs) + size - self.max_bytes
        short = max(over_cap, size + _MARGIN_BYTES - shutil.disk_usage(self.folder).free)
        for blob in blobs:
            if short <= 0:
                return
            if self.evict(blob.cid):
                short -= blob.size
        if short > 0:
            raise StoreFull(
                f"the blob store {self.folder} lacks {short} bytes for a blob of {size}, the rest is in use; "
                "raise FITCHAIN_STORE_MAX_BYTES or give the disk more room"
            )

    def prune(self, keep_bytes: int) -> list[StoredBlob]:
        """Evict what was used least recently until at most ``keep_bytes`` are left; returns what was removed."""
        blobs = sorted(self.blobs(), key=lambda blob: blob.used_at)
        excess = sum(blob.size for blob in blobs) - keep_bytes
        gone: list[StoredBlob] = []
        for blob in blobs:
            if excess <= 0:
                break
            if self.evict(blob.cid):
                excess -= blob.size
                gone.append(blob)
        return gone

    def verify(self, cid: CID) -> bool:
        """Hash every byte of a blob now, whatever was verified before; a damaged one goes into quarantine."""
        with self._guard:
            self._verified.pop(str(cid), None)
        lease = self.lease(cid)
        if lease is None:
            return False
        lease.release()
        return True

    def evict(self, cid: str) -> bool:
        """Remove a blob, unless it is in use; returns whether it is gone."""
        place = self._place(CID.parse(cid))
        try:
            fd = os.open(place / "data", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            grave = self._tmp / secrets.token_hex(12)
            place.rename(grave)
            shutil.rmtree(grave, ignore_errors=True)
        except BlockingIOError:
            return False
        except FileNotFoundError:
            return True
        finally:
            os.close(fd)
        return True

    def blobs(self) -> list[StoredBlob]:
        """All complete blobs; sizes include their skeletons."""
        out: list[StoredBlob] = []
        for place in self._blobs.glob("*/*"):
            with suppress(OSError):
                data, dag = (place / "data").stat(), (place / "dag").stat()
                out.append(StoredBlob(place.name, place / "data", data.st_size + dag.st_size, dag.st_mtime))
        return out

    def skeleton(self, cid: CID) -> Skeleton:
        """The skeleton of a leased blob. Raises ContentMismatch."""
        return Skeleton.decode((self._place(cid) / "dag").read_bytes())

    @contextmanager
    def downloading(self, cid: CID, deadline: Deadline) -> Iterator[None]:
        """Hold this host's download lock for the CID. Raises SourceUnavailable if others hold it past the
        deadline.
        """
        stripe = cid.digest[-1] % _STRIPES if cid.digest else 0
        fd = os.open(self._locks / f"{stripe:02x}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    deadline.check(f"waiting for another process of this host that downloads {cid}")
                    time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(fd)

    def _verify(self, cid: CID, place: Path, fd: int, stat: os.stat_result) -> None:
        identity = _identity(stat)
        with self._guard:
            if self._verified.get(str(cid)) == identity:
                return
        for _ in self.skeleton(cid).blocks(cid, stat.st_size, lambda at, count: os.pread(fd, count, at)):
            pass
        with self._guard:
            self._verified[str(cid)] = identity

    def _put_aside(self, cid: CID, place: Path, error: Exception) -> None:
        with suppress(OSError):
            place.rename(self._quarantine / f"{cid}.{secrets.token_hex(4)}")
            _LOG.warning("stored blob is damaged, it was put aside cid=%s folder=%s: %s", cid, self._quarantine, error)
        with suppress(OSError):
            kept = sorted(self._quarantine.iterdir(), key=lambda entry: entry.stat().st_ctime)
            for folder in kept[:-_QUARANTINED]:
                shutil.rmtree(folder, ignore_errors=True)

    def _already_there(self, cid: CID) -> Lease:
        """Another process stored the same blob first; use that one."""
        lease = self.lease(cid)
        if lease is None:
            raise SourceUnavailable(f"{cid} was stored by another process and vanished at once; try again")
        return lease

    def _place(self, cid: CID) -> Path:
        name = str(cid)
        return self._blobs / name[-3:-1] / name

    def _new_draft(self) -> Draft:
        for _ in range(3):
            # A sweep of another process may catch the folder in the instant before its lock is taken.
            with suppress(FileNotFoundError, BlockingIOError):
                draft = Draft(self._tmp / secrets.token_hex(12))
                if draft.target.path.exists():
                    return draft
                draft.close()
        raise SourceUnavailable(f"{self._tmp} cannot be used: files vanish as they are made")

    def _sweep(self) -> None:
        for folder in self._tmp.iterdir():
            try:
                fd = os.open(folder / "dag", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                with suppress(OSError):
                    folder.rmdir()
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except OSError:
                continue
            finally:
                os.close(fd)


def _identity(stat: os.stat_result) -> _Identity:
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _write_synced(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.fsync(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
