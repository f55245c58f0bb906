"""Options and arguments that several commands share, and how examples look in the help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from workers.cli.values import parse_amount, parse_duration, parse_score

T = TypeVar("T")


def examples(*commands: str) -> str:
    """The last lines of a command's help."""
    return "Examples:\n\n" + "\n\n".join(commands)


def parsing(parse: Callable[[str], T], name: str) -> Callable[[str], T]:
    """A parser whose ValueError becomes a usage error with its own sentence."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    convert.__name__ = name
    return convert


amount = parsing(parse_amount, "AMOUNT")
duration = parsing(parse_duration, "DURATION")
score = parsing(parse_score, "NUMBER")

AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON document to standard output.")]
ModelOption = Annotated[
    str,
    typer.Option("--model", help="The model's schema: a JSON file, the JSON itself, or the CID of the JSON."),
]
DataOption = Annotated[
    str,
    typer.Option("--data", help="The data set's schema: a JSON file, the JSON itself, or the CID of the JSON."),
]
MetricOption = Annotated[str, typer.Option("--metric", help="The metric that becomes the score.")]
PassMarkOption = Annotated[
    int | None,
    typer.Option("--pass-mark", parser=score, metavar="NUMBER", help="The value that the metric should reach."),
]
LowerPassesOption = Annotated[
    bool | None,
    typer.Option(
        "--lower-passes/--higher-passes",
        help="Whether a value at or below the mark passes, or at or above. Default: by the metric.",
        show_default=False,
    ),
]
AccountOption = Annotated[
    str | None, typer.Option("--account", metavar="ADDRESS", help="Which of several keys signs and pays.")
]
HtmlOption = Annotated[
    Path | None,
    typer.Option("--html", dir_okay=False, help="Also write the report as a self-contained page."),
]
WatchOption = Annotated[
    float | None,
    typer.Option("--watch", min=0.5, metavar="SECONDS", help="Show it again every so many seconds."),
]
