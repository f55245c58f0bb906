"""A folder of blocks: the store of the embedded node.

Layout, documented like an interface::

    STORE/blocks/<two letters>/<multihash in base32>.data    one block; the letters are the last but one of
    the name STORE/pins/<CID>                                         an empty file for each pinned root
    STORE/tmp/                                               files under construction, swept when the store
    is opened

Blocks are written to a temporary file and renamed, without an fsync for each: a block that a crash left torn
does not match its name, is noticed when it is read, and counts as missing. Any number of processes may share
the folder.
"""

import base64
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from storage.cid import CID, DAG_PB, IDENTITY
from storage.dagpb import decode_node
from storage.errors import ContentInvalid, ContentMismatch, ContentNotFound, SourceUnavailable
from storage.targets import full_or

_STALE_SECONDS: Final = 86_400


class BlockStore:
    """Blocks by multihash, and pins."""

    def __init__(self, folder: Path) -> None:
        """Open or create the store. Raises SourceUnavailable if the folder cannot be used."""
        self.folder = folder
        self._blocks = folder / "blocks"
        self._pins = folder / "pins"
        self._tmp = folder / "tmp"
        try:
            for part in (self._blocks, self._pins, self._tmp):
                part.mkdir(parents=True, exist_ok=True)
            self._sweep()
        except OSError as error:
            raise SourceUnavailable(f"the block store {folder} cannot be used: {error.strerror}") from error
        self._shards = {entry.name for entry in self._blocks.iterdir()}

    def put(self, cid: CID, block: bytes | memoryview) -> None:
        """Store a block whose CID was computed or verified by the caller. Raises StoreFull."""
        if cid.hash_code == IDENTITY:
            return
        path = self._path(cid)
        with suppress(FileNotFoundError):
            if path.stat().st_size == len(block):
                return
        tmp = self._tmp / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            if path.parent.name not in self._shards:
                path.parent.mkdir(exist_ok=True)
                self._shards.add(path.parent.name)
            fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                view = memoryview(block)
                while view:
                    view = view[os.write(fd, view) :]
            finally:
                os.close(fd)
            tmp.replace(path)
        except OSError as error:
            tmp.unlink(missing_ok=True)
            raise full_or(error, path) from error

    def read(self, cid: CID) -> bytes | None:
        """The bytes stored under the CID, not verified, or None; for readers that hash them anyway."""
        if cid.hash_code == IDENTITY:
            return cid.digest
        try:
            return self._path(cid).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SourceUnavailable(f"the block store {self.folder} cannot be read: {error.strerror}") from error

    def get(self, cid: CID) -> bytes:
        """The verified block.

        Raises ContentNotFound, and ContentMismatch for a block that was damaged on disk; that one is
        removed, so that adding or fetching it again repairs the store.
        """
        block = self.read(cid)
        if block is None:
            raise ContentNotFound(f"block {cid} was not found in the store {self.folder}")
        if not cid.matches(block):
            self.remove(cid)
            raise ContentMismatch(f"block {cid} was damaged in the store {self.folder}; it was removed, add it again")
        return block

    def remove(self, cid: CID) -> None:
        """Remove a block if it is there."""
        self._path(cid).unlink(missing_ok=True)

    def size(self, cid: CID) -> int:
        """Bytes of a block. Raises ContentNotFound."""
        if cid.hash_code == IDENTITY:
            return len(cid.digest)
        try:
            return self._path(cid).stat().st_size
        except FileNotFoundError as error:
            raise ContentNotFound(f"block {cid} was not found in the store {self.folder}") from error

    def walk(self, root: CID) -> Iterator[tuple[CID, bytes]]:
        """All blocks of a DAG, verified, each once, parents before children and in the order of the file.

        Raises ContentNotFound at the first block that is missing.
        """
        todo = [root]
        seen: set[bytes] = set()
        while todo:
            cid = todo.pop()
            key = cid.encode()
            if key in seen:
                continue
            seen.add(key)
            block = self.get(cid)
            yield cid, block
            if cid.codec == DAG_PB:  # raw leaves have no links, those of other codecs are not followed
                with suppress(ContentInvalid):
                    todo.extend(link.cid for link in reversed(decode_node(block).links))

    def pin(self, cid: CID) -> None:
        """Pin a DAG of which every block is here. Raises ContentNotFound."""
        for _ in self.walk(cid):
            pass
        self.pin_root(cid)

    def pin_root(self, cid: CID) -> None:
        """Pin a DAG that was just written, without looking at its blocks again."""
        (self._pins / str(cid)).touch()

    def unpin(self, cid: CID) -> bool:
        """Take a pin away; returns whether there was one."""
        try:
            (self._pins / str(cid)).unlink()
        except FileNotFoundError:
            return False
        return True

    def pins(self) -> list[CID]:
        """The pinned roots, in the order of their text."""
        return [CID.parse(entry.name) for entry in sorted(self._pins.iterdir())]

    def _path(self, cid: CID) -> Path:
        name = base64.b32encode(cid.multihash).decode().rstrip("=")
        return self._blocks / name[-3:-1] / f"{name}.data"

    def _sweep(self) -> None:
        """Remove what processes that died left behind."""
        limit = time.time() - _STALE_SECONDS
        for entry in self._tmp.iterdir():
            with suppress(OSError):
                if entry.stat().st_mtime < limit:
                    entry.unlink()
