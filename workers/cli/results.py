"""The result of a verification as people read it: verdict, figures, what was inferred; and the exit code it
means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.cli.exits import ExitCode
from workers.cli.output import facts_table, out, plain_table
from workers.cli.values import format_duration, format_score

if TYPE_CHECKING:
    from rich.table import Table

    from tasks.evaluation.models import EvaluationResult
    from tasks.messages import Evaluated

MOST_INFERRED = 12

# Refusals that come from what was typed, not from what was evaluated.
INPUT_RULES = frozenset({"schema", "content"})


def exit_code(evaluated: Evaluated) -> ExitCode:
    """0 for a valid model that reached its mark (if there was one), else why not."""
    from chain import Verdict

    if evaluated.verdict is Verdict.VALID:
        return ExitCode.NEGATIVE if evaluated.passed is False else ExitCode.OK
    if evaluated.verdict is Verdict.UNAVAILABLE:
        return ExitCode.UNREACHABLE
    return ExitCode.BAD_INPUT if evaluated.rule in INPUT_RULES else ExitCode.NEGATIVE


def document(evaluated: Evaluated) -> dict[str, Any]:
    """The result as the JSON document of `--json`."""
    body = evaluated.model_dump(mode="json", exclude={"job", "version"})
    body["verdict"] = evaluated.verdict.name.lower()
    result = evaluation_of(evaluated)
    body["value"] = result.value if result else None
    return {
        "id": evaluated.job.job_id,
        "metric": evaluated.job.scoring.metric,
        "pass_mark": evaluated.job.scoring.pass_mark,
        **body,
    }


def show(evaluated: Evaluated) -> None:
    """Print the result to standard output."""
    result = evaluation_of(evaluated)
    out().print(facts_table(_facts(evaluated, result)))
    if result is None:
        return
    out().print(_figures(evaluated, result))
    if result.inferred:
        out().print("[dim]The schemas do not say, so it was inferred:[/dim]")
        for sentence in result.inferred[:MOST_INFERRED]:
            out().print("  • " + sentence, markup=False)


def evaluation_of(evaluated: Evaluated) -> EvaluationResult | None:
    """The evaluation in a result's report; None where it was refused before there was one."""
    from tasks.report import Report

    return Report.model_validate(evaluated.report).evaluation


def _facts(evaluated: Evaluated, result: EvaluationResult | None) -> list[tuple[str, str]]:
    scoring = evaluated.job.scoring
    facts = [("verdict", evaluated.verdict.name.lower())]
    if evaluated.score is not None:
        facts.append(("score", f"{evaluated.score} ({scoring.metric} {format_score(evaluated.score)})"))
    if scoring.pass_mark is not None and evaluated.passed is not None:
        side = "at or above" if scoring.higher_passes else "at or below"
        outcome = "passed" if evaluated.passed else "missed"
        facts.append(("mark", f"{outcome}: {side} {format_score(scoring.pass_mark)} was asked for"))
    if evaluated.reason:
        facts.append(("reason", evaluated.reason))
    if evaluated.rule:
        facts.append(("rule", evaluated.rule))
    if result is not None and result.model_summary is not None:
        model = result.model_summary
        facts.append(
            (
                "model",
                f"{model.architecture}, {model.layers} layers, {model.parameters:,} parameters, Keras {model.keras}",
            )
        )
    if result is not None and result.rows:
        classes = f", {result.classes} classes" if result.classes else ""
        facts.append(("data", f"{result.rows:,} rows{classes}"))
    facts.append(("time", format_duration(evaluated.seconds) + (f" on {evaluated.host}" if evaluated.host else "")))
    return facts


def _figures(evaluated: Evaluated, result: EvaluationResult) -> Table:
    table = plain_table("metric", "value>", "")
    for name, value in result.metrics.items():
        shown = "undefined here" if value is None else f"{value:.6f}"
        remark = f"{result.correct:,} of {result.rows:,}" if name == "accuracy" and result.correct is not None else ""
        style = "bold" if name == evaluated.job.scoring.metric else None
        table.add_row(name, shown, remark, style=style)
    return table
