"""The house rules that a machine can check: floors, docstrings, the environment, what may not be left lying about."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("workers", "tasks", "chain", "storage", "compose")
# What each package may import of the others.
FLOORS = {
    "workers": {"workers", "tasks", "chain", "storage", "compose"},
    "tasks": {"tasks", "chain", "storage"},
    "chain": {"chain"},
    "storage": {"storage"},
    "compose": {"compose"},
}
LIBRARIES_WITHOUT = {"chain": {"celery", "kombu"}, "storage": {"celery", "kombu", "web3"}, "compose": {"celery"}}
TOP_LEVEL_FOLDERS = {"workers", "tasks", "chain", "storage", "compose", "tests", "benchmarks", "docs"}
VAGUE_NAMES = {"utils", "helpers", "manager", "misc", "common"}
LEFT_OVER = re.compile(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError|pragma: no cover")
MOST_LINES = 450
# The sandbox makes and scrubs the environment of its children, the runtime notes a flag of TensorFlow's; neither reads
# a setting there.
ENVIRONMENT_OF_CHILDREN = ("tasks/sandbox/", "tasks/evaluation/runtime.py")


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def shown(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_downwards(package: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): sorted(too_high)
        for path in (ROOT / package).rglob("*.py")
        if (too_high := (imports(path) & set(PACKAGES)) - FLOORS[package])
    }
    assert wrong == {}


@pytest.mark.parametrize("package", LIBRARIES_WITHOUT)
def test_libraries_know_nothing_of_what_is_not_theirs(package: str) -> None:
    forbidden = LIBRARIES_WITHOUT[package]
    assert shown([path for path in (ROOT / package).rglob("*.py") if imports(path) & forbidden]) == []


def test_every_module_opens_with_a_docstring() -> None:
    assert shown([path for path in modules() if len(ast.get_docstring(parsed(path)) or "") < 20]) == []


def test_only_settings_read_the_environment() -> None:
    def reads(path: Path) -> bool:
        return any(
            isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}
            for node in ast.walk(parsed(path))
        )

    found = shown([path for path in modules() if path.name != "settings.py" and reads(path)])
    assert [path for path in found if not path.startswith(ENVIRONMENT_OF_CHILDREN)] == []


def test_nothing_is_left_half_done() -> None:
    found = [path for path in modules() if LEFT_OVER.search(path.read_text(encoding="utf-8"))]
    assert shown(found) == []


def test_modules_are_small_and_named_for_what_they_hold() -> None:
    assert shown([path for path in modules() if path.stem in VAGUE_NAMES]) == []
    assert shown([path for path in modules() if len(path.read_text().splitlines()) > MOST_LINES]) == []


def test_the_top_level_is_fixed() -> None:
    ignored = {"build", "dist", "node_modules", "fitchain_verifier.egg-info", "__pycache__"}
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert folders - ignored == TOP_LEVEL_FOLDERS


def test_the_readme_names_every_command() -> None:
    from workers.cli.application import build

    table = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    named = {word for row in rows for code in re.findall(r"`([^`]+)`", row.split("|")[1]) for word in code.split()}
    group = typer.main.get_command(build())
    missing = [
        f"{name} {sub}".strip()
        for name, command in group.commands.items()  # type: ignore[attr-defined]
        for sub in ("", *getattr(command, "commands", {}))
        if name not in named or (sub and sub not in named)
    ]
    assert missing == []
