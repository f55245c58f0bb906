"""What a benchmark hands back: tables for people, figures for machines, and how both are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.measure import Sample


@dataclass(frozen=True)
class Options:
    """How a benchmark is to run. `folder` is private to it and empty; `quick` asks for a look, not for figures."""

    folder: Path
    quick: bool = False

    def rounds(self, many: int) -> int:
        """How many rounds of something that is worth `many`."""
        return min(many, 2) if self.quick else many


@dataclass(frozen=True)
class Table:
    """Rows of text under a title; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Findings:
    """The outcome of a benchmark. `figures` are plain numbers by name, units in the names."""

    tables: tuple[Table, ...]
    figures: Mapping[str, float] = field(default_factory=dict)


def show(findings: Findings, console: Console) -> None:
    """Print the tables."""
    for table in findings.tables:
        shown = RichTable(title=table.title, title_justify="left", title_style="bold", caption=table.note or None)
        shown.caption_justify = "left"
        for number, column in enumerate(table.columns):
            shown.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
        console.print()


def seconds(value: float) -> str:
    """A duration with three digits that matter."""
    if value >= 100:
        return f"{value:.0f} s"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1000:.0f} ms" if value >= 0.1 else f"{value * 1000:.1f} ms"


def spread(sample: Sample) -> str:
    """Lowest to highest."""
    return f"{seconds(sample.low)} … {seconds(sample.high)}"


def times(value: float) -> str:
    """A ratio."""
    return f"{value:.2f}×" if value < 10 else f"{value:.1f}×"
