"""The Celery application of the workers: what a worker process does with the messages that `tasks.wire` defines.

`celery -A workers.app …` and Flower find `app` here. Each option states the failure that it prevents; the figures
behind them come from kill experiments on Celery 5.7 with Redis 7. Roles, queues and start-up checks are in
`workers.roles`.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery
from celery.signals import after_setup_logger

from tasks.settings import TasksSettings
from tasks.wire import APP_NAME, wire_options
from workers import roles  # connects the checks that every worker of this app passes before its first message
from workers.settings import WorkersSettings

TASK_MODULES = ("tasks.fetching", "tasks.evaluating", "tasks.submitting", "tasks.verifying")


def worker_options(settings: WorkersSettings) -> dict[str, Any]:
    """Options that only matter to a process that consumes."""
    return {
        # An early acknowledgement loses the running task when its worker dies.
        "task_acks_late": True,
        # A child killed by the kernel (out of memory) is retried a bounded number of times, not for ever.
        "task_reject_on_worker_lost": True,
        "task_retry_on_worker_lost": True,
        # Nothing waits in a busy worker's hands behind a long evaluation while another worker is idle.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        # Stops a redelivered task that has already succeeded from running again; needs kept results.
        "worker_deduplicate_successful_tasks": True,
        # True lost the running tasks in two of two trials; stated, because its default may change.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_soft_shutdown_timeout": settings.soft_shutdown_seconds,
        "worker_enable_soft_shutdown_on_idle": False,
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        "worker_eta_task_limit": 100,
        "worker_max_tasks_per_child": None,  # the sandbox gives every evaluation a fresh process already
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # TensorFlow never lives in a pool process (the sandbox owns it), so there is no device state to inherit.
        "worker_pool_start_method": "fork",
    }


def create_app(wire: TasksSettings | None = None, worker: WorkersSettings | None = None) -> Celery:
    """Build the application from settings (default: from the environment)."""
    application = Celery(APP_NAME, include=list(TASK_MODULES))
    application.conf.update(wire_options(wire or TasksSettings()))
    application.conf.update(worker_options(worker or WorkersSettings()))
    return application


@after_setup_logger.connect  # type: ignore[untyped-decorator]
def _quieten(logger: logging.Logger, **_: object) -> None:
    """Libraries that log a line a request would bury the protocol."""
    for name in ("urllib3", "httpx", "h5py", "absl", "web3"):
        logging.getLogger(name).setLevel(logging.WARNING)


app = create_app()
__all__ = ["app", "create_app", "roles"]
