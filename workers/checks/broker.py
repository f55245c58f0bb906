"""Redis: the broker, which must forget nothing, and the blob cache, another process, which may."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlsplit

import redis

from storage import StorageSettings
from tasks.settings import TasksSettings
from workers.checks.model import Check, failed, ok, warning
from workers.errors import BrokerUnavailable

PATIENCE_SECONDS = 3.0
_CACHE_POLICIES = ("allkeys-lfu", "allkeys-lru")
_START = "Start it (`make setup` installs it, `python -m compose start FOLDER` runs a local stack), or correct {}."


def require_broker(settings: TasksSettings) -> None:
    """Find out within seconds whether the broker answers.

    Raises:
        BrokerUnavailable: it does not.
        redis.exceptions.AuthenticationError: it wants other credentials.
    """
    url = settings.broker_url.get_secret_value()
    try:
        with client_of(url) as client:
            client.ping()
    except redis.exceptions.AuthenticationError:
        raise
    except (redis.RedisError, OSError, ValueError) as error:
        raise BrokerUnavailable(f"Redis does not answer at {shown(url)}: {error}") from error


def client_of(url: str, *, patience_seconds: float = PATIENCE_SECONDS) -> redis.Redis:
    """A client that gives up soon."""
    return redis.Redis.from_url(
        url, socket_timeout=patience_seconds, socket_connect_timeout=patience_seconds, decode_responses=True
    )


def shown(url: str) -> str:
    """The address of a Redis without its credentials."""
    parts = urlsplit(url)
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"{parts.scheme}://{parts.hostname or '?'}{port}{parts.path}"


def check_redis(tasks: TasksSettings, storage: StorageSettings) -> list[Check]:
    """Broker and cache."""
    broker, checks = _check_broker(tasks.broker_url.get_secret_value())
    return checks + _check_cache(storage.cache_url, broker)


def check_broker(tasks: TasksSettings) -> list[Check]:
    """The broker alone."""
    return _check_broker(tasks.broker_url.get_secret_value())[1]


def _check_broker(url: str) -> tuple[str | None, list[Check]]:
    """The broker's run id (None: it does not answer) and its checks."""
    try:
        with client_of(url) as client:
            info = _info(client)
            policy, persisted = _config(client, "maxmemory-policy"), _config(client, "appendonly")
    except (redis.RedisError, OSError, ValueError) as error:
        return None, [failed("broker", f"{shown(url)} does not answer: {error}", _START.format("FITCHAIN_BROKER_URL"))]
    checks = [ok("broker", f"{shown(url)}, Redis {info['redis_version']}")]
    if policy not in {"noeviction", None}:
        checks.append(
            failed(
                "broker policy",
                f"maxmemory-policy is {policy}: under pressure Redis throws queued tasks away",
                "Set `maxmemory-policy noeviction` for the broker, and keep blobs in a Redis of their own.",
            )
        )
    if persisted == "no":
        checks.append(
            warning(
                "broker persistence",
                "appendonly is off: a restart of Redis loses what is queued",
                "Set `appendonly yes` and `appendfsync everysec`. (Steps of challenges come again anyway.)",
            )
        )
    if policy is None or persisted is None:
        checks.append(
            warning(
                "broker settings",
                "this Redis does not let its settings be read",
                "Make sure that its maxmemory-policy is noeviction and that it persists (appendonly yes).",
            )
        )
    return str(info.get("run_id")), checks


def _check_cache(url: str, broker: str | None) -> list[Check]:
    if not url:
        return [
            warning(
                "cache",
                "no shared blob cache: every host fetches every file for itself",
                "Set FITCHAIN_CACHE_URL to a Redis of its own, unless there is one host only.",
            )
        ]
    try:
        with client_of(url) as client:
            info, policy = _info(client), _config(client, "maxmemory-policy")
    except (redis.RedisError, OSError, ValueError) as error:
        return [failed("cache", f"{shown(url)} does not answer: {error}", _START.format("FITCHAIN_CACHE_URL"))]
    checks = [ok("cache", f"{shown(url)}, Redis {info['redis_version']}, {policy or 'policy unknown'}")]
    if broker is not None and info.get("run_id") == broker:
        checks.append(
            failed(
                "cache process",
                "broker and cache are the same Redis process: blobs fill the memory that queued tasks need",
                "Run a second Redis for the blobs; another database number does not separate them.",
            )
        )
    elif policy is not None and policy not in _CACHE_POLICIES:
        checks.append(
            warning(
                "cache policy",
                f"maxmemory-policy is {policy}: the cache refuses new blobs when it is full",
                "Set `maxmemory` and `maxmemory-policy allkeys-lfu` for the cache.",
            )
        )
    return checks


def _info(client: redis.Redis) -> dict[str, Any]:
    return client.info("server")


def _config(client: redis.Redis, name: str) -> str | None:
    """A setting of the server; None where it does not tell (managed services often do not)."""
    try:
        found = cast("dict[str, str]", client.config_get(name))
    except redis.ResponseError:
        return None
    return found.get(name)
