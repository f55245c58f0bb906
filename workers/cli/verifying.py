"""The commands `verify`, `enqueue` and `result`: verifying a model right here, or on the cluster."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.errors import CommandError
from workers.cli.exits import ExitCode
from workers.cli.options import (
    AsJson,
    DataOption,
    HtmlOption,
    LowerPassesOption,
    MetricOption,
    ModelOption,
    PassMarkOption,
)

if TYPE_CHECKING:
    from tasks.messages import Evaluated, Job
    from tasks.verifying import Verification

LOOK_FOR_WORKERS_SECONDS = 3.0
POLL_SECONDS = 0.1

_WORDS = {
    "fetch PENDING": "Waiting for a fetch worker",
    "fetch STARTED": "Fetching schemas and files",
    "fetch RETRY": "Fetching failed for now, a worker tries again",
    "evaluate PENDING": "Waiting for an evaluate worker",
    "evaluate STARTED": "Evaluating the model",
    "evaluate RETRY": "The evaluation failed for now, a worker tries again",
}

TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Stop waiting after so long (exit code 5)."),
]


def verify(
    model: ModelOption,
    data: DataOption,
    metric: MetricOption = "accuracy",
    pass_mark: PassMarkOption = None,
    lower_passes: LowerPassesOption = None,
    html: HtmlOption = None,
    save: Annotated[
        Path | None, typer.Option("--save-report", dir_okay=False, help="Also write the report as JSON.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a model right here, without chain or Redis.

    Exit code 0: valid (and at its mark, if one is given); 1: invalid, or the mark was missed.
    """
    from storage import Content, StorageSettings
    from tasks.settings import TasksSettings
    from workers.cli.output import stages
    from workers.cli.schemas import local_job, schema_argument, scoring

    job = local_job(
        schema_argument(model, "model"),
        schema_argument(data, "data"),
        scoring(metric, pass_mark, lower_passes),
    )
    with stages("Loading") as live:
        from workers.verification import verify_here

        content = Content.from_settings(StorageSettings())
        evaluated = verify_here(job, content, TasksSettings(), stage=live.begin)
    _finish(evaluated, html=html, save=save, as_json=as_json)


def enqueue(
    model: ModelOption,
    data: DataOption,
    metric: MetricOption = "accuracy",
    pass_mark: PassMarkOption = None,
    lower_passes: LowerPassesOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result and show it.")] = False,
    timeout: TimeoutOption = None,
    html: HtmlOption = None,
    as_json: AsJson = False,
) -> None:
    """Send a verification to the cluster as an ad-hoc job, and wait for it if you like."""
    from tasks.settings import TasksSettings
    from workers.checks.broker import require_broker
    from workers.cli.output import emit, note, out
    from workers.cli.schemas import local_job, schema_argument, scoring

    asked = scoring(metric, pass_mark, lower_passes)
    job = local_job(schema_argument(model, "model"), schema_argument(data, "data"), asked)
    require_broker(TasksSettings())
    verification = _send(job)
    if wait:
        _finish(_wait(verification, timeout), html=html, save=None, as_json=as_json)
        return
    if as_json:
        emit({"id": verification.id, "job": verification.job.job_id})
        return
    out().print(verification.id, markup=False)
    note(f"Look at it: fitchain-verifier result {verification.id} --wait")


def result(
    job: Annotated[str, typer.Argument(metavar="ID", help="What `enqueue` printed.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is there.")] = False,
    timeout: TimeoutOption = None,
    html: HtmlOption = None,
    as_json: AsJson = False,
) -> None:
    """Show the result of an ad-hoc job. Exit code 5: there is none yet (or there never was such a job)."""
    from tasks.messages import Evaluated
    from tasks.settings import TasksSettings
    from tasks.wire import producer
    from workers.checks.broker import require_broker
    from workers.cli.output import stages

    require_broker(TasksSettings())
    pending = producer().AsyncResult(job)
    with stages("Waiting for the result"):
        deadline = None if timeout is None else time.monotonic() + timeout
        while wait and not pending.ready() and (deadline is None or time.monotonic() < deadline):
            time.sleep(POLL_SECONDS)
    if not pending.ready():
        raise CommandError(
            f"There is no result for {job} yet (state: {pending.state}).",
            code=ExitCode.TIMEOUT,
            hint="Wait for it by --wait. Results are kept for a day; an unknown ID stays PENDING for ever.",
        )
    _finish(Evaluated.model_validate(pending.get(propagate=True)), html=html, save=None, as_json=as_json)


def _send(job: Job) -> Verification:
    """Put a job on the broker, like `tasks.verify` does, which knows no marks that lower values pass."""
    from tasks.chains import evaluation_chain
    from tasks.verifying import Verification
    from tasks.wire import AD_HOC_PRIORITY, producer

    return Verification(job, evaluation_chain(job, app=producer(), priority=AD_HOC_PRIORITY).apply_async())


def _wait(verification: Verification, timeout: float | None) -> Evaluated:
    """Show the stages of a job until it ends. A timeout leaves it running."""
    from workers.cli.output import stages, warn

    started = time.monotonic()
    shown, looked = "", False
    with stages("Waiting for a fetch worker") as live:
        while not verification.ready():
            state = verification.state()
            if state != shown:
                live.begin(_WORDS.get(state, state))
                shown = state
            waited = time.monotonic() - started
            if timeout is not None and waited > timeout:
                raise CommandError(
                    f"The job {verification.id} has not ended within {timeout:g} s (state: {state}).",
                    code=ExitCode.TIMEOUT,
                    hint=f"It goes on. Look at it: fitchain-verifier result {verification.id} --wait",
                )
            if not looked and state.endswith("PENDING") and waited > LOOK_FOR_WORKERS_SECONDS:
                looked = True
                missing = _unserved(state)
                if missing:
                    warn(f"No worker serves the queue {missing}: start one by `fitchain-verifier worker`.")
            time.sleep(POLL_SECONDS)
        return verification.wait(timeout=10)


def _unserved(state: str) -> str | None:
    """The queue that a waiting job is in, if no worker listens on it."""
    from tasks.settings import TasksSettings
    from tasks.wire import FETCH_QUEUE, producer

    queue = FETCH_QUEUE if state.startswith("fetch") else TasksSettings().evaluate_queue
    served: dict[str, list[dict[str, Any]]] = producer().control.inspect(timeout=1.0).active_queues() or {}
    return None if any(one["name"] == queue for queues in served.values() for one in queues) else queue


def _finish(evaluated: Evaluated, *, html: Path | None, save: Path | None, as_json: bool) -> None:
    """Show a result, write what was asked for, and leave with the exit code that it means."""
    from workers.cli import results
    from workers.cli.output import emit, note

    # The result first: a page that cannot be written must not cost it.
    if as_json:
        emit(results.document(evaluated))
    else:
        results.show(evaluated)
    if html is not None:
        from tasks.report import Report, render_html

        html.write_text(render_html(Report.model_validate(evaluated.report)), encoding="utf-8")
        note(f"Report: {html}")
    if save is not None:
        from storage import canonical_json

        save.write_bytes(canonical_json(evaluated.report))
        note(f"Report: {save}")
    raise typer.Exit(results.exit_code(evaluated))
