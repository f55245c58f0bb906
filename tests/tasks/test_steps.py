"""What becomes of a step's lease when a task of it ends: on a real Redis, without Celery around it."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from celery import Task

from tasks import runtime
from tasks.leases import Leases
from tasks.messages import Job, StepLease
from tasks.steps import DONE_LEASE_SECONDS, HANDOVER_LEASE_SECONDS, working

KEY = "1337:0xpool:7:evaluate:0xaccount"


@pytest.fixture
def leases(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Leases:
    leases = Leases(redis.Redis.from_url(broker_url))
    monkeypatch.setattr(runtime, "leases", lambda: leases)
    return leases


def _work(leases: Leases, **options: Any) -> StepLease:
    token = leases.acquire(KEY, 60)
    assert token is not None
    lease = StepLease(key=KEY, token=token)
    with working(
        cast("Task", SimpleNamespace()), Job(job_id="j", model_schema="{}", data_schema="{}", lease=lease), **options
    ):
        pass
    return lease


def _seconds_left(broker_url: str) -> float:
    return float(redis.Redis.from_url(broker_url).pttl(f"lease:{KEY}")) / 1000


def test_a_step_that_is_done_stays_leased_for_dispatchers_that_have_not_seen_it(
    leases: Leases, broker_url: str
) -> None:
    _work(leases, last=True)
    assert leases.acquire(KEY, 60) is None
    assert 0 < _seconds_left(broker_url) <= DONE_LEASE_SECONDS


def test_the_tasks_that_replace_a_done_one_still_hold_its_lease(leases: Leases) -> None:
    lease = _work(leases, last=True)
    assert leases.claim(lease.key, lease.token, 60)


def test_a_task_that_is_followed_hands_its_lease_over(leases: Leases, broker_url: str) -> None:
    lease = _work(leases, last=False)
    assert DONE_LEASE_SECONDS < _seconds_left(broker_url) <= HANDOVER_LEASE_SECONDS
    assert leases.claim(lease.key, lease.token, 60)


def test_close_to_a_deadline_a_done_step_can_be_tried_again_in_time(leases: Leases, broker_url: str) -> None:
    """What was mined may be gone again by a reorganisation."""
    _work(leases, last=True, deadline=time.time() + 24)
    assert _seconds_left(broker_url) <= 6
