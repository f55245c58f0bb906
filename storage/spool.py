"""Verified blocks kept aside until somebody asks for them: in memory while they are few, else in a temporary
file."""

import tempfile
from typing import Final

_MEMORY_BYTES: Final = 4_194_304


class Spool:
    """Blocks by multihash, up to a number of bytes; what does not fit is dropped, as it can be fetched
    again."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._index: dict[bytes, tuple[int, int]] = {}
        self._end = 0

    def keep(self, multihash: bytes, block: bytes | memoryview) -> None:
        """Keep a block, unless it is here already or there is no room."""
        if multihash in self._index or self._end + len(block) > self._max_bytes:
            return
        if self._file is None:
            # Closed by close(); a context manager would end with this call.
            self._file = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115
        self._file.seek(self._end)
        self._file.write(block)
        self._index[multihash] = (self._end, len(block))
        self._end += len(block)

    def take(self, multihash: bytes) -> bytes | None:
        """The block, if it was kept."""
        found = self._index.get(multihash)
        if found is None or self._file is None:
            return None
        offset, size = found
        self._file.seek(offset)
        return self._file.read(size)

    def close(self) -> None:
        """Drop everything."""
        self._index.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
