"""The command of the benchmarks: `python -m benchmarks [NAME…] [--quick] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from rich.console import Console

from benchmarks import BENCHMARKS
from benchmarks.errors import BenchmarkError
from benchmarks.findings import Findings, Options, show
from benchmarks.host import describe

_WIDTH_OF_A_FILE = 120


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; 0 unless one could not be measured."""
    chosen = _parser().parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH_OF_A_FILE)
    if chosen.list:
        for name in BENCHMARKS:
            console.print(f"{name:10} {_about(name)[0]}", highlight=False, soft_wrap=True)
        return 0
    host = describe()
    console.print("  ".join(f"{name}: {value}" for name, value in host.items()), style="dim", soft_wrap=True)
    figures: dict[str, dict[str, float]] = {}
    failed = False
    for name in chosen.names or BENCHMARKS:
        findings = _run(name, quick=chosen.quick, console=console)
        failed |= findings is None
        if findings is not None:
            figures[name] = dict(findings.figures)
    if chosen.json is not None:
        document = {"host": host, "quick": chosen.quick, "figures": figures}
        chosen.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 1 if failed else 0


def _run(name: str, *, quick: bool, console: Console) -> Findings | None:
    title, rest = _about(name)
    console.rule(f"[bold]{name}[/] · {title}", align="left")
    console.print(rest, style="dim", highlight=False)
    console.print()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fitchain-bench-") as folder:
        try:
            findings: Findings = import_module(BENCHMARKS[name]).run(Options(Path(folder), quick))
        except BenchmarkError as error:
            console.print(f"{name}: {error}", style="red", highlight=False)
            return None
    show(findings, console)
    console.print(f"{name} took {time.monotonic() - started:.0f} s\n", style="dim", highlight=False)
    return findings


def _name(text: str) -> str:
    if text not in BENCHMARKS:
        raise argparse.ArgumentTypeError(f"no benchmark {text!r}; there are {', '.join(BENCHMARKS)}")
    return text


def _about(name: str) -> tuple[str, str]:
    """First line and rest of a benchmark's docstring."""
    text = import_module(BENCHMARKS[name]).__doc__ or ""
    first, _, rest = text.partition("\n")
    # One line a paragraph: the terminal's width is not that of the source.
    return first, re.sub(r"(?<!\n)\n(?!\n|- )\s*", " ", rest.strip())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What the cluster costs, against floors of the same run."
    )
    parser.add_argument("names", nargs="*", type=_name, metavar="NAME", help="which (default: all)")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and end")
    parser.add_argument("--quick", action="store_true", help="few rounds and small sizes: does it run at all?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    return parser


if __name__ == "__main__":
    sys.exit(main())
