"""Where blocks come from, and asking one source after the other.

A source fills an ``Assembly`` with the blocks that are missing. Only blocks are ever asked for: an answer of
file bytes (``cat``) cannot be verified before its end, and a node that fails half-way ends it without an
error. Sources of one kind each are in ``storage.rpc``, ``storage.gateways`` and here (``FolderSource``).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from storage.assembly import MAX_BLOCK_BYTES, Assembly
from storage.blocks import BlockStore
from storage.car import CarError, read_car
from storage.cid import CID, IDENTITY, RAW
from storage.deadline import Deadline
from storage.errors import ContentMismatch, ContentNotFound, SourceUnavailable, StorageError

_MAX_ROUNDS: Final = 4
_LEAF_BYTES: Final = 1_048_576  # below this a missing part is one block, which needs no CAR around it
_SLACK_BYTES: Final = 16_777_216


class Source(Protocol):
    """Somebody who may have blocks."""

    @property
    def name(self) -> str:
        """How messages call it."""

    def block(self, cid: CID, deadline: Deadline) -> bytes:
        """One block, not verified. Raises ContentNotFound, SourceUnavailable."""

    def fill(self, assembly: Assembly, deadline: Deadline) -> None:
        """Offer the missing blocks until the assembly is complete.

        Raises ContentNotFound, SourceUnavailable or ContentMismatch where this source cannot; what was
        offered until then stays. Errors of the content itself (ContentInvalid, ContentTooLarge) pass
        through.
        """


class FolderSource:
    """The blocks of an embedded store, without a server."""

    def __init__(self, store: BlockStore) -> None:
        self.name = f"the embedded store {store.folder}"
        self._store = store

    def block(self, cid: CID, deadline: Deadline) -> bytes:
        """The stored bytes."""
        deadline.check(self.name)
        block = self._store.read(cid)
        if block is None:
            raise ContentNotFound(f"{self.name} does not have {cid}; add the content there, or name another node")
        return block

    def fill(self, assembly: Assembly, deadline: Deadline) -> None:
        """Read block by block."""
        while (cid := assembly.next_wanted()) is not None:
            block = self.block(cid, deadline)
            try:
                assembly.offer(cid, block, source=self.name)
            except ContentMismatch:
                self._store.remove(cid)  # torn by a crash or damaged: adding the content again repairs the store
                raise


class RemoteSource(ABC):
    """A source behind a network: a CAR of what is missing, then single blocks for what the CAR lacked."""

    name: str

    @abstractmethod
    def car(self, cid: CID, deadline: Deadline) -> AbstractContextManager[Iterator[bytes]]:
        """The CAR of the DAG below ``cid``, in chunks. Raises ContentNotFound, SourceUnavailable."""

    @abstractmethod
    def block(self, cid: CID, deadline: Deadline) -> bytes:
        """One block, not verified. Raises ContentNotFound, SourceUnavailable."""

    def fill(self, assembly: Assembly, deadline: Deadline) -> None:
        """Ask for what is missing, first of the file first, until all is there or an answer brings nothing
        new."""
        while (cid := assembly.next_wanted()) is not None:
            before = assembly.blocks
            size = assembly.claimed_size(cid)
            if cid.codec == RAW or (size is not None and size <= _LEAF_BYTES):
                assembly.offer(cid, self.block(cid, deadline), source=self.name)
            else:
                self._fill_from_car(cid, assembly, deadline)
            if assembly.blocks == before:
                raise SourceUnavailable(f"{self.name} answered without the block {cid} that it was asked for")

    def _fill_from_car(self, cid: CID, assembly: Assembly, deadline: Deadline) -> None:
        received = 0
        with self._naming_it(), self.car(cid, deadline) as chunks:
            for found, block in read_car(chunks):
                deadline.check(self.name)
                assembly.offer(found, block, source=self.name)
                if assembly.complete:
                    return
                received += len(block)
                allowed = (assembly.size if assembly.size is not None else assembly.max_bytes) * 5 // 4 + _SLACK_BYTES
                if received > allowed:
                    raise SourceUnavailable(f"{self.name} sends more than {cid} holds; the answer was broken off")

    @contextmanager
    def _naming_it(self) -> Iterator[None]:
        try:
            yield
        except CarError as error:
            raise SourceUnavailable(f"{self.name}: {error}") from error


def fill_from(sources: Sequence[Source], assembly: Assembly, deadline: Deadline) -> Source:
    """Ask the sources in turn, each only for what is missing still; returns the one that completed the file.

    A round that brought new blocks is followed by another, so that a connection that breaks is taken up
    again; a source that sent wrong bytes is not asked again. Raises ContentMismatch, SourceUnavailable or
    ContentNotFound, whichever tells most, with what each source answered.
    """
    honest = list(sources)
    lies: list[StorageError] = []
    errors: list[StorageError] = []
    for _ in range(_MAX_ROUNDS):
        before = assembly.blocks
        errors = lies.copy()
        for source in tuple(honest):
            try:
                deadline.check(f"getting {assembly.cid}")
                source.fill(assembly, deadline)
            except (ContentNotFound, ContentMismatch, SourceUnavailable) as error:
                errors.append(error)
                if isinstance(error, ContentMismatch):
                    honest.remove(source)
                    lies.append(error)
            else:
                return source
        if assembly.blocks == before or deadline.remaining() <= 0:
            break
    raise _summary(assembly.cid, errors)


def get_block(sources: Sequence[Source], cid: CID, deadline: Deadline) -> bytes:
    """One verified block from the first source that gives it. Raises as ``fill_from``."""
    if cid.hash_code == IDENTITY:
        return cid.digest
    errors: list[StorageError] = []
    for source in sources:
        try:
            block = source.block(cid, deadline)
        except (ContentNotFound, SourceUnavailable) as error:
            errors.append(error)
            continue
        if len(block) <= MAX_BLOCK_BYTES and cid.matches(block):
            return block
        errors.append(ContentMismatch(f"{source.name} sent bytes that are not {cid}; they were thrown away"))
    raise _summary(cid, errors)


def _summary(cid: CID, errors: Sequence[StorageError]) -> StorageError:
    if len(errors) == 1:
        return errors[0]
    kind: type[StorageError] = ContentNotFound
    for candidate in (ContentMismatch, SourceUnavailable):
        if any(isinstance(error, candidate) for error in errors):
            kind = candidate
            break
    answers = "; ".join(str(error) for error in errors) or "no source is configured"
    return kind(f"{cid} could not be read: {answers}")
