"""The four parts of the local stack: how each is started, and how one knows that it answers.

Each is the real program. A `Service` is a description only; `compose.local` starts the processes.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from compose.errors import ProgramMissing
from compose.settings import StackSettings

LOOPBACK = "127.0.0.1"
CHAIN_ID = 31337
"""Chain identifier of anvil and Hardhat, known to wallets as a local development chain."""

PARTS = ("broker", "cache", "chain", "ipfs")
"""Names of the parts, in the order in which they are started."""

_PROBE_SECONDS = 2.0
_CHECKOUT = Path(__file__).resolve().parent.parent
_LOCAL_BIN = _CHECKOUT / ".local" / "bin"
_REMEDY = "Run `make setup`, which brings it, or name its path by {variable}."


@dataclass(frozen=True)
class Service:
    """One part: its command line, where it listens, and a probe.

    The probe returns when the part answers as it should and raises OSError, `redis.RedisError`,
    `http.client.HTTPException` or ValueError as long as it does not.
    """

    name: str
    title: str
    port: int
    url: str
    argv: list[str]
    probe: Callable[[], None]


@dataclass(frozen=True)
class Mining:
    """How the local chain makes blocks.

    With `block_seconds` None a block is mined for each transaction and time stands still in between; else
    every `block_seconds`, and, with `at_once`, for each transaction as well.
    """

    block_seconds: float | None = None
    at_once: bool = True


def free_port() -> int:
    """Return a TCP port that nobody listens on now, chosen by the kernel."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def find_program(name: str, configured: Path | None, variable: str) -> str:
    """Return the path of a program: the configured one, the one on PATH, or the checkout's own.

    Raises ProgramMissing, which says what to do.
    """
    local = _LOCAL_BIN / name
    candidates = [str(configured)] if configured is not None else [name, str(local)]
    for candidate in candidates:
        found = shutil.which(candidate)
        if found is not None:
            return found
    looked = [str(configured)] if configured is not None else ["PATH", str(local)]
    raise ProgramMissing(name, looked, _REMEDY.format(variable=variable))


def broker(folder: Path, port: int, settings: StackSettings) -> Service:
    """The Redis that carries the queue: never evicts, and its append-only file survives a restart."""
    policy = ["--maxmemory-policy", "noeviction", "--appendonly", "yes", "--appendfsync", "everysec"]
    return _redis("broker", "Redis, broker", folder, port, settings, policy)


def cache(folder: Path, port: int, settings: StackSettings) -> Service:
    """The Redis that caches blobs: a process of its own, evicting by frequency of use, nothing on disk."""
    limit = str(int(settings.stack_cache_bytes))
    policy = ["--maxmemory-policy", "allkeys-lfu", "--maxmemory", limit, "--appendonly", "no"]
    return _redis("cache", "Redis, blob cache", folder, port, settings, policy)


def chain(folder: Path, port: int, settings: StackSettings, mining: Mining) -> Service:
    """The development chain, with anvil's twenty accounts of the public test mnemonic.

    `folder` takes the states of old blocks, which anvil would otherwise leave in the user's home for ever.
    """
    program = find_program("anvil", settings.anvil, "FITCHAIN_ANVIL")
    argv = [program, "--host", LOOPBACK, "--port", str(port), "--chain-id", str(CHAIN_ID), "--accounts", "20"]
    argv += ["--cache-path", str(folder)]
    if mining.block_seconds is not None:
        argv += ["--block-time", f"{mining.block_seconds:g}"]
        if mining.at_once:
            argv.append("--mixed-mining")
    url = f"http://{LOOPBACK}:{port}"
    return Service("chain", "Chain (anvil)", port, url, argv, lambda: _probe_chain(port))


def ipfs(folder: Path, port: int) -> Service:
    """The embedded IPFS node, serving the block store in `folder` by the RPC of a real node."""
    listen = f"{LOOPBACK}:{port}"
    argv = [sys.executable, "-m", "storage.node", "--store", str(folder), "--listen", listen]
    return Service("ipfs", "IPFS node (embedded)", port, f"http://{listen}", argv, lambda: _probe_ipfs(port))


def _redis(name: str, title: str, folder: Path, port: int, settings: StackSettings, policy: list[str]) -> Service:
    folder.mkdir(parents=True, exist_ok=True)
    program = find_program("redis-server", settings.redis_server, "FITCHAIN_REDIS_SERVER")
    argv = [program, "--bind", LOOPBACK, "--port", str(port), "--dir", str(folder), "--save", ""]
    url = f"redis://{LOOPBACK}:{port}/0"
    return Service(name, title, port, url, argv + policy, lambda: _probe_redis(port))


def _probe_redis(port: int) -> None:
    client = redis.Redis(host=LOOPBACK, port=port, socket_timeout=_PROBE_SECONDS, retry=Retry(NoBackoff(), 0))
    try:
        client.ping()
    finally:
        client.close()


def _probe_chain(port: int) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
    answer = _post(port, "/", json.dumps(request).encode())
    if int(str(answer.get("result")), 16) != CHAIN_ID:
        raise ValueError(f"another chain than {CHAIN_ID} answers: {answer}")


def _probe_ipfs(port: int) -> None:
    answer = _post(port, "/api/v0/version", b"")
    if "Version" not in answer:
        raise ValueError(f"no IPFS node answers: {answer}")


def _post(port: int, path: str, body: bytes) -> dict[str, object]:
    """POST to a part on this machine; returns its JSON object."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_PROBE_SECONDS)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        if response.status != http.client.OK:
            raise http.client.HTTPException(f"{path} answers {response.status}: {text[:200]!r}")
        answer = json.loads(text)
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise ValueError(f"{path} answers no JSON object: {text[:200]!r}")
    return answer
