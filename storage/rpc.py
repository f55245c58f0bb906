"""An IPFS node (Kubo, or the embedded node) through its RPC, spoken by ``ipfshttpclient``.

RPC: https://docs.ipfs.tech/reference/kubo/rpc/. ``Client`` is constructed directly: ``connect()`` would
refuse every Kubo of today by its version number. Its transport is narrowed here in three ways
(``_Transport``): answers are read in chunks of bounded size, whatever chunks the node sends; redirects and
proxies are off; connections end at a deadline.

Reading asks for ``dag/export`` and ``block/get`` and leaves the verification to the assembly.
"""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import unquote, urlsplit

import ipfshttpclient
import requests
import urllib3.exceptions
from ipfshttpclient import exceptions, http_requests

from storage.assembly import MAX_BLOCK_BYTES, Progress
from storage.cid import CID
from storage.deadline import Deadline
from storage.errors import ContentNotFound, SourceUnavailable, StorageError
from storage.importer import V0_2015, add_file, add_path
from storage.sources import RemoteSource
from storage.watched import Watch, watch_session

_CHUNK_BYTES: Final = 262_144
_MISSING: Final = ("not found", "could not find", "no link named", "not pinned")
_ADD: Final = {
    "chunker": f"size-{V0_2015.chunk_bytes}",
    "raw_leaves": False,
    "cid_version": V0_2015.cid_version,
}


class _Transport(http_requests.ClientSync):  # type: ignore[misc]
    """The transport of ``ipfshttpclient`` with bounded chunks and watched connections."""

    def __init__(self, watch: Watch, *args: Any, **kwargs: Any) -> None:
        self.watch = watch
        super().__init__(*args, **kwargs)

    def _make_session(self) -> requests.Session:
        session: requests.Session = super()._make_session()
        watch_session(session, self.watch)
        return session

    def _request(self, *args: Any, chunk_size: int | None = None, **kwargs: Any) -> Any:
        # None would read an answer with a length in one piece, however long the node says it is.
        return super()._request(*args, chunk_size=chunk_size or _CHUNK_BYTES, **kwargs)


