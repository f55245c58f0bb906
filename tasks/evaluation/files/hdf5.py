"""HDF5 files from strangers: inspected link by link and data set by data set before anything is read.

Here lives what makes an HDF5 file safe to read: every link is a hard link inside the file, every data set
keeps its bytes in the file (no external storage, no virtual data set), is packed with filters that belong to
the library itself, holds plain numbers, and declares no more than may be read. What the file means is not
decided here. Format: HDF5 File Format Specification 3.0, through h5py's low-level interface, which tells the
properties of an object without reading it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tasks.errors import InvalidContent

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_OBJECTS = 200_000
MAX_DEPTH = 40
MAX_ATTRIBUTE_BYTES = 64 * 2**20
MAX_CHUNK_SLACK_BYTES = 2**20
MAX_EXPANSION = 2_000  # deflate cannot pack better than 1,032 to 1
_BOMB_FLOOR_BYTES = 64 * 2**20
_BUILT_IN_FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32_000})  # deflate … scale-offset, and h5py's own lzf


class Hdf5File:
    """An opened and inspected HDF5 file; `root` is its h5py group. Made by `open_hdf5` only."""

    def __init__(self, root: Any, place: str, max_bytes: int) -> None:
        self.root = root
        self.place = place
        self.max_bytes = max_bytes
        self.largest_bytes = 0
        self.largest_path = ""

    def group(self, path: str) -> Any:
        """The group at `path`. Raises InvalidContent if there is none."""
        import h5py

        found = self.root.get(path) if path else self.root
        if not isinstance(found, h5py.Group):
            raise InvalidContent("hdf5-missing", f"{self.place}:/{path}", "there is no such group in the file")
        return found

    def text(self, path: str, name: str) -> str | None:
        """An attribute as text, or None if the group has none of that name."""
        value = self._attribute(path, name)
        if value is None:
            return None
        if isinstance(value, bytes):
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError as error:
                raise self._damaged(f"/{path}@{name}", f"not UTF-8 ({error.reason})") from error
        if not isinstance(value, str):
            raise self._damaged(f"/{path}@{name}", f"text was expected, not {type(value).__name__}")
        return value

    def names(self, path: str, name: str) -> list[str]:
        """An attribute that is a list of names; Keras splits a long one into ``name0``, ``name1``, …"""
        value = self._attribute(path, name)
        if value is not None:
            return self._as_names(value, f"/{path}@{name}")
        collected: list[str] = []
        part = 0
        while (value := self._attribute(path, f"{name}{part}")) is not None:
            collected += self._as_names(value, f"/{path}@{name}{part}")
            part += 1
        return collected

    def dataset(self, path: str) -> Any:
        """The data set at `path`, not read yet. Raises InvalidContent if there is none."""
        import h5py

        found = self.root.get(path)
        if not isinstance(found, h5py.Dataset):
            raise InvalidContent("hdf5-missing", f"{self.place}:/{path}", "there is no such data set in the file")
        return found

    def array(self, path: str) -> Any:
        """The numbers at `path` as a NumPy array."""
        dataset = self.dataset(path)
        try:
            return dataset[()]
        except (OSError, RuntimeError, ValueError) as error:
            raise self._damaged(f"/{path}", str(error)) from error

    def _attribute(self, path: str, name: str) -> Any:
        import h5py

        group = self.group(path)
        try:
            if name not in group.attrs:
                return None
            attribute = h5py.h5a.open(group.id, name.encode())
            if math.prod(attribute.shape) * attribute.dtype.itemsize > MAX_ATTRIBUTE_BYTES:
                raise self._damaged(f"/{path}@{name}", "the attribute declares more bytes than any needs")
            return group.attrs[name]
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, UnicodeError) as error:
            raise self._damaged(f"/{path}@{name}", str(error)) from error

    def _as_names(self, value: Any, where: str) -> list[str]:
        import h5py

        if isinstance(value, h5py.Empty):
            return []
        items = value.tolist() if hasattr(value, "tolist") else value
        if not isinstance(items, list):
            raise self._damaged(where, "a list of names was expected")
        decoded = [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in items]
        if not all(isinstance(item, str) for item in decoded):
            raise self._damaged(where, "a list of names was expected")
        return decoded

    def _damaged(self, where: str, what: str) -> InvalidContent:
        return InvalidContent("hdf5-damaged", f"{self.place}:{where}", f"cannot be read: {what:.300}")


@contextmanager
def open_hdf5(source: Path | BinaryIO, *, place: str, max_bytes: int) -> Iterator[Hdf5File]:
    """Open an HDF5 file and inspect all of it; no data set is read.

    `place` names the file in refusals; `max_bytes` is the most that all its data sets may declare together.
    Raises InvalidContent for a file that is damaged or breaks a rule.
    """
    import h5py

    try:
        # No page buffer, no locking (the folder is read-only), and no driver but plain reading.
        handle = h5py.File(source, "r", locking=False) if isinstance(source, Path) else h5py.File(source, "r")
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise InvalidContent("hdf5-damaged", place, f"the HDF5 file cannot be opened: {error!s:.300}") from error
    with handle:
        file = Hdf5File(handle, place, max_bytes)
        try:
            _Inspection(file, file_bytes=handle.id.get_filesize()).run()
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, UnicodeError) as error:
            raise InvalidContent("hdf5-damaged", place, f"the HDF5 file is damaged: {error!s:.300}") from error
        yield file


class _Inspection:
    """One walk over all links of a file, each object once."""

    def __init__(self, file: Hdf5File, *, file_bytes: int) -> None:
        self._file = file
        self._file_bytes = file_bytes
        self._declared = 0
        self._links = 0
        self._seen: set[int] = set()

    def run(self) -> None:
        waiting: list[tuple[Any, str, int]] = [(self._file.root.id, "", 0)]
        while waiting:
            group, path, depth = waiting.pop()
            for name in self._names(group, path, depth):
                self._check_link(group, name, f"{path}/{self._readable(name)}")
                waiting += self._visit(group, name, f"{path}/{self._readable(name)}", depth)

    def _names(self, group: Any, path: str, depth: int) -> Iterator[bytes]:
        self._links += group.get_num_objs()
        if self._links > MAX_OBJECTS or depth > MAX_DEPTH:
            raise self._refuse(
                "hdf5-too-complex", path, f"more than {MAX_OBJECTS} objects or {MAX_DEPTH} levels of groups"
            )
        for index in range(group.get_num_objs()):
            yield group.get_objname_by_idx(index)

    def _check_link(self, group: Any, name: bytes, path: str) -> None:
        import h5py

        kind = group.links.get_info(name).type
        if kind == h5py.h5l.TYPE_HARD:
            return
        what = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link into another file"}
        raise self._refuse(
            "hdf5-link", path, f"{what.get(kind, 'a link of unknown kind')}; only hard links are allowed"
        )

    def _visit(self, group: Any, name: bytes, path: str, depth: int) -> list[tuple[Any, str, int]]:
        import h5py

        found = h5py.h5o.open(group, name)
        address = h5py.h5o.get_info(found).addr
        if address in self._seen:
            return []
        self._seen.add(address)
        if isinstance(found, h5py.h5g.GroupID):
            return [(found, path, depth + 1)]
        if not isinstance(found, h5py.h5d.DatasetID):
            raise self._refuse("hdf5-object", path, "neither a group nor a data set")
        self._check_dataset(found, path)
        return []

    def _check_dataset(self, dataset: Any, path: str) -> None:
        import h5py

        properties = dataset.get_create_plist()
        layout = properties.get_layout()
        if properties.get_external_count() > 0:
            raise self._refuse("hdf5-external-storage", path, "its bytes are kept in another file")
        if layout not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
            raise self._refuse("hdf5-virtual", path, "a virtual data set, put together from other files")
        for index in range(properties.get_nfilters()):
            code = properties.get_filter(index)[0]
            if code not in _BUILT_IN_FILTERS:
                raise self._refuse("hdf5-filter", path, f"packed with filter {code}, which is a plug-in")
        kind = dataset.get_type()
        if not isinstance(kind, h5py.h5t.TypeFloatID | h5py.h5t.TypeIntegerID | h5py.h5t.TypeEnumID):
            self._check_text(kind, path)
        chunk = properties.get_chunk() if layout == h5py.h5d.CHUNKED else None
        self._check_size(dataset, kind.get_size(), chunk, path)

    def _check_text(self, kind: Any, path: str) -> None:
        """Fixed-length text is harmless (old vocabularies); pointers into a heap are not needed."""
        import h5py

        if not isinstance(kind, h5py.h5t.TypeStringID) or kind.is_variable_str():
            raise self._refuse("hdf5-type", path, f"holds {type(kind).__name__}; only plain numbers are read")

    def _check_size(self, dataset: Any, item: int, chunk: tuple[int, ...] | None, path: str) -> None:
        declared = item
        for extent in dataset.shape:
            declared *= int(extent)
        self._declared += declared
        if declared > self._file.largest_bytes:
            self._file.largest_bytes, self._file.largest_path = declared, path
        expansion = declared / max(1, min(self._file_bytes, dataset.get_storage_size() or 1))
        if self._declared > self._file.max_bytes or (declared > _BOMB_FLOOR_BYTES and expansion > MAX_EXPANSION):
            raise self._refuse(
                "hdf5-bomb",
                path,
                f"declares {declared:,} bytes ({self._declared:,} with what stands before it) "
                f"in a file of {self._file_bytes:,}; at most {self._file.max_bytes:,} are read",
            )
        if chunk is not None:
            size = item
            for extent in chunk:
                size *= int(extent)
            if size > 2 * declared + MAX_CHUNK_SLACK_BYTES:
                raise self._refuse("hdf5-bomb", path, f"is stored in chunks of {size:,} bytes")

    @staticmethod
    def _readable(name: bytes) -> str:
        return name.decode("utf-8", "replace")[:200]

    def _refuse(self, rule: str, path: str, sentence: str) -> InvalidContent:
        return InvalidContent(rule, f"{self._file.place}:{path[:400] or '/'}", sentence)
