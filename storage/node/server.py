"""HTTP for the embedded node: requests in, Kubo-like answers out.

Threads of the standard library's server suffice: each request waits for the disk or the network, and
hashing releases the interpreter lock. Answers of JSON are sent whole; bytes are streamed in chunks, and an
error in the middle cuts the connection, so that no client takes half an answer for all of it.

The RPC has no authentication, as Kubo's has none, so the server listens on loopback unless told otherwise,
takes POST only, and refuses requests that a browser makes for some web page.
"""

import json
import logging
import socket
import threading
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO, Final, cast
from urllib.parse import parse_qs, urlsplit

from storage.blocks import BlockStore
from storage.errors import StorageError
from storage.node.commands import AGENT, Call, Commands
from storage.node.multipart import BrokenUpload, Part, boundary_of, read_parts

_LOG = logging.getLogger(__name__)
_PREFIX: Final = "/api/v0/"
_IDLE_SECONDS: Final = 60.0
_MAX_THREADS: Final = 128
_MAX_CHUNK_HEAD_BYTES: Final = 1_024
_COMMANDS: Final = {
    "version": Commands.version,
    "id": Commands.id,
    "add": Commands.add,
    "cat": Commands.cat,
    "block/get": Commands.block_get,
    "block/put": Commands.block_put,
    "block/stat": Commands.block_stat,
    "dag/export": Commands.dag_export,
    "pin/add": Commands.pin_add,
    "pin/rm": Commands.pin_rm,
    "pin/ls": Commands.pin_ls,
}
_BYTES: Final = frozenset({"cat", "block/get", "dag/export"})


class NodeServer(ThreadingHTTPServer):
    """The server of one store. ``serve_forever`` runs it; port 0 takes a free one (``url`` says which)."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, store: BlockStore, host: str = "127.0.0.1", port: int = 0) -> None:
        """Binds at once. Raises OSError where the address is taken or not ours."""
        self.commands = Commands(store)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._slots = threading.BoundedSemaphore(_MAX_THREADS)
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        name = str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Wait for a free thread, so that idle connections cannot exhaust memory."""
        self._slots.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection and free its slot."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is the client's business; anything else is logged."""
        _LOG.debug("request ended early client=%s", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = AGENT
    sys_version = ""
    timeout = _IDLE_SECONDS

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        name = parts.path.removeprefix(_PREFIX)
        command = _COMMANDS.get(name)
        if not parts.path.startswith(_PREFIX) or command is None:
            self._fail(HTTPStatus.NOT_FOUND, f"{parts.path[:200]!r} is not a command of this node")
            return
        if self.headers.get("Origin") or self.headers.get("Referer"):
            self._fail(HTTPStatus.FORBIDDEN, "this node does not answer to web pages")
            return
        query = parse_qs(parts.query, keep_blank_values=True, max_num_fields=1000)
        options = {key: values[-1] for key, values in query.items()}
        body = _body_of(self)
        call = Call(tuple(query.get("arg", ())), options, self._parts(body))
        try:
            answer = command(self.server_commands, call)
            if name in _BYTES:
                self._stream(cast("Iterable[bytes]", answer))
            else:
                lines = b"".join(json.dumps(line).encode() + b"\n" for line in answer)
                body.drain()
                self._send(HTTPStatus.OK, lines)
        except (StorageError, BrokenUpload) as error:
            self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except OSError as error:
            self.close_connection = True
            _LOG.warning("request failed command=%s: %s", name, error)

    @property
    def server_commands(self) -> Commands:
        return cast("NodeServer", self.server).commands

    def do_GET(self) -> None:
        self._fail(HTTPStatus.METHOD_NOT_ALLOWED, "this RPC takes POST only")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        _LOG.debug("request client=%s %s", self.client_address[0], format % args)

    def _parts(self, body: "_Body") -> Iterator[Part]:
        yield from read_parts(cast("BinaryIO", body), boundary_of(self.headers.get("Content-Type", "")))

    def _stream(self, chunks: Iterable[bytes]) -> None:
        """Send chunks; the first is made before the head is sent, so that what is missing is still an
        error."""
        iterator = iter(chunks)
        chunk: bytes | None = next(iterator, b"")
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while chunk is not None:
                if chunk:
                    self.wfile.write(b"%x\r\n" % len(chunk))
                    self.wfile.write(chunk)
                    self.wfile.write(b"\r\n")
                chunk = next(iterator, None)
        except StorageError as error:
            _LOG.warning("answer cut in the middle path=%s: %s", self.path[:200], error)
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def _fail(self, status: HTTPStatus, message: str) -> None:
        self.close_connection = True  # the body, if any, was not read to its end
        self._send(status, json.dumps({"Message": message, "Code": 0, "Type": "error"}).encode() + b"\n")

    def _send(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


class _Body:
    """The body of a request, with a length or in chunks."""

    def __init__(self, stream: BinaryIO, length: int | None) -> None:
        self._stream = stream
        self._chunked = length is None
        self._left = length or 0
        self._ended = length == 0

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, none at the end."""
        if self._left == 0 and self._chunked and not self._ended:
            self._next_chunk()
        if self._left == 0:
            return b""
        data = self._stream.read(min(size, self._left))
        if not data:
            raise BrokenUpload("the request breaks off")
        self._left -= len(data)
        if self._left == 0 and self._chunked:
            self._stream.read(2)
        return data

    def drain(self) -> None:
        """Skip what was not read, so that the connection can be used again."""
        while self.read(65_536):
            pass

    def _next_chunk(self) -> None:
        line = self._stream.readline(_MAX_CHUNK_HEAD_BYTES)
        text = line.split(b";")[0].strip()
        try:
            if not line.endswith(b"\n") or not text or text.startswith((b"-", b"+")):
                raise ValueError(text)
            self._left = int(text, 16)
        except ValueError as error:
            raise BrokenUpload("the request's chunks are malformed") from error
        if self._left == 0:
            self._ended = True
            while self._stream.readline(_MAX_CHUNK_HEAD_BYTES) not in (b"\r\n", b"\n", b""):
                pass


def _body_of(handler: BaseHTTPRequestHandler) -> _Body:
    stream = cast("BinaryIO", handler.rfile)
    if handler.headers.get("Transfer-Encoding", "").lower() == "chunked":
        return _Body(stream, None)
    length = handler.headers.get("Content-Length", "0")
    return _Body(stream, int(length) if length.isdecimal() else 0)
