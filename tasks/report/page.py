"""The report as a page for people: one HTML file that needs no network, no script and no other file.

Here the document becomes what the template shows; the template only lays it out. Everything in a report may come from
a stranger, so all of it is escaped, hidden characters are made visible, and the page forbids itself, by its content
security policy, to load or run anything.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import jinja2

from tasks.evaluation.models import EvaluationResult, PerClass
from tasks.report import wording
from tasks.report.document import Report, SignedReport
from tasks.sandbox.layers import MEANING

_TEMPLATE: Final = "page.html.j2"
_NUMBERS_UP_TO_CLASSES: Final = 16
_CONFUSIONS_SHOWN: Final = 8
_FIRST_METRICS: Final = ("accuracy", "balanced_accuracy", "log_loss", "auc", "rmse", "mae", "r2")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The banner: what came out, as a word, a sentence and a tone for its colour."""

    word: str
    sentence: str
    tone: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Score and mark on a line from 0 to 1, in per cent of its length."""

    score: float
    mark: float | None
    higher_passes: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of the confusion matrix: its count, and its share of the rows of its true class."""

    count: int
    share: float
    actual: int
    predicted: int


@dataclass(frozen=True, slots=True)
class Span:
    """One phase of the timings: its name, its seconds, its share of the sum."""

    name: str
    seconds: float
    share: float


def render_html(report: Report | SignedReport) -> str:
    """The page of a report, signed or not."""
    signed = report if isinstance(report, SignedReport) else SignedReport(report=report)
    document, found = signed.report, signed.report.evaluation
    return _template().render(
        signed=signed,
        report=document,
        found=found,
        title=title(document),
        verdict=verdict(document),
        scale=scale(document),
        metrics=ordered_metrics(found),
        matrix=matrix(found),
        numbers=found is not None and (found.classes or 0) <= _NUMBERS_UP_TO_CLASSES,
        confusions=confusions(found),
        spans=spans(found.timings if found else {}),
        meaning={layer.value: text for layer, text in MEANING.items()},
    )


def title(report: Report) -> str:
    """What the report is about, in a few words."""
    if report.challenge is None:
        return "Ad-hoc verification"
    return f"Challenge {report.challenge.challenge_id} · model {report.challenge.model_id}"


def verdict(report: Report) -> Verdict:
    """The outcome in words: whether the model reached the mark, or why there is no score."""
    if report.verdict == "invalid":
        return Verdict("Invalid", report.reason or "The content cannot be evaluated, by anybody.", "bad")
    if report.verdict == "unavailable":
        return Verdict("No result", report.reason or "The content could not be had or evaluated in time.", "none")
    metric = wording.metric_name(report.scoring.metric)
    reached = f"{metric} {wording.score(report.score)}"
    mark = wording.score(report.scoring.pass_mark)
    side = "at least" if report.scoring.higher_passes else "at most"
    if report.passed is None:
        return Verdict("Evaluated", f"{reached}; no pass mark was set.", "plain")
    if report.passed:
        return Verdict("Passed", f"{reached} reaches the mark of {side} {mark}.", "good")
    return Verdict("Failed", f"{reached} misses the mark of {side} {mark}.", "bad")


def scale(report: Report) -> Scale | None:
    """Score and mark on a line, where both are shares of 1."""
    units = [value for value in (report.score, report.scoring.pass_mark) if value is not None]
    if report.score is None or not all(0 <= value <= wording.SCORE_UNITS for value in units):
        return None
    if not wording.is_share(report.scoring.metric, report.score / wording.SCORE_UNITS):
        return None
    mark = report.scoring.pass_mark
    return Scale(
        score=report.score / wording.SCORE_UNITS * 100,
        mark=None if mark is None else mark / wording.SCORE_UNITS * 100,
        higher_passes=report.scoring.higher_passes,
    )


def ordered_metrics(found: EvaluationResult | None) -> list[tuple[str, float | None]]:
    """The metrics with the scored one first, then the usual ones, then the rest by name.

    A name that is short for its macro average is not shown twice.
    """
    if found is None:
        return []
    first = {name: number for number, name in enumerate(dict.fromkeys((found.metric, *_FIRST_METRICS)))}
    names = sorted(found.metrics, key=lambda name: (first.get(name, len(first)), name))
    return [
        (name, found.metrics[name]) for name in names if f"{name}_macro" not in found.metrics or name == found.metric
    ]


def matrix(found: EvaluationResult | None) -> list[list[Cell]]:
    """The confusion matrix by rows of true classes; the shade of a cell is its share of its row."""
    if found is None or found.confusion is None:
        return []
    rows = []
    for true, counts in enumerate(found.confusion):
        total = sum(counts) or 1
        rows.append([Cell(count, count / total, true, predicted) for predicted, count in enumerate(counts)])
    return rows


def confusions(found: EvaluationResult | None) -> list[Cell]:
    """The most frequent mistakes."""
    wrong = [cell for row in matrix(found) for cell in row if cell.count and cell.actual != cell.predicted]
    return sorted(wrong, key=lambda cell: (-cell.count, cell.actual, cell.predicted))[:_CONFUSIONS_SHOWN]


def spans(timings: dict[str, float]) -> list[Span]:
    """The phases of an evaluation in their order, without their sum."""
    phases = {name: max(0.0, value) for name, value in timings.items() if name != "total"}
    total = sum(phases.values()) or 1.0
    return [Span(name.replace("_", " "), value, value / total) for name, value in phases.items()]


def strongest(rows: list[PerClass]) -> int:
    """The largest support of any class, at least 1."""
    return max([row.support for row in rows] + [1])


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tasks.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "figure": wording.figure,
        "metric": wording.metric_name,
        "plain": wording.plain,
        "pretty": wording.pretty,
        "score": wording.score,
        "seconds": wording.seconds,
        "share": wording.share,
        "size": wording.size,
        "strongest": strongest,
    }
    environment.tests["share_of_one"] = lambda pair: wording.is_share(*pair)
    return environment.get_template(_TEMPLATE)