class RpcNode(RemoteSource):
    """A node behind its RPC address (URL or multiaddr). Constructing it does not connect."""

    def __init__(self, address: str) -> None:
        """Raises SourceUnavailable for an address that cannot be understood."""
        self.name = f"the IPFS node at {_without_password(address)}"
        self._multiaddr, self._auth = _parse(address)

    def version(self, deadline: Deadline) -> str:
        """The version that the node gives of itself."""
        with self._client(deadline) as client:
            return str(client.version()["Version"])

    @contextmanager
    def car(self, cid: CID, deadline: Deadline) -> Iterator[Iterator[bytes]]:
        """The answer of ``dag/export``."""
        with self._client(deadline, cid, paced=True) as client, client.dag.export(str(cid), stream=True) as chunks:
            yield client._client.watch.paced(chunks)

    def block(self, cid: CID, deadline: Deadline) -> bytes:
        """The answer of ``block/get``."""
        out = bytearray()
        with self._client(deadline, cid, paced=True) as client, client.block.get(str(cid), stream=True) as chunks:
            for chunk in client._client.watch.paced(chunks):
                out += chunk
                if len(out) > MAX_BLOCK_BYTES:
                    raise SourceUnavailable(f"{self.name} sends more than a block for {cid}")
        return bytes(out)

    def add(self, path: Path, deadline: Deadline, progress: Progress | None = None) -> CID:
        """Add and pin a file or a folder; the CID is computed here as well, and the two must agree."""
        expected = add_path(path, _discard).cid
        with self._client(deadline) as client:
            if path.is_dir():
                answer = client.add(path, recursive=True, **_ADD)
                answer = answer[-1] if isinstance(answer, list) else answer
            else:
                with path.open("rb") as stream:
                    answer = client.add(_Upload(stream, path, progress), **_ADD)
        return self._agreed(answer["Hash"], expected)

    def add_stream(self, stream: BinaryIO, deadline: Deadline) -> CID:
        """Add and pin the bytes of a stream that can be read twice."""
        expected = add_file(stream, _discard).cid
        stream.seek(0)
        with self._client(deadline) as client:
            answer = client.add(stream, **_ADD)
        return self._agreed(answer["Hash"], expected)

    def pin(self, cid: CID, deadline: Deadline) -> None:
        """Pin a DAG, which makes the node fetch what it lacks."""
        with self._client(deadline, cid) as client:
            client.pin.add(str(cid))

    def unpin(self, cid: CID, deadline: Deadline) -> bool:
        """Take the pin away; returns whether there was one."""
        try:
            with self._client(deadline, cid) as client:
                client.pin.rm(str(cid))
        except ContentNotFound:
            return False
        return True

    def _agreed(self, answer: str, expected: CID) -> CID:
        if answer != str(expected):
            raise SourceUnavailable(
                f"{self.name} made {answer} of content whose CID is {expected}; set its Import profile to "
                f"{V0_2015.name} and add it again"
            )
        return expected

    @contextmanager
    def _client(self, deadline: Deadline, cid: CID | None = None, *, paced: bool = False) -> Iterator[Any]:
        """A client for one piece of work, its errors in our own words."""
        deadline.check(self.name)
        timeout = (deadline.patience(), deadline.patience())
        watch = Watch()
        client = ipfshttpclient.Client(self._multiaddr, chunk_size=_CHUNK_BYTES, timeout=timeout, auth=self._auth)
        client._client = _Transport(
            watch, self._multiaddr, ipfshttpclient.DEFAULT_BASE, auth=self._auth, timeout=timeout
        )
        try:
            with watch.until(deadline, paced=paced), client:
                yield client
        except (exceptions.Error, requests.RequestException, urllib3.exceptions.HTTPError) as error:
            deadline.check(self.name)
            if watch.too_slow:
                raise SourceUnavailable(f"{self.name} sends {cid} too slowly; it was left") from error
            raise self._translate(error, cid) from error

    def _translate(self, error: Exception, cid: CID | None) -> StorageError:
        if isinstance(error, exceptions.ErrorResponse):
            message = str(error)
            if any(words in message for words in _MISSING):
                return ContentNotFound(f"{self.name} does not have {cid}: {message}")
            return SourceUnavailable(f"{self.name} answered with an error: {message}")
        if isinstance(error, exceptions.TimeoutError | requests.Timeout):
            return SourceUnavailable(f"{self.name} fell silent; is it overloaded, or looking for {cid} in vain?")
        if isinstance(error, exceptions.ConnectionError):
            return SourceUnavailable(f"{self.name} does not answer; start it, or correct FITCHAIN_IPFS_API")
        if isinstance(error, requests.TooManyRedirects):
            return SourceUnavailable(f"{self.name} redirects elsewhere, which is not followed")
        return SourceUnavailable(f"{self.name} broke off: {error}")


class _Upload:
    """A file for the multipart writer: counts what is read, and names the file without its path on this
    host."""

    def __init__(self, stream: BinaryIO, path: Path, progress: Progress | None) -> None:
        self.name = path.name
        self._stream = stream
        self._progress = progress
        self._total = path.stat().st_size
        self._done = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._done += len(data)
        if self._progress is not None and data:
            self._progress(self._done, self._total)
        return data


def _discard(cid: CID, block: bytes | memoryview) -> None:
    """A sink for computing a CID only."""


def _parse(address: str) -> tuple[str, tuple[str, str] | None]:
    """A multiaddr for the client, and credentials where the URL carries them."""
    if address.startswith("/"):
        return address, None
    parts = urlsplit(address)
    try:
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 5001)
    except ValueError:
        host, port = None, 0
    if parts.scheme not in {"http", "https"} or not host or parts.path.rstrip("/") not in {"", "/api/v0"}:
        raise SourceUnavailable(f"{address!r} is no address of an IPFS node; write http://127.0.0.1:5001")
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return f"/{_host_protocol(host)}/{host}/tcp/{port}/{parts.scheme}", auth


def _host_protocol(host: str) -> str:
    try:
        return f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        return "dns"


def _without_password(address: str) -> str:
    head, at, tail = address.rpartition("@")
    return f"{head.split('://')[0]}://{tail}" if at else address
