"""Fixtures of the storage tests: settings in private folders, an embedded node, Kubo where it is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import IPFS, Content, SourceUnavailable, StorageSettings
from tests.storage.ports import free_port


@pytest.fixture
def settings(tmp_path: Path) -> StorageSettings:
    """Everything in a private folder, no Redis, no network."""
    return StorageSettings(
        ipfs_api="",
        ipfs_store=tmp_path / "ipfs",
        store_dir=tmp_path / "blobs",
        cache_url="",
        ipfs_gateways=(),
        ipfs_timeout_seconds=5,
        fetch_deadline_seconds=20,
    )


@pytest.fixture
def ipfs(settings: StorageSettings) -> IPFS:
    """The embedded store, without a server."""
    return IPFS(settings=settings)


@pytest.fixture
def content(settings: StorageSettings) -> Content:
    """The road to blobs without Redis."""
    return Content.from_settings(settings)


@pytest.fixture(scope="session")
def node_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An embedded node in a process of its own."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "storage.node", "--listen", url.removeprefix("http://"), "--store"]
    process = subprocess.Popen([*command, str(tmp_path_factory.mktemp("node"))], stderr=subprocess.DEVNULL)
    try:
        wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def kubo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kubo node, private and offline; skipped where there is no binary."""
    binary = os.environ.get("KUBO_PATH") or shutil.which("ipfs") or Path(__file__).parents[2] / ".local/bin/ipfs"
    if not Path(binary).is_file():
        pytest.skip("no Kubo here; set KUBO_PATH to its binary")
    port, gateway = free_port(), free_port()
    environment = {
        "IPFS_PATH": str(tmp_path_factory.mktemp("kubo")),
        "PATH": os.environ["PATH"],
        "HOME": "/nowhere",
    }

    def run(*arguments: str) -> None:
        subprocess.run([binary, *arguments], env=environment, check=True, capture_output=True, timeout=60)

    run("init", "--profile=test")
    run("config", "Addresses.API", f"/ip4/127.0.0.1/tcp/{port}")
    run("config", "Addresses.Gateway", f"/ip4/127.0.0.1/tcp/{gateway}")
    run("config", "--json", "Addresses.Swarm", "[]")
    process = subprocess.Popen(
        [binary, "daemon", "--offline"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 20.0) -> None:
    """Wait until a node answers."""
    end = time.monotonic() + seconds
    while process.poll() is None:
        try:
            IPFS(url).ping()
        except SourceUnavailable:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"the node at {url} ended with {process.returncode}")
