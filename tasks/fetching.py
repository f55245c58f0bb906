"""The task `fetch`: read both schemas, bring both files to this cluster's caches, and say what cannot be had.

Content that is wrong for everybody becomes the verdict *invalid*; what could not be had in time becomes *unavailable*,
so that the chain of tasks ends in a vote either way. An ad-hoc job has nobody to vote for: there a fault that may pass
is an error for the person who waits.
"""

from __future__ import annotations

import logging
import time
from typing import Final, TypeVar

from celery import Task

from chain import Verdict
from storage import (
    Content,
    ContentInvalid,
    ContentTooLarge,
    DataSchema,
    InvalidCID,
    ModelSchema,
    SchemaError,
    StorageError,
    check_pair,
)
from tasks import runtime
from tasks.messages import Fetched, Input, Job, Refusal
from tasks.steps import host, may_retry, pause_before_retry, protocol_task, working

logger = logging.getLogger(__name__)

MAX_SCHEMA_BYTES: Final = 64 * 1024
SHORTEST_FETCH_SECONDS: Final = 1.0

S = TypeVar("S", ModelSchema, DataSchema)


@protocol_task("fetch")
def fetch(self: Task, job: Job) -> Fetched:
    """Fetch the inputs of a job into the caches of this host and cluster."""
    with working(self, job, last=False):
        try:
            return fetch_inputs(job, runtime.content())
        except StorageError as error:
            refusal = refusal_for(error, job, retries=int(self.request.retries), now=time.time())
            if refusal is None:
                raise
            logger.warning("refused job=%s verdict=%s reason=%s", job.job_id, refusal.verdict.name, refusal.reason)
            return Fetched(job=job, refusal=refusal, host=host())


def fetch_inputs(job: Job, content: Content) -> Fetched:
    """Resolve both schemas and bring the files they point at into the caches.

    Raises:
        StorageError: a schema or a file is wrong, or could not be had.
    """
    started = time.monotonic()
    model = resolve_schema(job.model_schema, ModelSchema, content)
    data = resolve_schema(job.data_schema, DataSchema, content)
    check_pair(model, data)
    inputs = []
    for cid in (model.cid, data.cid):
        with content.open(cid, deadline_seconds=_seconds_left(job)) as blob:
            inputs.append(Input(cid=blob.cid, size_bytes=blob.size, tier=str(blob.tier)))
    return Fetched(
        job=job,
        model_schema=model.model_dump(mode="json", exclude_none=True),
        data_schema=data.model_dump(mode="json", exclude_none=True),
        model=inputs[0],
        data=inputs[1],
        seconds=time.monotonic() - started,
        host=host(),
    )


def resolve_schema(text: str, kind: type[S], content: Content) -> S:
    """Parse a schema given as JSON, or as the CID of its JSON.

    Raises:
        SchemaError: it is neither, or the JSON breaks the schema.
        StorageError: the CID could not be fetched.
    """
    stripped = text.strip()
    if not stripped:
        raise SchemaError("", "the schema is empty; write its JSON, or the CID of its JSON")
    if stripped[0] in "{[":
        return kind.parse(stripped)
    try:
        with content.open(stripped, max_bytes=MAX_SCHEMA_BYTES) as blob:
            return kind.parse(blob.path.read_bytes())
    except InvalidCID as error:
        raise SchemaError("", f"{stripped[:80]!r} is neither a JSON object nor a CID: {error}") from error


def refusal_for(error: StorageError, job: Job, *, retries: int, now: float) -> Refusal | None:
    """The refusal that an error amounts to; None where it is to be raised: to be tried again, or to be shown."""
    match error:
        case SchemaError():
            return Refusal(verdict=Verdict.INVALID, rule="schema", reason=str(error))
        case InvalidCID() | ContentInvalid():
            return Refusal(verdict=Verdict.INVALID, rule="content", reason=str(error))
        case _ if job.challenge is None:
            return None
        case ContentTooLarge():
            # The limit is this operator's own, so the fact is not one that everybody would see: abstain.
            return Refusal(verdict=Verdict.UNAVAILABLE, rule="size", reason=str(error))
        case _ if may_retry(error, job, retries, pause_before_retry(retries, jitter=1.25), now):
            return None
        case _:
            return Refusal(verdict=Verdict.UNAVAILABLE, rule="unavailable", reason=str(error))


def _seconds_left(job: Job) -> float | None:
    if job.deadline is None:
        return None
    return max(SHORTEST_FETCH_SECONDS, job.deadline - time.time())
