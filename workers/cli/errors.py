"""Failures that only commands know: an error that carries its own exit code and what to do next."""

from __future__ import annotations

from workers.cli.exits import ExitCode
from workers.errors import WorkersError


class CommandError(WorkersError):
    """A command that cannot go on. The message is one sentence; `hint` says what to do."""

    def __init__(self, message: str, *, code: ExitCode, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


def bad_input(message: str, hint: str = "") -> CommandError:
    """Something that was given cannot be used."""
    return CommandError(message, code=ExitCode.BAD_INPUT, hint=hint)


def misconfigured(message: str, hint: str = "") -> CommandError:
    """A setting or a key is missing or wrong."""
    return CommandError(message, code=ExitCode.CONFIGURATION, hint=hint)
