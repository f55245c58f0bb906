"""Schemas as they are given on a command line, and the scoring that options ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workers.cli.errors import bad_input

if TYPE_CHECKING:
    from tasks.messages import Job, Scoring

MOST_SCHEMA_BYTES = 64 * 1024
_SHOWN_CHARACTERS = 80


def schema_argument(text: str, what: str) -> str:
    """A schema given as JSON, as a path or as a CID, as the text that a job carries.

    Raises:
        CommandError: it is none of them, or too large.
        OSError: the file cannot be read.
    """
    from storage import InvalidCID
    from storage.cid import CID

    stripped = text.strip()
    if stripped.startswith("{"):
        return stripped
    path = Path(text).expanduser()
    if len(text) < 4096 and path.is_file():
        if path.stat().st_size > MOST_SCHEMA_BYTES:
            raise bad_input(f"{path} has more than {MOST_SCHEMA_BYTES} bytes: that is no {what} schema.")
        return path.read_text(encoding="utf-8")
    try:
        return str(CID.parse(stripped.removeprefix("ipfs://").removeprefix("/ipfs/")))
    except InvalidCID:
        shown = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
        raise bad_input(
            f"There is no file {shown!r}, and it is neither a CID nor a JSON object.",
            f"Give the {what} schema as the path of a JSON file, as the JSON, or as the CID of the JSON.",
        ) from None


def scoring(metric: str, pass_mark: int | None, lower_passes: bool | None) -> Scoring:
    """The scoring that was asked for.

    Raises:
        CommandError: there is no such metric.
    """
    from tasks.messages import Scoring

    name = metric_name(metric)
    return Scoring(metric=name, pass_mark=pass_mark, higher_passes=higher_passes(name, lower_passes))


def metric_name(text: str) -> str:
    """The metric that is meant, in the engine's spelling.

    Raises:
        CommandError: there is no such metric.
    """
    from tasks.evaluation.metrics import METRICS, canonical_name

    name = canonical_name(text)
    if name not in METRICS:
        raise bad_input(f"There is no metric {text!r}.", "There are: " + ", ".join(METRICS))
    return name


def higher_passes(metric: str, lower_passes: bool | None) -> bool:
    """Whether a value at or above the mark passes: as asked for, else what is better for the metric."""
    from tasks.evaluation.metrics import higher_is_better

    return higher_is_better(metric) if lower_passes is None else not lower_passes


def local_job(model: str, data: str, asked: Scoring) -> Job:
    """A job that is done right here."""
    import time
    import uuid

    from tasks.messages import Job

    job_id = f"here-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}"
    return Job(job_id=job_id, model_schema=model, data_schema=data, scoring=asked)
