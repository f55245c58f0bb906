"""The wire: queue names, priorities, serialisation and broker options that producers and workers must agree on.

Everything here holds for whoever puts a message on the broker or takes one off it. What concerns only a worker
process (pools, prefetch, acknowledgement) is in `workers.app`. The reasons come from kill experiments on Celery 5.7,
kombu 5.7 and Redis 7; `docs/decisions` keeps them.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from celery import Celery, current_app

from tasks.settings import TasksSettings

APP_NAME: Final = "fitchain-verifier"

FETCH_QUEUE: Final = "fetch"
EVALUATE_CPU_QUEUE: Final = "evaluate.cpu"
EVALUATE_GPU_QUEUE: Final = "evaluate.gpu"

# Redis priorities: 0 is served first, and an unset priority means 0, so every message states one.
URGENT_PRIORITY: Final = 0
AD_HOC_PRIORITY: Final = 3
CHALLENGE_PRIORITY: Final = 6
PATIENT_PRIORITY: Final = 9

# A delivery that is not acknowledged for so long is given to another worker. Tasks that run longer extend their own
# delivery (`tasks.steps`). The shortest value in the fleet wins, hence one constant for all.
VISIBILITY_TIMEOUT_SECONDS: Final = 120


def submit_queue(account: str) -> str:
    """The queue of one account's submit steps: only workers that hold its key listen on it."""
    return f"submit.{account.lower()}"


def wire_options(settings: TasksSettings) -> dict[str, Any]:
    """Celery options that every producer and worker of a cluster shares."""
    return {
        "broker_url": settings.broker_url.get_secret_value(),
        "result_backend": (settings.result_url or settings.broker_url).get_secret_value(),
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
            # The default sweep runs every ~100 s: a lost worker's task came back after 90 s instead of 10.
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "priority_steps": [URGENT_PRIORITY, AD_HOC_PRIORITY, CHALLENGE_PRIORITY, PATIENT_PRIORITY],
            "queue_order_strategy": "priority",
            # Without a timeout a publish waits for ever on a dead socket.
            "socket_timeout": 30,
            "socket_connect_timeout": 10,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        "result_backend_transport_options": {"retry_policy": {"timeout": 15.0}},
        "redis_socket_timeout": 30,
        "redis_socket_connect_timeout": 10,
        "redis_backend_health_check_interval": 25,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "enable_utc": True,
        "timezone": "UTC",
        "task_default_queue": FETCH_QUEUE,
        "task_default_priority": CHALLENGE_PRIORITY,
        "task_inherit_parent_priority": True,
        "task_routes": {
            "verify": {"queue": FETCH_QUEUE},
            "fetch": {"queue": FETCH_QUEUE},
            "evaluate": {"queue": settings.evaluate_queue},
        },
        "task_track_started": True,
        "task_send_sent_event": True,  # Flower and exporters show a task from the moment it is queued
        "result_expires": 24 * 3600,
        "result_extended": True,
    }


@functools.cache
def producer() -> Celery:
    """The app through which this process enqueues.

    Inside a worker, or wherever `workers.app` was imported, that app; elsewhere (a notebook, a script) a light one
    with the same wire options, made from the settings.
    """
    running = current_app._get_current_object()
    if running.main == APP_NAME:
        return running
    app = Celery(APP_NAME, set_as_current=False)
    app.conf.update(wire_options(TasksSettings()))
    return app
