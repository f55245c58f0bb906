"""What the RPC calls of the embedded node do, without HTTP.

Answers have the shape that Kubo gives them (https://docs.ipfs.tech/reference/kubo/rpc/): a command returns
the lines of JSON or the chunks of bytes that are its answer.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

from storage.assembly import MAX_BLOCK_BYTES
from storage.blocks import BlockStore
from storage.car import header, section
from storage.cid import CID, DAG_PB, RAW
from storage.dagpb import MAX_LINKS
from storage.errors import ContentInvalid, ContentTooLarge, StorageError
from storage.importer import V0_2015, Added, Profile, add_file, add_folder
from storage.node.multipart import FOLDER_TYPE, Part
from storage.unixfs import file_node

AGENT: Final = "fitchain-embedded"
_MAX_CHUNK_BYTES: Final = 1_048_576
_CODECS: Final = {"raw": RAW, "dag-pb": DAG_PB, "protobuf": DAG_PB, "v0": DAG_PB}


@dataclass(frozen=True, slots=True)
class Call:
    """One RPC call: positional arguments, options, and the parts of its upload."""

    args: tuple[str, ...]
    options: Mapping[str, str]
    parts: Iterator[Part]

    def cid(self) -> CID:
        """The first argument as a CID. Raises StorageError, InvalidCID."""
        if not self.args:
            raise StorageError('argument "ipfs-path" is required')
        return CID.parse(self.args[0].removeprefix("/ipfs/"))

    def flag(self, name: str, default: bool) -> bool:
        """An option that is true or false."""
        return self.options.get(name, str(default)).lower() in {"true", "1"}


class Commands:
    """The calls, on one store."""

    def __init__(self, store: BlockStore) -> None:
        self.store = store

    def version(self, call: Call) -> list[dict[str, Any]]:
        """Who this is."""
        return [{"Version": version("fitchain-verifier"), "Commit": "", "Repo": "0", "System": "embedded"}]

    def id(self, call: Call) -> list[dict[str, Any]]:
        """A node without a network has neither identity nor addresses."""
        return [{"ID": "", "PublicKey": "", "Addresses": [], "AgentVersion": AGENT, "Protocols": []}]

    def add(self, call: Call) -> Iterator[dict[str, Any]]:
        """Import files and folders; one line for each, the folder that holds an entry after it."""
        profile = _profile(call)
        sink = _discard if call.flag("only-hash", False) else self.store.put
        entries: dict[str, Added] = {}
        folders: set[str] = set()
        for part in call.parts:
            if part.name in entries:
                raise StorageError(f"{part.name!r} occurs twice in one upload")
            if part.content_type == FOLDER_TYPE:
                folders.add(part.name)
                continue
            entries[part.name] = add_file(part.body, sink, profile=profile)
            folders.update(_parents(part.name))
            yield _line(part.name, entries[part.name])
        if not entries and not folders:
            raise StorageError('file argument "path" is required')
        if call.flag("wrap-with-directory", False):
            entries = {f"/{name}": added for name, added in entries.items()}
            folders = {f"/{name}" for name in folders} | {""}
        for folder in sorted(folders, key=lambda name: (-len(_parents(name)), name)):
            entries[folder] = add_folder(_children_of(folder, entries), sink, profile=profile)
            yield {**_line(folder, entries[folder]), "Name": folder.removeprefix("/")}
        if call.flag("pin", True) and sink is not _discard:
            for name in entries:
                if not _parents(name):
                    self.store.pin_root(entries[name].cid)

    def block_put(self, call: Call) -> Iterator[dict[str, Any]]:
        """Store single blocks, verified by being hashed."""
        codec = _CODECS.get(call.options.get("cid-codec") or call.options.get("format") or "raw")
        if codec is None:
            raise StorageError("this node stores blocks of the codecs raw and dag-pb")
        old = call.options.get("format") == "v0"
        for part in call.parts:
            block = part.body.read(MAX_BLOCK_BYTES + 1)
            if len(block) > MAX_BLOCK_BYTES:
                raise ContentTooLarge(f"a block has at most {MAX_BLOCK_BYTES} bytes")
            cid = CID.of(block, codec=codec, version=0 if old else 1)
            self.store.put(cid, block)
            yield {"Key": str(cid), "Size": len(block)}

    def block_get(self, call: Call) -> Iterable[bytes]:
        """One block."""
        return [self.store.get(call.cid())]

    def block_stat(self, call: Call) -> list[dict[str, Any]]:
        """The size of a block."""
        cid = call.cid()
        return [{"Key": str(cid), "Size": self.store.size(cid)}]

    def dag_export(self, call: Call) -> Iterator[bytes]:
        """A DAG as a CAR: each block once, in the order of the file."""
        root = call.cid()
        blocks = self.store.walk(root)
        first = next(blocks)  # what is missing altogether is an error before the answer begins
        yield header(root)
        yield section(*first)
        for cid, block in blocks:
            yield section(cid, block)

    def cat(self, call: Call) -> Iterator[bytes]:
        """The bytes of a file."""
        todo: list[tuple[CID, int | None]] = [(call.cid(), None)]
        while todo:
            cid, size = todo.pop()
            node = file_node(cid, self.store.get(cid))
            if size is not None and node.size != size:
                raise ContentInvalid(f"{cid} claims {size} bytes and has {node.size}")
            yield bytes(node.body)
            todo.extend(reversed(node.children))

    def pin_add(self, call: Call) -> list[dict[str, Any]]:
        """Pin DAGs that are here completely."""
        cids = [CID.parse(arg.removeprefix("/ipfs/")) for arg in call.args]
        for cid in cids:
            self.store.pin(cid)
        return [{"Pins": [str(cid) for cid in cids]}]

    def pin_rm(self, call: Call) -> list[dict[str, Any]]:
        """Take pins away."""
        cids = [CID.parse(arg.removeprefix("/ipfs/")) for arg in call.args]
        for cid in cids:
            if not self.store.unpin(cid):
                raise StorageError("not pinned or pinned indirectly")
        return [{"Pins": [str(cid) for cid in cids]}]

    def pin_ls(self, call: Call) -> list[dict[str, Any]]:
        """The pinned roots, or those of them that are asked for."""
        pinned = {str(cid) for cid in self.store.pins()}
        asked = [str(CID.parse(arg.removeprefix("/ipfs/"))) for arg in call.args] or sorted(pinned)
        for cid in asked:
            if cid not in pinned:
                raise StorageError(f"path '{cid}' is not pinned")
        return [{"Keys": {cid: {"Type": "recursive", "Name": ""} for cid in asked}}]


def _profile(call: Call) -> Profile:
    """The import profile that the options of ``add`` ask for. Raises StorageError for what is not offered."""
    if call.flag("trickle", False) or call.flag("nocopy", False):
        raise StorageError("this node offers neither the trickle layout nor nocopy")
    cid_version = _number(call.options.get("cid-version", "0"), 0, 1)
    raw_leaves = call.flag("raw-leaves", cid_version == 1)
    kind, _, size = call.options.get("chunker", f"size-{V0_2015.chunk_bytes}").partition("-")
    if kind != "size":
        raise StorageError("this node cuts files into chunks of one size; write chunker=size-262144")
    links = _number(call.options.get("max-file-links", str(V0_2015.links)), 2, MAX_LINKS)
    return Profile("custom", _number(size, 1, _MAX_CHUNK_BYTES), links, cid_version, raw_leaves)


def _number(text: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise StorageError(f"{text[:40]!r} is no number from {low} to {high}")
    return int(text)


def _parents(name: str) -> list[str]:
    """The folders that a path lies in, innermost first; the wrapping folder is the empty name before a
    slash."""
    out = []
    while "/" in name:
        name = name.rpartition("/")[0]
        out.append(name)
    return out


def _children_of(folder: str, entries: Mapping[str, Added]) -> list[tuple[str, Added]]:
    children = [name for name in entries if _parents(name)[:1] == [folder]]
    return [(name.rpartition("/")[2], entries[name]) for name in children]


def _line(name: str, added: Added) -> dict[str, Any]:
    return {"Name": name or str(added.cid), "Hash": str(added.cid), "Size": str(added.tsize)}


def _discard(cid: CID, block: bytes | memoryview) -> None:
    """A sink for ``only-hash``."""
