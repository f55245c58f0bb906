"""Counting what a piece of work asks of its services: RPC calls by method, Redis commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import redis
from web3 import HTTPProvider, Web3
from web3.types import RPCEndpoint


class RpcCounter:
    """Counts the requests that a connection really sends, by method; a batch counts as one, what is cached as none."""

    def __init__(self, w3: Web3) -> None:
        provider = cast("HTTPProvider", w3.provider)
        self._requests: Counter[str] = Counter()
        encode, encode_batch = provider.encode_rpc_request, provider.encode_batch_rpc_request

        def counted(method: RPCEndpoint, params: Any) -> bytes:
            self._requests[method] += 1
            return encode(method, params)

        def counted_batch(requests: list[tuple[RPCEndpoint, Any]]) -> bytes:
            self._requests["batch"] += 1
            return encode_batch(requests)

        # Every request is encoded once, right before it is sent.
        provider.encode_rpc_request = counted  # type: ignore[method-assign]
        provider.encode_batch_rpc_request = counted_batch  # type: ignore[method-assign]

    def taken(self) -> Counter[str]:
        """The counts since the last call, which start again at nothing."""
        counts, self._requests = self._requests, Counter()
        return counts


@contextmanager
def redis_commands(url: str) -> Iterator[Callable[[], int]]:
    """A function that tells how many commands a Redis has processed since the body began (its own look not counted)."""
    with redis.Redis.from_url(url) as client:

        def processed() -> int:
            return int(cast("dict[str, Any]", client.info("stats"))["total_commands_processed"])

        before = processed()
        yield lambda: processed() - before - 1
