"""Ad-hoc verification: the same fetch → evaluate that a challenge gets, for whoever asks.

`verify` is for Python (`from tasks import verify`); the task of the same name is for the HTTP API of Flower, which
sends tasks by name. The command line uses the former. A challenge's chain of tasks is built by `tasks.chains`.
"""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any, Final

from celery import Task
from celery.result import AsyncResult

from tasks.chains import evaluation_chain
from tasks.messages import Evaluated, Job, Scoring
from tasks.steps import protocol_task
from tasks.wire import AD_HOC_PRIORITY, producer

POLL_SECONDS: Final = 0.05


class Verification:
    """An ad-hoc job on its way: its id, its state, its result."""

    def __init__(self, job: Job, result: AsyncResult) -> None:
        self.job = job
        self.result = result

    @property
    def id(self) -> str:
        """The id of the last task of the chain; Flower shows it under `/task/{id}`."""
        return str(self.result.id)

    def state(self) -> str:
        """Where the job is: `fetch PENDING`, `evaluate STARTED`, … ending in `SUCCESS` or `FAILURE`."""
        parent = self.result.parent
        if parent is not None and not parent.ready():
            return f"fetch {parent.state}"
        if parent is not None and parent.failed():
            return "FAILURE"
        return str(self.result.state) if self.result.ready() else f"evaluate {self.result.state}"

    def ready(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state() in {"SUCCESS", "FAILURE", "REVOKED"}

    def wait(self, timeout: float | None = None) -> Evaluated:
        """Wait for the end.

        Raises:
            celery.exceptions.TimeoutError: it has not ended after `timeout` seconds.
            StorageError, TasksError: the job failed; the error is the worker's own.
        """
        return Evaluated.model_validate(self.result.get(timeout=timeout, interval=POLL_SECONDS, propagate=True))

    def __repr__(self) -> str:
        return f"Verification({self.id}, {self.state()})"


def verify(
    model: str | Path | dict[str, Any],
    data: str | Path | dict[str, Any],
    *,
    metric: str = "accuracy",
    pass_mark: float | None = None,
    job_id: str | None = None,
) -> Verification:
    """Enqueue an ad-hoc verification on the cluster of `FITCHAIN_BROKER_URL`.

    Args:
        model, data: a schema as a dict, as JSON text, as the CID of its JSON, or as the path of a JSON file.
        metric: the metric that becomes the score.
        pass_mark: the value that the metric should reach, if there is one.

    Raises:
        kombu.exceptions.OperationalError: the broker does not answer.
        OSError: a path cannot be read.
    """
    job = ad_hoc_job(schema_text(model), schema_text(data), metric=metric, pass_mark=pass_mark, job_id=job_id)
    result = evaluation_chain(job, app=producer(), priority=AD_HOC_PRIORITY).apply_async()
    return Verification(job, result)


@protocol_task("verify")
def verify_task(
    self: Task,
    model: str | dict[str, Any],
    data: str | dict[str, Any],
    metric: str = "accuracy",
    pass_mark: float | None = None,
) -> Any:
    """The entry for HTTP: becomes fetch → evaluate under its own id. Paths are not read here: the caller is remote."""
    model_text = model if isinstance(model, str) else json.dumps(model)
    data_text = data if isinstance(data, str) else json.dumps(data)
    job = ad_hoc_job(model_text, data_text, metric=metric, pass_mark=pass_mark, job_id=self.request.id)
    return self.replace(evaluation_chain(job, app=self.app, priority=AD_HOC_PRIORITY))


def ad_hoc_job(
    model_schema: str, data_schema: str, *, metric: str, pass_mark: float | None, job_id: str | None = None
) -> Job:
    """A job without a challenge. Its id sorts by time and is readable in Flower."""
    mark = None if pass_mark is None else round(pass_mark * 1_000_000)
    return Job(
        job_id=job_id or f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}",
        model_schema=model_schema,
        data_schema=data_schema,
        scoring=Scoring(metric=metric, pass_mark=mark),
    )


def schema_text(schema: str | Path | dict[str, Any]) -> str:
    """A schema as the text that a job carries. A string that names an existing file is read.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(schema, dict):
        return json.dumps(schema, separators=(",", ":"))
    if isinstance(schema, Path):
        return schema.read_text(encoding="utf-8")
    if not schema.lstrip().startswith("{") and len(schema) < 4096 and Path(schema).is_file():
        return Path(schema).read_text(encoding="utf-8")
    return schema
