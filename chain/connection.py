"""Connections to the chain: the first configured endpoint that is healthy and serves the right chain.

Endpoints are HTTP JSON-RPC. Proof-of-authority headers (Clique's long extraData) are accepted. URLs often
carry credentials, in user info, path or query: whatever is printed passes through `redact` first, and
errors of the HTTP library, which quote whole URLs, are replaced by sentences of our own. A connection
belongs to the process that made it: connect again after a fork.
"""

import re
from typing import Any
from urllib.parse import urlsplit

import requests
from eth_typing import URI
from web3 import HTTPProvider, Web3
from web3.exceptions import Web3Exception
from web3.middleware import ExtraDataToPOAMiddleware
from web3.providers.rpc.utils import ExceptionRetryConfiguration

from chain.errors import EndpointUnavailable, WrongChain
from chain.settings import ChainSettings

_TOKEN_LENGTH = 16
"""Path segments at least this long are taken for access tokens."""

_LONGEST_PROBE_SECONDS = 5.0
_FAILURES: tuple[tuple[type[Exception], str], ...] = (  # the first that fits; subclasses stand before their bases
    (requests.Timeout, "does not answer in time"),
    (requests.exceptions.SSLError, "has no TLS certificate that we trust"),
    (requests.exceptions.JSONDecodeError, "does not answer like an Ethereum node"),
    (requests.ConnectionError, "cannot be reached (no such host, or connection refused)"),
    (requests.RequestException, "cannot be asked"),
)
_RETRIES = 2
_RETRY_BACKOFF_SECONDS = 0.2


def connect(settings: ChainSettings) -> Web3:
    """Web3 on the first endpoint that answers with the expected chain id.

    Raises WrongChain if the only endpoints that answer serve another chain, and EndpointUnavailable if none
    answers; both name each host and what was wrong with it.
    """
    failures: list[str] = []
    strangers = 0
    for url in settings.endpoints:
        try:
            served = probe_chain_id(url, min(settings.rpc_timeout_seconds, _LONGEST_PROBE_SECONDS))
        except EndpointUnavailable as error:
            failures.append(str(error))
            continue
        if settings.chain_id is not None and served != settings.chain_id:
            strangers += 1
            failures.append(f"{redact(url)} serves chain {served}")
            continue
        return web3_for(url, settings.rpc_timeout_seconds)
    if strangers == len(failures):
        raise WrongChain(
            f"FITCHAIN_CHAIN_ID asks for chain {settings.chain_id}, but " + "; ".join(failures) + ". "
            "Correct FITCHAIN_RPC_URL or FITCHAIN_CHAIN_ID."
        )
    raise EndpointUnavailable(
        "No endpoint of FITCHAIN_RPC_URL can be used: " + "; ".join(failures) + ". "
        "Start the node, or correct the setting."
    )


def web3_for(url: str, timeout_seconds: float = 20.0) -> Web3:
    """Web3 on one endpoint, without asking it anything yet."""
    provider = HTTPProvider(
        URI(url),
        request_kwargs={"timeout": timeout_seconds},
        exception_retry_configuration=ExceptionRetryConfiguration(
            errors=[requests.ConnectionError], retries=_RETRIES, backoff_factor=_RETRY_BACKOFF_SECONDS
        ),
    )
    w3 = Web3(provider)
    # It asks for the chain id twice with every call, to check what `connect` has checked and the outbox signs anyway:
    # 34 instead of 12 requests for a tick over 1,000 assignments.
    w3.middleware_onion.remove("validation")
    w3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
    return w3


def probe_chain_id(url: str, timeout_seconds: float) -> int:
    """Chain id that an endpoint serves. Raises EndpointUnavailable with its host and the kind of failure."""
    request: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
    try:
        response = requests.post(url, json=request, timeout=timeout_seconds)
        response.raise_for_status()
        return int(response.json()["result"], 16)
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        raise EndpointUnavailable(f"{redact(url)} {describe_failure(error)}") from None


def redact(url: str) -> str:
    """A URL without anything that may be a credential: user info, query, fragment, long path segments."""
    parts = urlsplit(url)
    host = parts.hostname or "?"
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    host = f"[{host}]" if ":" in host else host
    path = "/".join("…" if len(segment) >= _TOKEN_LENGTH else segment for segment in parts.path.split("/"))
    return f"{parts.scheme}://{host}{port}{path.rstrip('/')}"


def describe_failure(error: Exception) -> str:
    """What went wrong with an endpoint, as the rest of a sentence that begins with its host; without its
    URL.
    """
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _describe_status(error.response.status_code)
    for kind, sentence in _FAILURES:
        if isinstance(error, kind):
            return sentence
    if isinstance(error, Web3Exception):
        return "answers: " + _without_urls(str(getattr(error, "message", None) or error))
    return "does not answer like an Ethereum node"


def endpoint_of(w3: Web3) -> str:
    """The endpoint of a connection, fit to be printed."""
    url: Any = getattr(w3.provider, "endpoint_uri", None)
    return redact(str(url)) if url else type(w3.provider).__name__


def _describe_status(status: int) -> str:
    meaning = {401: "needs other credentials", 403: "refuses these credentials", 429: "limits our rate"}
    return f"answers with HTTP {status}" + (f": it {meaning[status]}" if status in meaning else "")


def _without_urls(text: str) -> str:
    return re.sub(r"https?://\S+", "(url)", text)[:300]
