"""Processes die and Redis goes away in the middle of a challenge: it settles all the same, and nobody is slashed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import redis

from chain import Verdict
from tests.e2e.conftest import TERMS, Cluster
from workers.demo.world import DEVELOPMENT_KEYS

SEED_SCORE = 675_127
PATIENT = replace(TERMS, commit_seconds=150, reveal_seconds=60)


@pytest.fixture(scope="module")
def seed(cluster: Cluster, seed_example: Path) -> tuple[int, str]:
    """Model and data schema of the reference example."""
    for name in ("model_params.h5", "test.csv"):
        cluster.world.ipfs.store_file(seed_example / name)
    model = cluster.register((seed_example / "model_schema.json").read_text())
    return model, cluster.publish(json.loads((seed_example / "data_schema.json").read_text()))


def _settles_well(cluster: Cluster, number: int) -> None:
    challenge = cluster.settled(number, within_seconds=200)
    assert (challenge.verdict, challenge.score) == (Verdict.VALID, SEED_SCORE)
    votes = cluster.world.pool.votes(number)
    assert all(vote.payout_wei > 0 and vote.slashed_wei == 0 for vote in votes)


def _wait_until_under_way(cluster: Cluster, number: int) -> None:
    """Wait until the dispatcher has enqueued the challenge; its tasks take less than a second each."""
    client = redis.Redis.from_url(cluster.world.stack.url("broker"))
    pattern = f"lease:*:{number}:evaluate:*"
    cluster.wait(lambda: list(client.scan_iter(pattern)), what=f"leases of challenge {number}")


def test_evaluate_workers_killed_in_the_middle(cluster: Cluster, seed: tuple[int, str]) -> None:
    stack, builder = cluster.world.stack, cluster.world.builder
    number = cluster.challenge(*seed, PATIENT)
    _wait_until_under_way(cluster, number)
    for name in ("evaluate-1", "evaluate-2"):
        stack.process(name).kill_session()
    for name in ("evaluate-1", "evaluate-2"):
        builder.start_evaluate_worker(name, cluster.world.deployment)
    _settles_well(cluster, number)


def test_the_active_dispatcher_is_killed_and_a_stand_by_takes_over(cluster: Cluster, seed: tuple[int, str]) -> None:
    world = cluster.world
    world.builder.start_dispatcher("standby", world.deployment, world.verifiers)
    time.sleep(2)
    world.stack.process("dispatcher").kill_session()
    number = cluster.challenge(*seed, PATIENT)
    try:
        _settles_well(cluster, number)
    finally:
        world.builder.start_dispatcher("dispatcher", world.deployment, world.verifiers)


def test_redis_goes_away_and_comes_back(cluster: Cluster, seed: tuple[int, str]) -> None:
    stack = cluster.world.stack
    number = cluster.challenge(*seed, PATIENT)
    _wait_until_under_way(cluster, number)
    stack.stop_service("broker")
    time.sleep(4)
    stack.start_service("broker")
    _restart_the_dead(cluster)
    _settles_well(cluster, number)


def _restart_the_dead(cluster: Cluster, *, seconds: float = 10.0) -> None:
    """Do what `restart: unless-stopped` and systemd do.

    kombu 5.7 ends a worker whose task finishes while the connection that delivered it is gone: its late
    acknowledgement has no channel any more. The message comes back to another worker.
    """
    world, until = cluster.world, time.monotonic() + seconds
    starts = {"fetch": world.builder.start_fetch_worker}
    starts |= {f"evaluate-{i}": partial(world.builder.start_evaluate_worker, f"evaluate-{i}") for i in (1, 2)}
    starts |= {f"submit-{i}": partial(world.builder.start_submit_worker, i) for i in (1, 2, 3)}
    while time.monotonic() < until:
        for name, start in starts.items():
            if world.stack.process(name).poll() is not None:
                start(world.deployment)
        time.sleep(0.5)


def test_the_cache_redis_is_missing_all_the_time(cluster: Cluster, seed: tuple[int, str]) -> None:
    stack = cluster.world.stack
    stack.stop_service("cache")
    try:
        _settles_well(cluster, cluster.challenge(*seed, PATIENT))
    finally:
        stack.start_service("cache")


def test_a_stopping_worker_gives_its_task_back(cluster: Cluster, seed: tuple[int, str]) -> None:
    stack, builder = cluster.world.stack, cluster.world.builder
    number = cluster.challenge(*seed, PATIENT)
    _wait_until_under_way(cluster, number)
    for name in ("evaluate-1", "evaluate-2"):
        stack.process(name).send_signal(signal.SIGTERM)
    builder.start_evaluate_worker("evaluate-3", cluster.world.deployment)
    _settles_well(cluster, number)
    for name in ("evaluate-1", "evaluate-2"):
        assert stack.process(name).popen.wait(timeout=60) is not None
        builder.start_evaluate_worker(name, cluster.world.deployment)
    stack.stop_process("evaluate-3")


@pytest.mark.parametrize("role", ["fetch", "evaluate"])
def test_workers_that_meet_strangers_files_refuse_a_key(cluster: Cluster, role: str) -> None:
    queue = {"fetch": "fetch", "evaluate": "evaluate.cpu"}[role]
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-Q", queue, "-n", f"bad-{role}@%h"],
        env={**os.environ, **cluster.environment, "FITCHAIN_PRIVATE_KEY": DEVELOPMENT_KEYS["consumer"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert "refuses to start with a signing key" in done.stderr + done.stdout
    assert DEVELOPMENT_KEYS["consumer"][2:] not in done.stderr + done.stdout
