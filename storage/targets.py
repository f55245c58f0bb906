"""Where an assembled file grows: a file on disk, or memory for small content."""

import errno
import os
from pathlib import Path
from typing import Final

from storage.errors import StoreFull

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class MemoryTarget:
    """A file in memory; for content whose size was capped to what memory bears."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write_at(self, offset: int, data: memoryview) -> None:
        """Write, growing as needed."""
        end = offset + len(data)
        if end > len(self._data):
            self._data.extend(bytes(end - len(self._data)))
        self._data[offset:end] = data

    def read_at(self, offset: int, size: int) -> bytes:
        """Read back."""
        return bytes(self._data[offset : offset + size])

    def content(self) -> bytes:
        """Everything that was written."""
        return bytes(self._data)


class FileTarget:
    """A file on disk that this object opened for itself; not visible under its final name before it is
    complete.

    ``path`` must not exist yet. Writes raise StoreFull when the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write_at(self, offset: int, data: memoryview) -> None:
        """Write all of it."""
        try:
            while len(data):
                count = os.pwrite(self._fd, data, offset)
                offset += count
                data = data[count:]
        except OSError as error:
            raise full_or(error, self.path) from error

    def read_at(self, offset: int, size: int) -> bytes:
        """Read back."""
        return os.pread(self._fd, size, offset)

    def fileno(self) -> int:
        """The descriptor, for locking."""
        return self._fd

    def size(self) -> int:
        """Bytes written so far."""
        return os.fstat(self._fd).st_size

    def sync(self) -> None:
        """Put the bytes on the disk."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise full_or(error, self.path) from error

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def full_or(error: OSError, path: Path) -> Exception:
    """StoreFull where an OSError says that there is no room, else the error itself."""
    if error.errno in _FULL:
        return StoreFull(f"no room on the disk of {path.parent}: {error.strerror}; free some or prune the store")
    return error
