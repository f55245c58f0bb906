"""A node and gateway that misbehaves in one chosen way, for what a real one cannot be made to do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from storage.car import header, section
from storage.cid import CID
from tests.storage.dags import Blocks


class Fault(Enum):
    """What goes wrong."""

    NONE = auto()
    ENDS_CLEANLY_HALFWAY = auto()  # as Kubo does when it fails after its answer began
    CUTS_CONNECTION_HALFWAY = auto()
    CUTS_CONNECTION_ONCE = auto()
    WRONG_BYTES = auto()
    WRONG_BLOCK = auto()
    REVERSED = auto()
    DUPLICATES = auto()
    MISSING_BLOCK = auto()
    SILENT = auto()
    DRIPS = auto()
    DRIPS_HEAD = auto()
    OVERSIZE_BLOCK = auto()
    ENDLESS = auto()
    REDIRECTS = auto()
    FAILS = auto()
    NOT_FOUND = auto()
    NONSENSE = auto()
    GIANT_CHUNK = auto()
    ONE_CHUNK = auto()
    WITH_LENGTH = auto()


class FaultyNode(ThreadingHTTPServer):
    """Serves ``blocks`` by RPC and as a gateway, with a fault, and notes requests."""

    daemon_threads = True

    def __init__(self, root: CID, blocks: Blocks, fault: Fault) -> None:
        self.root, self.blocks, self.fault = root, blocks, fault
        self.asked: list[str] = []
        self.over = threading.Event()
        self.redirect_to = "http://127.0.0.1:1"
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are expected here."""


@contextmanager
def faulty_node(root: CID, blocks: Blocks, fault: Fault) -> Iterator[FaultyNode]:
    """Run one."""
    with FaultyNode(root, blocks, fault) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyNode

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        cid = CID.parse(parse_qs(parts.query)["arg"][0])
        self._answer(cid, parts.path.rpartition("/api/v0/")[2], car=parts.path.endswith("export"))

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        self._answer(CID.parse(parts.path.rpartition("/")[2]), query["format"][0], car=query["format"] == ["car"])

    def _answer(self, cid: CID, name: str, *, car: bool) -> None:
        server = self.server
        server.asked.append(f"{name} {cid}")
        fault = server.fault
        self.close_connection = True
        if fault is Fault.SILENT:
            server.over.wait(30)
            return
        if fault is Fault.DRIPS_HEAD:
            self._drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 10_000)
            return
        if fault is Fault.REDIRECTS:
            self._head(302, [("Location", self.server.redirect_to + self.path), ("Content-Length", "0")])
            return
        if fault in (Fault.FAILS, Fault.NOT_FOUND) or cid not in server.blocks:
            status = 404 if self.command == "GET" and fault is not Fault.FAILS else 500
            words = "the disk is on fire" if fault is Fault.FAILS else "ipld: could not find it"
            body = b'{"Message": "%s", "Code": 0, "Type": "error"}' % words.encode()
            self._head(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
            self.wfile.write(body)
            return
        self._body(self._car(cid) if car else self._block(cid), halves=car and cid == server.root)

    def _car(self, cid: CID) -> bytes:
        if cid != self.server.root:
            return header(cid) + section(cid, self.server.blocks[cid])
        fault = self.server.fault
        blocks = list(reversed(self.server.blocks.items()))  # the importer ends with the root
        middle = len(blocks) // 2
        if fault is Fault.WRONG_BYTES:
            name, block = blocks[middle]
            blocks[middle] = (name, block[:-1] + bytes([block[-1] ^ 1]))
        elif fault is Fault.WRONG_BLOCK:
            blocks[middle] = (blocks[middle][0], blocks[0][1])
        elif fault is Fault.REVERSED:
            blocks.reverse()
        elif fault is Fault.DUPLICATES:
            blocks = [block for block in blocks for _ in range(3)]
        elif fault is Fault.MISSING_BLOCK:
            del blocks[middle]
        elif fault is Fault.NONSENSE:
            return b"<html>Welcome to the captive portal</html>"
        return header(cid) + b"".join(section(name, self._block(name, block)) for name, block in blocks)

    def _block(self, cid: CID, block: bytes | None = None) -> bytes:
        if self.server.fault is Fault.OVERSIZE_BLOCK and cid == next(iter(self.server.blocks)):
            return bytes(3 << 20)
        return self.server.blocks[cid] if block is None else block

    def _body(self, data: bytes, *, halves: bool) -> None:
        fault = self.server.fault
        if fault is Fault.GIANT_CHUNK:
            self._head(200, [("Transfer-Encoding", "chunked")])
            self.wfile.write(b"7fffffff\r\n")
            while not self.server.over.is_set():
                self.wfile.write(bytes(1 << 20))
            return
        if fault is Fault.WITH_LENGTH:
            self._head(200, [("Content-Length", str(len(data)))])
            self.wfile.write(data)
            return
        self._head(200, [("Transfer-Encoding", "chunked")])
        if fault is Fault.DRIPS:
            self.wfile.write(b"%x\r\n" % len(data))
            self._drip(data)
            return
        if fault is Fault.ENDLESS:
            self._chunk(header(self.server.root))
            number = 0
            while not self.server.over.is_set():
                number += 1
                block = number.to_bytes(8, "big") * 32_768
                self._chunk(section(CID.of(block, codec=0x55, version=1), block))
            return
        cut = halves and fault in (Fault.CUTS_CONNECTION_HALFWAY, Fault.CUTS_CONNECTION_ONCE)
        if cut or (halves and fault is Fault.ENDS_CLEANLY_HALFWAY):
            data = data[: len(data) // 2]
        size = len(data) if fault is Fault.ONE_CHUNK else 65_536
        for at in range(0, len(data), size):
            self._chunk(data[at : at + size])
        if cut:
            if fault is Fault.CUTS_CONNECTION_ONCE:
                self.server.fault = Fault.NONE
            return
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _drip(self, data: bytes) -> None:
        for byte in data:
            if self.server.over.wait(0.05):
                return
            self.wfile.write(bytes([byte]))

    def _head(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""
