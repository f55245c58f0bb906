"""Ad-hoc verification on the cluster by each of its doors: Python, the command line, and Flower's HTTP API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from chain import Verdict
from tasks import verify
from tasks.verifying import Verification
from tasks.wire import producer
from tests.e2e.conftest import Cluster

SEED_SCORE = 675_127


@pytest.fixture(scope="module")
def published(cluster: Cluster, seed_example: Path) -> Path:
    """The folder of the reference example, with both files on the cluster's node."""
    cluster.world.ipfs.store_file(seed_example / "model_params.h5")
    cluster.world.ipfs.store_file(seed_example / "test.csv")
    return seed_example


@pytest.fixture
def as_operator(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process speaks to the cluster's broker."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    producer.cache_clear()


def _wait(verification: Verification) -> int | None:
    evaluated = verification.wait(timeout=90)
    assert evaluated.verdict is Verdict.VALID
    return evaluated.score


@pytest.mark.usefixtures("as_operator")
def test_by_python_from_files_dicts_and_cids(cluster: Cluster, published: Path) -> None:
    model, data = (json.loads((published / f"{kind}_schema.json").read_text()) for kind in ("model", "data"))
    from_files = verify(published / "model_schema.json", str(published / "data_schema.json"))
    from_dicts = verify(model, data)
    from_cids = verify(cluster.world.ipfs.store_object(model), cluster.world.ipfs.store_object(data))
    assert [_wait(job) for job in (from_files, from_dicts, from_cids)] == [SEED_SCORE] * 3
    assert from_files.ready()


@pytest.mark.usefixtures("as_operator")
def test_a_mark_and_another_metric(published: Path) -> None:
    job = verify(published / "model_schema.json", published / "data_schema.json", metric="log_loss", pass_mark=1.0)
    evaluated = job.wait(timeout=90)
    assert evaluated.score == 2_004_036
    assert evaluated.report["scoring"]["metric"] == "log_loss"


@pytest.mark.usefixtures("as_operator")
def test_a_bad_schema_is_a_verdict_with_its_field_named(published: Path) -> None:
    broken = {**json.loads((published / "model_schema.json").read_text()), "location": {"provider": "ipfs"}}
    evaluated = verify(broken, published / "data_schema.json").wait(timeout=60)
    assert evaluated.verdict is Verdict.INVALID
    assert evaluated.rule == "schema"
    assert "location" in (evaluated.reason or "")


def test_by_command_line(cluster: Cluster, published: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "workers.cli", "enqueue", "--wait", "--json"),
            *("--model", str(published / "model_schema.json"), "--data", str(published / "data_schema.json")),
        ],
        env={**os.environ, **cluster.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["score"] == SEED_SCORE


def test_over_http(cluster: Cluster, published: Path) -> None:
    user, _, password = cluster.world.flower_auth.partition(":")
    with httpx.Client(base_url=cluster.world.flower_url, auth=(user, password), timeout=30) as flower:
        body = {
            "kwargs": {
                "model": json.loads((published / "model_schema.json").read_text()),
                "data": (published / "data_schema.json").read_text(),
            }
        }
        sent = flower.post("/api/task/send-task/verify", json=body)
        assert sent.status_code == 200, sent.text
        task = sent.json()["task-id"]

        def result() -> dict[str, object] | None:
            answer = flower.get(f"/api/task/result/{task}").json()
            assert answer["state"] != "FAILURE", answer
            return answer["result"] if answer["state"] == "SUCCESS" else None

        found = cluster.wait(result, what=f"result of {task}", within_seconds=90)
    assert found["score"] == SEED_SCORE


def test_flower_is_closed_to_strangers(cluster: Cluster) -> None:
    for path in ("/api/workers", "/api/task/send-task/verify"):
        method = "POST" if "send-task" in path else "GET"
        assert httpx.request(method, cluster.world.flower_url + path, json={}, timeout=10).status_code == 401
