"""IPFS as a notebook or a task uses it: store a file, an object; get them back, verified.

``IPFS`` ties an address to what speaks to it: a node's RPC, or the embedded block store in a folder, with
the trustless gateways of the settings behind it for reading. Caches are not here; see ``storage.content``.
"""

import io
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from storage.assembly import Assembly, Limits, Progress, Target
from storage.blocks import BlockStore
from storage.canonical import canonical_json, strict_json
from storage.cid import CID, RAW
from storage.deadline import Deadline
from storage.errors import ContentInvalid, ContentTooLarge, SourceUnavailable, StorageError
from storage.folders import Entry, is_folder, read_folder
from storage.gateways import Gateway
from storage.importer import add_file, add_path
from storage.rpc import RpcNode
from storage.settings import StorageSettings
from storage.sources import FolderSource, Source, fill_from, get_block
from storage.targets import FileTarget, MemoryTarget

_MAX_MEMORY_BYTES: Final = 536_870_912
_MAX_OBJECT_BYTES: Final = 16_777_216
_MAX_FILES: Final = 10_000
_MAX_FOLDER_DEPTH: Final = 64
_PING_SECONDS: Final = 10.0


class IPFS:
    """Content by CID, at one address.

    ``address`` is the RPC of a node (``http://127.0.0.1:5001`` or a multiaddr), or ``file:///folder`` for
    the embedded block store, which needs no server. Without it the settings decide (``FITCHAIN_IPFS_API``,
    else the embedded store in ``FITCHAIN_IPFS_STORE``). Constructing it does not connect. Every method
    raises errors of ``storage.errors``.
    """

    def __init__(self, address: str | None = None, *, settings: StorageSettings | None = None) -> None:
        """Raises SourceUnavailable for an address that cannot be understood or a folder that cannot be
        used."""
        self.settings = settings or StorageSettings()
        self.address = address or self.settings.ipfs_api or f"file://{self.settings.ipfs_store}"
        self._node: RpcNode | None = None
        self._store: BlockStore | None = None
        first: Source
        if self.address.startswith("file://"):
            self._store = BlockStore(Path(unquote(urlsplit(self.address).path)).expanduser())
            first = FolderSource(self._store)
        else:
            first = self._node = RpcNode(self.address)
        self.sources: tuple[Source, ...] = (first, *map(Gateway, self.settings.ipfs_gateways))

    def __repr__(self) -> str:
        return f"<IPFS: {self.sources[0].name}>"

    def store_file(self, path: str | Path, *, progress: Progress | None = None) -> str:
        """Add and pin a file, or a folder with all that it holds; returns the CID that ``ipfs add`` gives.

        ``progress`` is told bytes done and bytes in all.
        """
        path = Path(path)
        try:
            if self._node is not None:
                return str(self._node.add(path, self._deadline(), progress))
            store = self._embedded()
            added = add_path(path, store.put, progress=progress)
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}") from error
        store.pin_root(added.cid)
        return str(added.cid)

    def store_bytes(self, data: bytes) -> str:
        """Add and pin bytes; returns their CID."""
        if self._node is not None:
            return str(self._node.add_stream(io.BytesIO(data), self._deadline()))
        store = self._embedded()
        added = add_file(io.BytesIO(data), store.put)
        store.pin_root(added.cid)
        return str(added.cid)

    def store_object(self, obj: Any) -> str:
        """Add and pin an object as canonical JSON; equal objects get equal CIDs."""
        return self.store_bytes(canonical_json(obj))

    def get(self, cid: str, *, max_bytes: int = _MAX_MEMORY_BYTES, deadline_seconds: float | None = None) -> bytes:
        """The verified bytes of a file, in memory.

        Raises InvalidCID, ContentNotFound, ContentMismatch, ContentInvalid (a folder, for example),
        ContentTooLarge (at most ``max_bytes``), SourceUnavailable.
        """
        target = MemoryTarget()
        self.assemble(CID.parse(cid), target, max_bytes=max_bytes, deadline=self._deadline(deadline_seconds))
        return target.content()

    def get_object(self, cid: str) -> Any:
        """The object that JSON content holds. Raises ContentInvalid if it is no JSON."""
        data = self.get(cid, max_bytes=_MAX_OBJECT_BYTES)
        try:
            return strict_json(data)
        except ValueError as error:
            raise ContentInvalid(f"{cid} holds no JSON object: {error}") from error

    def fetch(
        self,
        cid: str,
        into: Path,
        *,
        max_bytes: int | None = None,
        deadline_seconds: float | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Write the verified bytes of a file to the path ``into``, which appears when they are complete.

        Returns the size in bytes; an existing file is replaced. ``progress`` is told bytes done and, once it
        is known, bytes in all. Raises as ``get`` does, and StoreFull.
        """
        parsed = CID.parse(cid)
        into.parent.mkdir(parents=True, exist_ok=True)
        with fresh_file(into.parent) as target:
            size = self.assemble(
                parsed,
                target,
                max_bytes=max_bytes,
                deadline=self._deadline(deadline_seconds),
                progress=progress,
            )
            target.sync()
            target.path.replace(into)
        return size

    def ls(self, cid: str) -> list[Entry]:
        """The entries of a folder, by name. Raises as ``get``; ContentInvalid if it is none."""
        deadline = self._deadline()
        return read_folder(CID.parse(cid), lambda part: get_block(self.sources, part, deadline))

    def fetch_folder(
        self,
        cid: str,
        into: Path,
        *,
        max_bytes: int | None = None,
        max_files: int = _MAX_FILES,
        deadline_seconds: float | None = None,
    ) -> int:
        """Write a folder with all that it holds to ``into``, which must not exist; it appears when it is
        complete.

        Returns the bytes of its files. Raises as ``get`` does; ``max_bytes`` counts all files together.
        """
        root = CID.parse(cid)
        deadline = self._deadline(deadline_seconds)
        limit = self.settings.max_blob_bytes if max_bytes is None else max_bytes
        if into.exists():
            raise StorageError(f"{into} is there already")
        into.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=into.parent, prefix=".", ignore_cleanup_errors=True) as scratch:
            total = files = 0
            todo = [(root, Path(scratch) / "folder")]
            while todo:
                folder, place = todo.pop()
                place.mkdir()
                for entry in read_folder(folder, lambda part: get_block(self.sources, part, deadline)):
                    files += 1
                    if files > max_files or len(place.parts) > len(into.parts) + _MAX_FOLDER_DEPTH:
                        raise ContentTooLarge(f"{cid} holds more than {max_files} entries, or folders too deep")
                    if self._is_folder(entry.cid, deadline):
                        todo.append((entry.cid, place / entry.name))
                    else:
                        with closing(FileTarget(place / entry.name)) as target:
                            total += self.assemble(entry.cid, target, max_bytes=limit - total, deadline=deadline)
            (Path(scratch) / "folder").rename(into)
        return total

    def _is_folder(self, cid: CID, deadline: Deadline) -> bool:
        return cid.codec != RAW and is_folder(cid, get_block(self.sources, cid, deadline))

    def assemble(
        self,
        cid: CID,
        target: Target,
        *,
        max_bytes: int | None,
        deadline: Deadline,
        progress: Progress | None = None,
    ) -> int:
        """Put a file together from verified blocks, asking the sources in turn; returns its size. Raises as
        ``get``."""
        limits = Limits(self.settings.max_blob_bytes if max_bytes is None else max_bytes)
        with closing(Assembly(cid, target, limits=limits, progress=progress)) as assembly:
            fill_from(self.sources, assembly, deadline)
            return assembly.size or 0

    def pin(self, cid: str) -> None:
        """Keep a DAG at the node; a node with a network fetches what it lacks. Raises ContentNotFound."""
        parsed = CID.parse(cid)
        if self._node is not None:
            self._node.pin(parsed, self._deadline())
        else:
            self._embedded().pin(parsed)

    def unpin(self, cid: str) -> bool:
        """Let the node drop a DAG when it needs the room; returns whether it was pinned."""
        parsed = CID.parse(cid)
        if self._node is not None:
            return self._node.unpin(parsed, self._deadline())
        return self._embedded().unpin(parsed)

    def ping(self) -> str:
        """What answers at the address, for people. Raises SourceUnavailable."""
        if self._node is not None:
            found = self._node.version(self._deadline(_PING_SECONDS))
            return f"{self._node.name}, version {found}"
        return f"{self.sources[0].name}, version {version('fitchain-verifier')}"

    def _embedded(self) -> BlockStore:
        if self._store is None:
            raise SourceUnavailable(f"{self.address} is no embedded store")
        return self._store

    def _deadline(self, seconds: float | None = None) -> Deadline:
        total = self.settings.fetch_deadline_seconds if seconds is None else seconds
        return Deadline.after(total, idle_seconds=self.settings.ipfs_timeout_seconds)


@contextmanager
def fresh_file(folder: Path) -> Iterator[FileTarget]:
    """A new file under a name of its own in ``folder``; removed at the end unless it was renamed."""
    target = FileTarget(folder / f".{secrets.token_hex(8)}.part")
    try:
        yield target
    finally:
        target.close()
        target.path.unlink(missing_ok=True)
