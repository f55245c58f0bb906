"""The embedded node: what ipfshttpclient does against Kubo works against it, and both give the same answers."""

from __future__ import annotations

import http.client
import io
import json
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ipfshttpclient
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import IPFS, ContentNotFound
from storage.node.multipart import BrokenUpload, read_parts
from tests.storage.conftest import wait_for
from tests.storage.dags import dag_of
from tests.storage.ports import free_port

HELLO = "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"
MISSING = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"  # nothing here is ever added under it


def client_of(url: str) -> Any:
    parts = urlsplit(url)
    return ipfshttpclient.Client(f"/ip4/{parts.hostname}/tcp/{parts.port}")


@pytest.fixture(params=["embedded", pytest.param("kubo", marks=pytest.mark.kubo)])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The same test against both nodes."""
    url = request.getfixturevalue("node_url" if request.param == "embedded" else "kubo_url")
    with client_of(url) as client:
        yield client


def test_files_are_added_and_read(client: Any) -> None:
    assert client.add_bytes(b"hello world") == HELLO
    assert client.cat(HELLO) == b"hello world"
    assert client.add(io.BytesIO(b"hello world"), cid_version=1, raw_leaves=True)["Hash"] == (
        "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    )
    big = random.Random(1).randbytes(1_000_000)
    cid = client.add_bytes(big)
    assert cid == str(dag_of(big)[0])
    assert client.cat(cid) == big


def test_folders_are_added(client: Any, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "deep").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "a" / "deep" / "file").write_bytes(b"x" * 300_000)
    (tree / "ü and space").write_text("y")
    added = {entry["Name"]: entry["Hash"] for entry in client.add(tree, recursive=True)}
    assert set(added) == {"tree", "tree/a", "tree/a/deep", "tree/a/deep/file", "tree/empty", "tree/ü and space"}
    assert added["tree"] == IPFS(f"file://{tmp_path / 'store'}").store_file(tree)


def test_a_file_may_be_wrapped_in_a_folder(client: Any, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("f")
    names = [(entry["Name"], entry["Hash"]) for entry in client.add(tmp_path / "f", wrap_with_directory=True)]
    assert names == [
        ("f", "QmQGb6CHE3S7BK7gJCBNNnDAALk8pXokXH8Krhy77nsEma"),
        ("", "QmaQ5eajmxNZqHpTjnuJMkWLwJ3Sm44xrf9Vunwy44uw53"),
    ]


def test_only_hash_stores_nothing(client: Any) -> None:
    data = random.Random(2).randbytes(1000)
    cid = client.add(io.BytesIO(data), only_hash=True)["Hash"]
    assert cid == str(dag_of(data)[0])
    with pytest.raises(ipfshttpclient.exceptions.ErrorResponse):
        client.block.stat(cid, offline=True)


def test_blocks(client: Any) -> None:
    added = client.block.put(io.BytesIO(b"Mary had a little lamb"))
    assert client.block.get(added["Key"]) == b"Mary had a little lamb"
    stat = client.block.stat(added["Key"])
    assert (stat["Key"], stat["Size"]) == (added["Key"], 22)
    client.add_bytes(b"hello world")
    again = client.block.put(io.BytesIO(client.block.get(HELLO)), opts={"format": "v0"})
    assert again["Key"] == HELLO


def test_pins(client: Any) -> None:
    client.add_bytes(b"hello world")
    assert client.pin.add(HELLO)["Pins"] == [HELLO]
    assert client.pin.ls(HELLO)["Keys"][HELLO]["Type"] == "recursive"
    assert HELLO in client.pin.ls(type="recursive")["Keys"]
    assert client.pin.rm(HELLO)["Pins"] == [HELLO]
    with pytest.raises(ipfshttpclient.exceptions.ErrorResponse, match="not pinned"):
        client.pin.rm(HELLO)
    with pytest.raises(ipfshttpclient.exceptions.ErrorResponse, match="is not pinned"):
        client.pin.ls(HELLO)


@pytest.mark.parametrize("call", ["cat", "block.get", "block.stat", "dag.export", "pin.add"])
@pytest.mark.parametrize("cid", [MISSING, "nonsense", "../../../etc/passwd"])
def test_errors_are_answers(client: Any, call: str, cid: str) -> None:
    target = client
    for name in call.split("."):
        target = getattr(target, name)
    with pytest.raises(ipfshttpclient.exceptions.ErrorResponse):
        target(cid, offline=True)


@pytest.mark.kubo
def test_both_nodes_export_the_same_car(node_url: str, request: pytest.FixtureRequest) -> None:
    data = random.Random(3).randbytes(700_000)
    cars = []
    for url in (node_url, request.getfixturevalue("kubo_url")):
        with client_of(url) as client:
            cars.append(client.dag.export(client.add_bytes(data)))
    assert cars[0] == cars[1]


@pytest.mark.kubo
def test_content_travels_from_node_to_node(node_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    kubo_url = request.getfixturevalue("kubo_url")
    data = random.Random(4).randbytes(2_000_000)
    (tmp_path / "file").write_bytes(data)
    assert IPFS(node_url).store_file(tmp_path / "file") == IPFS(kubo_url).store_file(tmp_path / "file")
    for url in (node_url, kubo_url):
        assert IPFS(url).get(str(dag_of(data)[0])) == data


def ask(url: str, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, Any]]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text.startswith(b"{") else {}
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/api/v0/version", {}, 200),
        ("GET", "/api/v0/version", {}, 405),
        ("PUT", "/api/v0/version", {}, 501),
        ("POST", "/api/v0/shutdown", {}, 404),
        ("POST", "/../../etc/passwd", {}, 404),
        ("POST", "/api/v0/version", {"Origin": "http://evil.example"}, 403),
        ("POST", "/api/v0/add", {}, 500),
        ("POST", "/api/v0/add", {"Content_Type": "multipart/form-data"}, 500),
        ("POST", "/api/v0/add", {"Content_Type": 'multipart/form-data; boundary="x"'}, 500),
        ("POST", "/api/v0/block/get", {}, 500),
        ("POST", "/api/v0/add?chunker=rabin", {"Content_Type": 'multipart/form-data; boundary="x"'}, 500),
    ],
)
def test_requests_that_are_not_served(
    node_url: str, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    assert ask(node_url, method, path, **headers)[0] == status


def test_an_upload_that_breaks_off_is_an_error_and_the_node_lives_on(node_url: str) -> None:
    parts = urlsplit(node_url)
    head = (
        b"POST /api/v0/add HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        b"Content-Length: 1000\r\n\r\n--b\r\nContent-Disposition: form-data; filename=f\r\n\r\nhalf"
    )
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10) as connection:
        connection.sendall(head)
        connection.shutdown(socket.SHUT_WR)
        assert b"500" in connection.makefile("rb").readline()
    assert ask(node_url, "POST", "/api/v0/version")[0] == 200


@pytest.mark.parametrize("name", ["../up", "/../up", "a/../../up", "a/./b", "nul%00"])
def test_names_that_lead_elsewhere_are_refused(node_url: str, name: str) -> None:
    body = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\nx\r\n--b--\r\n'.encode()
    status, answer = ask(node_url, "POST", "/api/v0/add", body, Content_Type="multipart/form-data; boundary=b")
    assert status == 500 and "no name for a file" in answer["Message"]


def test_a_damaged_block_is_never_served(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "storage.node", "--store", tmp_path, "--listen", url.removeprefix("http://")],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        wait_for(url, process)
        cid = IPFS(url).store_bytes(random.Random(5).randbytes(600_000))
        leaf = max((tmp_path / "blocks").glob("*/*"), key=lambda path: path.stat().st_size)
        leaf.write_bytes(leaf.read_bytes()[:-1] + b"?")
        with pytest.raises(ContentNotFound):
            IPFS(url).get(cid)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert f"listening on {url}" in process.stderr.read()
        process.stderr.close()


def test_an_address_that_is_taken_is_said(node_url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "storage.node", "--store", tmp_path, "--listen", node_url.removeprefix("http://")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert process.returncode == 1
    assert "cannot start" in process.stderr


class Slow(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(3, size or 3))


bodies = st.lists(st.binary(max_size=60) | st.just(b"\r\n--b") | st.just(b"\r\n--bound"), max_size=4)


@given(bodies, st.booleans())
def test_multipart_reads_back_whatever_the_bytes(contents: list[bytes], slow: bool) -> None:
    boundary = b"bounded"
    text = b""
    for number, content in enumerate(contents):
        text += b'--bounded\r\nContent-Disposition: form-data; filename="%d"\r\n\r\n%b\r\n' % (number, content)
    stream = (Slow if slow else io.BytesIO)(text + b"--bounded--\r\n")
    assert [part.body.read() for part in read_parts(stream, boundary)] == contents


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_multipart_reader(data: bytes) -> None:
    try:
        for part in read_parts(io.BytesIO(b"--b\r\n" + data), b"b"):
            part.body.read(10)
    except BrokenUpload:
        return
