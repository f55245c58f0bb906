"""The task `evaluate`: run the model on the data inside the sandbox and turn what comes back into a verdict.

What the files are is a fact that everybody would find, and becomes a vote. How an evaluation died is not: a child that
was killed for time or memory on this host may end well on another, so it is tried again, and where it keeps dying, or
no time is left, the verdict is *unavailable*. The engine is `tasks.evaluation`, the sandbox `tasks.sandbox`, the report
`tasks.report`.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from typing import Final

from celery import Task

from chain import Verdict
from storage import Content, DataSchema, ModelSchema, StorageError
from tasks import runtime
from tasks.errors import EvaluationUnavailable, SandboxError, TasksError
from tasks.evaluation import EvaluationRequest, EvaluationResult
from tasks.messages import Evaluated, Fetched, Job, Refusal
from tasks.reporting import evaluation_report, refusal_report
from tasks.sandbox import Answer, Sandbox
from tasks.settings import TasksSettings
from tasks.steps import host, may_retry, pause_before_retry, protocol_task, working

logger = logging.getLogger(__name__)

SHORTEST_EVALUATION_SECONDS: Final = 1.0
# A run that dies of the same cause so often dies of the files, not of the host's bad moment.
MOST_DEATHS: Final = 2


@protocol_task("evaluate")
def evaluate(self: Task, fetched: Fetched) -> Evaluated:
    """Evaluate fetched inputs. In a challenge, `submit.commit` follows and takes whatever verdict comes out."""
    job = fetched.job
    with working(self, job, last=job.challenge is None):
        try:
            return evaluate_job(fetched, runtime.content(), runtime.sandbox(), runtime.settings())
        except (StorageError, TasksError) as error:
            retries = int(self.request.retries)
            refusal = refusal_for(error, job, retries=retries, now=time.time())
            if refusal is None:
                raise _as_tried(error, retries) from error
            logger.warning("abstaining job=%s reason=%s", job.job_id, refusal.reason)
            return refused(fetched, refusal)


def evaluate_job(
    fetched: Fetched, content: Content, sandbox: Sandbox, settings: TasksSettings | None = None
) -> Evaluated:
    """Evaluate the inputs of a job right here.

    Raises:
        StorageError: an input could not be had any more.
        SandboxError: the evaluation was killed, died, or could not be started.
        EvaluationError: the engine could not do its work here.
    """
    if fetched.refusal is not None:
        return refused(fetched, fetched.refusal)
    started = time.monotonic()
    job, settings = fetched.job, settings or TasksSettings()
    model, data = _parsed(fetched)
    with ExitStack() as stack:
        blobs = [stack.enter_context(content.open(schema.cid)) for schema in (model, data)]
        request = EvaluationRequest(
            model_path=str(blobs[0].path),
            data_path=str(blobs[1].path),
            model=model,
            data=data,
            metric=job.scoring.metric,
            threads=settings.evaluation_threads,
        )
        answer = sandbox.answer(
            request.model_dump_json().encode(),
            readable=[blob.path for blob in blobs],
            wall_seconds=_wall_seconds(job, settings),
        )
    return _evaluated(fetched, answer, seconds=time.monotonic() - started)


def refused(fetched: Fetched, refusal: Refusal) -> Evaluated:
    """The result of a job that ends in a refusal instead of an evaluation."""
    return Evaluated(
        job=fetched.job,
        verdict=refusal.verdict,
        rule=refusal.rule,
        reason=refusal.reason,
        report=refusal_report(fetched.job, refusal, fetched),
        host=host(),
    )


def refusal_for(error: StorageError | TasksError, job: Job, *, retries: int, now: float) -> Refusal | None:
    """The abstention that a failed evaluation amounts to; None where it is tried again, or shown to who asked."""
    if job.challenge is None:
        return None
    if may_retry(_as_tried(error, retries), job, retries, pause_before_retry(retries, jitter=1.25), now):
        return None
    return Refusal(verdict=Verdict.UNAVAILABLE, rule=getattr(error, "cause", "evaluation"), reason=str(error))


def _as_tried(error: StorageError | TasksError, retries: int) -> StorageError | TasksError:
    """A first death in the sandbox as the kind of error that is tried again, perhaps on another host."""
    if isinstance(error, SandboxError) and not error.transient and retries + 1 < MOST_DEATHS:
        return EvaluationUnavailable(str(error))
    return error


def _evaluated(fetched: Fetched, answer: Answer, *, seconds: float) -> Evaluated:
    result = EvaluationResult.model_validate_json(answer.result)
    valid = result.verdict == "valid"
    return Evaluated(
        job=fetched.job,
        verdict=Verdict.VALID if valid else Verdict.INVALID,
        score=result.score if valid else None,
        passed=fetched.job.scoring.passes(result.score) if valid and result.score is not None else None,
        rule=result.rule,
        reason=result.reason,
        report=evaluation_report(fetched, result, answer, seconds=seconds),
        seconds=seconds,
        host=host(),
    )


def _parsed(fetched: Fetched) -> tuple[ModelSchema, DataSchema]:
    if fetched.model_schema is None or fetched.data_schema is None:
        raise ValueError(f"job {fetched.job.job_id}: fetched inputs without schemas")
    return ModelSchema.parse(fetched.model_schema), DataSchema.parse(fetched.data_schema)


def _wall_seconds(job: Job, settings: TasksSettings) -> float:
    """The operator's bound, or what is left until the job's deadline if that is less."""
    if job.deadline is None:
        return settings.evaluation_seconds
    left = job.deadline - time.time()
    return max(SHORTEST_EVALUATION_SECONDS, min(settings.evaluation_seconds, left))
