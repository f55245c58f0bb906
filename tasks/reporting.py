"""Reports of jobs: from what the tasks know to the document that is signed and published."""

from __future__ import annotations

import importlib.metadata
import time
from typing import Any

from tasks.evaluation.models import EvaluationResult
from tasks.messages import Fetched, Input, Job, Refusal
from tasks.report import Report, ReportedChallenge, ReportedInput, ReportedScoring
from tasks.sandbox import Answer
from tasks.settings import TasksSettings


def evaluation_report(fetched: Fetched, result: EvaluationResult, answer: Answer, *, seconds: float) -> dict[str, Any]:
    """The report of an evaluation that came to an end, as JSON."""
    job, valid = fetched.job, result.verdict == "valid"
    score = result.score if valid else None
    return _document(
        job,
        fetched,
        verdict=result.verdict,
        score=score,
        passed=job.scoring.passes(score) if score is not None else None,
        rule=result.rule,
        reason=result.reason,
        evaluation=result,
        sandbox=answer.confinement,
        timings={"fetch": fetched.seconds, "evaluate": seconds, "sandboxed": answer.wall_seconds},
    )


def refusal_report(job: Job, refusal: Refusal, fetched: Fetched | None = None) -> dict[str, Any]:
    """The report of a job that ended in a refusal, as JSON."""
    return _document(job, fetched, verdict=refusal.verdict.name.lower(), rule=refusal.rule, reason=refusal.reason)


def _document(job: Job, fetched: Fetched | None, **findings: Any) -> dict[str, Any]:
    scoring, ref = job.scoring, job.challenge
    report = Report(
        job_id=job.job_id,
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        software=f"fitchain-verifier {importlib.metadata.version('fitchain-verifier')}",
        challenge=None
        if ref is None
        else ReportedChallenge(
            chain_id=ref.chain_id,
            pool=ref.pool,
            challenge_id=ref.challenge_id,
            model_id=ref.model_id,
            verifier=ref.account,
        ),
        model_schema=fetched.model_schema if fetched else None,
        data_schema=fetched.data_schema if fetched else None,
        model=_input(fetched.model) if fetched else None,
        data=_input(fetched.data) if fetched else None,
        scoring=ReportedScoring(
            metric=scoring.metric,
            pass_mark=scoring.pass_mark,
            higher_passes=scoring.higher_passes,
            tolerance=scoring.tolerance,
        ),
        **findings,
    )
    return report.fitted(TasksSettings().max_report_bytes).model_dump(mode="json")


def _input(fetched: Input | None) -> ReportedInput | None:
    return None if fetched is None else ReportedInput(**fetched.model_dump())
