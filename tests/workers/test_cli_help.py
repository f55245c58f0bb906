"""The help: every command explains itself with an example, and answers without loading what it does not need."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.workers.command import Command
from workers.cli.application import build

HEAVY = ("tensorflow", "keras", "web3", "celery", "redis", "pandas", "numpy", "pydantic")

COMMANDS = [
    "verify",
    "enqueue",
    "result",
    "publish",
    "status",
    "doctor",
    "health",
    "version",
    "demo",
    "worker",
    "dispatcher",
    "flower",
    "deploy",
    "challenge create",
    "challenge list",
    "challenge show",
    "stake deposit",
    "stake withdraw",
    "stake show",
    "stake minimum",
    "keystore new",
    "report show",
    "report verify",
]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path, {})


def test_all_commands_are_in_the_list() -> None:
    app = build()
    names = [one.name for one in app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        prefix = group.name or group.typer_instance.info.name
        names += [
            f"{prefix} {one.name or one.callback.__name__}"  # type: ignore[union-attr]
            for one in group.typer_instance.registered_commands
        ]
    assert sorted(str(name) for name in names) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        build()([*name.split(), "--help"], prog_name="fitchain-verifier")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "Examples:" in shown
    assert f"fitchain-verifier {name}" in shown


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    look = (
        "import sys\nfrom workers.cli.application import run\n"
        "assert run(['--help']) == 0\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.rstrip().endswith("loaded: []")


def test_help_is_quick(command: Command) -> None:
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        assert command("--help").code == 0
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 1.0  # 0.2 s on an idle machine


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["verify"],
        ["worker", "cook"],
        ["worker", "all", "--name", "x"],
        ["doctor", "--role", "cook"],
        ["publish"],
        ["publish", "--register"],
        ["verify", "--model", "m", "--data", "d", "--pass-mark", "high"],
        ["stake", "deposit", "1"],
        [
            "challenge",
            "create",
            "--model",
            "1",
            "--data",
            "d",
            "--bounty",
            "1eth",
            "--pass-mark",
            "1",
            "--k",
            "2",
        ],
    ],
)
def test_a_command_line_that_makes_no_sense_ends_with_2(command: Command, arguments: list[str]) -> None:
    done = command(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err


def test_the_sentence_says_what_to_write_instead(command: Command) -> None:
    assert "0.3eth" in command("stake", "deposit", "1").err


def test_version(command: Command) -> None:
    assert command("--version").out.strip()
    versions = command("version", "--json").json()
    assert {"python", "fitchain-verifier", "celery", "kombu"} <= versions.keys()
