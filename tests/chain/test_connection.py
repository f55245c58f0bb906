"""Endpoints: the first healthy one of the right chain; failures in words, without credentials."""

import json
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from chain.connection import connect, endpoint_of, redact, web3_for
from chain.errors import EndpointUnavailable, WrongChain
from chain.node import Answer, Node
from chain.settings import ChainSettings
from tests.evm import Evm

TOKEN = "0123456789abcdef0123456789abcdef"
Answering = Callable[[dict[str, Any]], tuple[int, bytes]]


@contextmanager
def endpoint(answering: Answering) -> Iterator[str]:
    """A server that answers JSON-RPC as told; yields its URL, with credentials all over it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = answering(request)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://user:{TOKEN}@127.0.0.1:{server.server_port}/v3/{TOKEN}?key={TOKEN}"
    finally:
        server.shutdown()
        server.server_close()


def closed_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v3/{TOKEN}"


def settings(*urls: str, **values: Any) -> ChainSettings:
    return ChainSettings(rpc_url=",".join(urls), **{"chain_id": None, **values})


def serves(chain_id: int) -> Answering:
    def answering(request: dict[str, Any]) -> tuple[int, bytes]:
        return 200, json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": hex(chain_id)}).encode()

    return answering


def hangs(_: dict[str, Any]) -> tuple[int, bytes]:
    time.sleep(1.5)
    return 200, b""


def test_first_healthy_endpoint_is_taken(evm: Evm) -> None:
    with endpoint(serves(5)) as stranger:
        w3 = connect(settings(closed_port(), stranger, evm.url, chain_id=evm.chain_id))
    assert w3.eth.chain_id == evm.chain_id
    assert endpoint_of(w3) == evm.url


def test_without_a_chain_id_the_first_that_answers_decides(evm: Evm) -> None:
    with endpoint(serves(5)) as other:
        assert connect(settings(other, evm.url)).eth.chain_id == 5


def test_wrong_chain_is_said_and_permanent(evm: Evm) -> None:
    with pytest.raises(WrongChain, match=f"{evm.url} serves chain {evm.chain_id}") as caught:
        connect(settings(evm.url, chain_id=5))
    assert not caught.value.transient


@pytest.mark.parametrize(
    ("answering", "said"),
    [
        (lambda _: (429, b"slow down"), "HTTP 429: it limits our rate"),
        (lambda _: (401, b""), "HTTP 401: it needs other credentials"),
        (lambda _: (500, b""), "HTTP 500"),
        (lambda _: (200, b"<html>"), "does not answer like an Ethereum node"),
        (lambda _: (200, b'{"result": null}'), "does not answer like an Ethereum node"),
        (lambda _: (200, b"[]"), "does not answer like an Ethereum node"),
        (hangs, "does not answer in time"),
    ],
)
def test_each_failure_is_named_with_its_host_but_without_credentials(answering: Answering, said: str) -> None:
    dead = closed_port()
    with endpoint(answering) as url, pytest.raises(EndpointUnavailable) as caught:
        connect(settings(dead, url, rpc_timeout_seconds=0.5))
    text = "".join(traceback.format_exception(caught.value))
    assert f"{redact(url)} {said}" in text or f"{redact(url)} answers with {said}" in text
    assert f"{redact(dead)} cannot be reached" in text
    assert "FITCHAIN_RPC_URL" in text
    assert TOKEN not in text
    assert caught.value.transient


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"https://user:{TOKEN}@node.example/", "https://node.example"),
        (f"https://node.example:8545/v3/{TOKEN}", "https://node.example:8545/v3/…"),
        (f"https://node.example/rpc?apikey={TOKEN}#{TOKEN}", "https://node.example/rpc"),
        ("http://[::1]:8545", "http://[::1]:8545"),
        (f"redis://:{TOKEN}@cache:6379/0", "redis://cache:6379/0"),
        ("http://host:notaport/", "http://host"),
    ],
)
def test_redaction(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_errors_while_working_show_no_credentials_either() -> None:
    node = Node(web3_for(closed_port(), 0.5))
    with pytest.raises(EndpointUnavailable) as caught:
        node.head()
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    answer, said = node.broadcast(b"\1")
    assert answer is Answer.UNANSWERED
    assert TOKEN not in said


def test_headers_of_proof_of_authority_are_read() -> None:
    block = {
        "number": "0x5",
        "timestamp": "0x6",
        "hash": "0x" + "22" * 32,
        "extraData": "0x" + "00" * 97,
    }

    def answering(request: dict[str, Any]) -> tuple[int, bytes]:
        return 200, json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": block}).encode()

    with endpoint(answering) as url:
        head = Node(web3_for(url)).head()
    assert (head.number, head.timestamp, head.base_fee_wei) == (5, 6, None)
