"""What goes to which stream: data to standard output, everything else to standard error.

With `--json` standard output holds one JSON document and nothing more. Progress is shown on a terminal only;
elsewhere nothing moves. Colours follow the terminal and NO_COLOR.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from workers.cli.failures import Failure

NARROWEST_COLUMNS = 100


@functools.cache
def out() -> Console:
    """Standard output, for data that people read."""
    return _console(stderr=False)


@functools.cache
def err() -> Console:
    """Standard error: progress, notes, failures."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # In a pipe there is no width: tables must not be cut at 80 columns for whoever greps them.
    width = None if stream.isatty() else 160
    return Console(stderr=stderr, highlight=False, width=width, soft_wrap=not stream.isatty())


def note(text: str) -> None:
    """Say something that is neither data nor failure."""
    from rich.markup import escape

    err().print(escape(text), style="dim")


def warn(text: str) -> None:
    """Say something that the person should do something about."""
    from rich.markup import escape

    err().print(f"[yellow]![/yellow] {escape(text)}")


def show_failure(failure: Failure) -> None:
    """One red sentence, and below it what to do."""
    from rich.markup import escape

    err().print(f"[bold red]{escape(failure.sentence)}[/bold red]")
    if failure.hint:
        err().print(escape(failure.hint), style="dim")


def emit(document: Any) -> None:
    """Write the JSON document of `--json`."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=_plain) + "\n")
    sys.stdout.flush()


def jsonable(value: Any) -> Any:
    """A dataclass as JSON: enums by name in lower case, bytes as 0x…, wei as text (JavaScript's numbers end
    at 2^53).
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _money(field.name, jsonable(getattr(value, field.name))) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): _money(str(key), jsonable(item)) for key, item in value.items()}
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if isinstance(value, bytes | bytearray):
        return "0x" + value.hex()
    return value


def _money(name: str, value: Any) -> Any:
    return str(value) if name.endswith("_wei") and isinstance(value, int) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Path | Decimal):
        return str(value)
    converted = jsonable(value)
    if converted is value:
        raise TypeError(f"{type(value).__name__} is no JSON")
    return converted


def plain_table(*headers: str, title: str | None = None) -> Table:
    """A table in the style of all tables here; a header that ends in `>` is aligned to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for header in headers:
        right = header.endswith(">")
        table.add_column(header.removesuffix(">"), justify="right" if right else "left", overflow="fold")
    return table


def facts_table(rows: Mapping[str, str] | list[tuple[str, str]], *, title: str | None = None) -> Table:
    """Two columns without a header: what, and its value. Empty values are left out."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, title=title, title_justify="left", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items() if isinstance(rows, Mapping) else rows:
        if value:
            table.add_row(name, escape(value))
    return table


class Stages:
    """The stages of something that takes longer than a second, shown live while it runs."""

    def __init__(self, begin: Callable[[str], None]) -> None:
        self._begin = begin

    def begin(self, text: str) -> None:
        """Say what is being done from now on."""
        self._begin(text)


@contextmanager
def stages(first: str) -> Iterator[Stages]:
    """Show a spinner with the stage and its seconds on standard error; nothing where that is no terminal."""
    from rich.markup import escape
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err(), transient=True, disable=not err().is_terminal) as progress:
        task = progress.add_task(escape(first), total=None)
        yield Stages(lambda text: progress.reset(task, description=escape(text)))


@contextmanager
def byte_progress(description: str, total: int | None) -> Iterator[Callable[[int, int | None], None]]:
    """Show bytes done of a total; yields what to call with both."""
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=err(), transient=True, disable=not err().is_terminal) as progress:
        task = progress.add_task(escape(description), total=total)
        yield lambda done, whole: progress.update(task, completed=done, total=whole)
