"""What every task of the protocol shares: its lease, its delivery, its retries and its readable name.

`protocol_task` registers a task under its short name; `working` guards the body of one. The rules live here once:

- A task whose step lease belongs to somebody newer does nothing (the state `SUPERSEDED`).
- While it works, its lease and the broker's delivery are extended, so that neither the dispatcher nor the broker gives
  the work to a second worker, and both do soon after its process has died.
- What may pass (`error.transient`) is tried again with growing pauses until the job's deadline; what cannot, is not.
"""

from __future__ import annotations

import logging
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from celery import Task, shared_task
from celery.exceptions import Ignore

from chain.errors import ChainError
from storage import StorageError
from tasks import runtime
from tasks.errors import TasksError
from tasks.leases import beating, bounded_lease
from tasks.messages import Job
from tasks.wire import VISIBILITY_TIMEOUT_SECONDS

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

RUNNING_LEASE_SECONDS = 30.0
HANDOVER_LEASE_SECONDS = 120.0
# A dispatcher that read the chain before a step was mined still takes it for owed, and a node may lag some blocks
# behind another: were the lease free at once, a busy cluster would do a fifth of its evaluations twice.
DONE_LEASE_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
AD_HOC_RETRIES = 4

# The errors that carry `transient`: whatever else escapes a task is a defect and fails it at once.
PROTOCOL_ERRORS = (ChainError, StorageError, TasksError)


def protocol_task(name: str) -> Callable[[F], F]:
    """Register a bound task with messages validated by pydantic; typed, which Celery's own decorator is not."""
    decorate = shared_task(name=name, bind=True, pydantic=True, max_retries=None)
    return cast("Callable[[F], F]", decorate)


def host() -> str:
    """The name under which this worker's host appears in reports and logs."""
    return socket.gethostname()


@contextmanager
def working(task: Task, job: Job, *, last: bool, deadline: float | None = None) -> Iterator[None]:
    """Guard a task's body: claim the step, keep it claimed, let it go.

    `last` says that no task of the chain follows: the lease then rests until every dispatcher has seen what was done,
    else it is handed over to the next task.
    `deadline` (Unix seconds) replaces the job's, for a task that may go on after the evaluation's time is over.

    Raises:
        celery.exceptions.Ignore: the step belongs to a newer message.
        celery.exceptions.Retry: the body failed by what may pass, and there is time for another try.
    """
    lease, leases = job.lease, runtime.leases()
    if deadline is not None:
        job = job.model_copy(update={"deadline": deadline})
    running = bounded_lease(RUNNING_LEASE_SECONDS, job.deadline, time.time())
    if lease is not None and not leases.claim(lease.key, lease.token, running):
        logger.info("superseded task=%s step=%s", task.name, lease.key)
        task.update_state(state="SUPERSEDED", meta={"step": lease.key})
        raise Ignore

    def beat() -> None:
        if lease is not None:
            leases.claim(lease.key, lease.token, running)
        _extend_delivery(task)

    try:
        with beating(beat, min(running, VISIBILITY_TIMEOUT_SECONDS) / 3):
            yield
    except PROTOCOL_ERRORS as error:
        _retry_or_raise(task, job, error)
    if lease is not None:
        longest = DONE_LEASE_SECONDS if last else HANDOVER_LEASE_SECONDS
        leases.rest(lease.key, lease.token, bounded_lease(longest, job.deadline, time.time()))


def pause_before_retry(retries: int, *, jitter: float | None = None) -> float:
    """Seconds to wait before try number `retries + 1`: doubling from 2 to 60, ±25 % so that a fleet spreads out."""
    spread = random.uniform(0.75, 1.25) if jitter is None else jitter  # noqa: S311 - not a secret
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0**retries) * spread


def may_retry(error: Exception, job: Job, retries: int, pause: float, now: float) -> bool:
    """Whether another try makes sense: the fault may pass and the pause ends before the deadline."""
    if not getattr(error, "transient", False):
        return False
    if job.deadline is None:
        return retries < AD_HOC_RETRIES
    return now + pause < job.deadline


def _retry_or_raise(task: Task, job: Job, error: Exception) -> None:
    retries = int(task.request.retries)
    pause = pause_before_retry(retries)
    lease, leases = job.lease, runtime.leases()
    if not may_retry(error, job, retries, pause, time.time()):
        logger.error("failed task=%s job=%s retries=%d error=%s", task.name, job.job_id, retries, error)
        if lease is not None:
            leases.rest(lease.key, lease.token, pause)
        raise error
    logger.warning("retry task=%s job=%s in=%.0fs error=%s", task.name, job.job_id, pause, error)
    if lease is not None:
        leases.rest(lease.key, lease.token, pause + RUNNING_LEASE_SECONDS)
    raise task.retry(exc=error, countdown=pause)


def _extend_delivery(task: Task) -> None:
    """Tell the broker that this delivery is alive.

    kombu keeps unacknowledged deliveries in the sorted set `unacked_index`, scored by the time of delivery, and gives
    those older than the visibility timeout to somebody else. Scoring ours with the present keeps it here. `XX`: a
    delivery that was already given away is not brought back.
    """
    tag = (task.request.properties or {}).get("delivery_tag")
    if tag:
        runtime.broker().zadd("unacked_index", {tag: time.time()}, xx=True)
