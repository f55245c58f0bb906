"""Everything that can go wrong while parts are started or stopped on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class StackError(Exception):
    """Base of this package's errors. `transient` says whether trying again may help by itself."""

    transient: ClassVar[bool] = False


class ProgramMissing(StackError):
    """A program that the stack starts is not on this machine."""

    def __init__(self, program: str, looked: list[str], remedy: str) -> None:
        self.program = program
        super().__init__(f"{program} was not found (looked at {', '.join(looked)}). {remedy}")


class FolderInUse(StackError):
    """The folder belongs to somebody else, or another stack is running in it."""


class ServiceFailed(StackError):
    """A part ended or did not answer in time. Carries the end of its log, where the reason stands."""

    transient = True

    def __init__(self, name: str, what_happened: str, log: Path, last_lines: list[str]) -> None:
        self.name = name
        self.log = log
        shown = "\n".join(f"  | {line}" for line in last_lines) or "  | (the log is empty)"
        super().__init__(f"{name} {what_happened}. Its log is {log}; the last lines:\n{shown}")
