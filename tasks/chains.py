"""How tasks are linked: the Celery chains of a challenge and of an ad-hoc job.

Tasks are named, not imported, so that a producer needs neither the workers' dependencies nor their keys. Each link
gets a readable `argsrepr`, which is all that Flower shows of its arguments.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, Signature, chain

from tasks.messages import Evaluated, Job
from tasks.wire import submit_queue


def evaluation_chain(job: Job, *, app: Celery, priority: int, evaluate_queue: str | None = None) -> Signature:
    """fetch → evaluate: an ad-hoc verification. The chain's result is `Evaluated` as JSON."""
    return chain(*_evaluation(job, app, priority, evaluate_queue), app=app)


def commit_chain(job: Job, *, app: Celery, priority: int, evaluate_queue: str | None = None) -> Signature:
    """fetch → evaluate → submit.commit: the road of a pending challenge."""
    commit = _link("submit.commit", job, app, priority, queue=_queue(job))
    return chain(*_evaluation(job, app, priority, evaluate_queue), commit, app=app)


def recovery_chain(job: Job, *, app: Celery, priority: int, evaluate_queue: str | None = None) -> Signature:
    """fetch → evaluate → submit.reveal: for a vote that is committed on chain and kept nowhere any more."""
    reveal = _link("submit.reveal", job, app, priority, queue=_queue(job))
    return chain(*_evaluation(job, app, priority, evaluate_queue), reveal, app=app)


def commit_step(evaluated: Evaluated, *, app: Celery, priority: int) -> Signature:
    """submit.commit alone: for a vote that needs no evaluation, the abstention."""
    job = evaluated.job
    return _link("submit.commit", job, app, priority, queue=_queue(job), args=(evaluated.model_dump(mode="json"),))


def reveal_step(job: Job, *, app: Celery, priority: int) -> Signature:
    """submit.reveal alone: the vote is expected in the journal."""
    kwargs = {"job": job.model_dump(mode="json")}
    return _link("submit.reveal", job, app, priority, queue=_queue(job), kwargs=kwargs)


def settle_step(job: Job, *, app: Celery, priority: int) -> Signature:
    """submit.settle."""
    return _link("submit.settle", job, app, priority, queue=_queue(job), args=(job.model_dump(mode="json"),))


def _evaluation(job: Job, app: Celery, priority: int, evaluate_queue: str | None) -> tuple[Signature, Signature]:
    fetch = _link("fetch", job, app, priority, args=(job.model_dump(mode="json"),))
    evaluate = _link("evaluate", job, app, priority, queue=evaluate_queue)
    return fetch, evaluate


def _link(
    name: str,
    job: Job,
    app: Celery,
    priority: int,
    *,
    queue: str | None = None,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Signature:
    options: dict[str, Any] = {"priority": priority, "argsrepr": f"({job})", "kwargsrepr": "{}"}
    if queue is not None:
        options["queue"] = queue
    return app.signature(name, args=args, kwargs=kwargs or {}, options=options)


def _queue(job: Job) -> str:
    if job.challenge is None:
        raise ValueError(f"job {job.job_id} has no challenge to submit to")
    return submit_queue(job.challenge.account)
