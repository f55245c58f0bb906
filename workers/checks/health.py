"""Is the process of a role on this host alive? Asked by container health checks, so it must be quick and
cheap.

A worker is asked through the broker (it answers between tasks and during them); the dispatcher leaves a sign
of life after each tick, active or standing by; Flower is asked over HTTP.
"""

from __future__ import annotations

import http.client
import socket

import redis

from tasks.settings import TasksSettings
from workers.checks.broker import client_of, shown
from workers.checks.model import Check, failed, ok
from workers.settings import WorkersSettings

ANSWER_SECONDS = 5.0


def health_of(role: str, *, name: str | None = None) -> Check:
    """Whether the process lives."""
    match role:
        case "dispatcher":
            return _dispatcher()
        case "flower":
            return _flower()
        case _:
            return _worker(f"{name or role}@{socket.gethostname()}")


def _worker(node: str) -> Check:
    from celery import Celery
    from kombu.exceptions import OperationalError

    from tasks.wire import wire_options

    app = Celery("health", set_as_current=False)
    app.conf.update(wire_options(TasksSettings()))
    try:
        answers = app.control.ping(destination=[node], timeout=ANSWER_SECONDS, limit=1)
    except (redis.RedisError, OperationalError, OSError) as error:
        return failed(node, f"{node} cannot be asked, the broker does not answer: {error}", "")
    if any(node in answer for answer in answers):
        return ok(node, f"{node} answers")
    return failed(node, f"{node} does not answer within {ANSWER_SECONDS:g} s", "")


def _dispatcher() -> Check:
    from workers.service import beat_key

    host = socket.gethostname()
    url = TasksSettings().broker_url.get_secret_value()
    try:
        with client_of(url, patience_seconds=ANSWER_SECONDS) as client:
            left = int(client.pttl(beat_key(host)))
    except (redis.RedisError, OSError, ValueError) as error:
        return failed("dispatcher", f"the broker {shown(url)} does not answer: {error}", "")
    if left > 0:
        return ok("dispatcher", f"the dispatcher of {host} ticks")
    return failed("dispatcher", f"the dispatcher of {host} has not ticked for a while", "")


def _flower() -> Check:
    settings = WorkersSettings()
    host = "127.0.0.1" if settings.flower_address in {"", "0.0.0.0", "::"} else settings.flower_address  # noqa: S104
    connection = http.client.HTTPConnection(host, settings.flower_port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/healthcheck")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return failed("flower", f"Flower does not answer at {host}:{settings.flower_port}: {error}", "")
    finally:
        connection.close()
    if status == http.client.OK:
        return ok("flower", f"Flower answers at {host}:{settings.flower_port}")
    return failed("flower", f"Flower answers with status {status}", "")
