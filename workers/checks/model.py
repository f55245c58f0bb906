"""The outcome of a check, and the order of severity."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Status(IntEnum):
    """How a check ended. A WARNING works, but not as well or as safely as it could; FAILED does not."""

    OK = 0
    WARNING = 1
    FAILED = 2


@dataclass(frozen=True)
class Check:
    """What was looked at, how it is, and what to do about it (empty where nothing is)."""

    name: str
    status: Status
    detail: str
    advice: str = ""


def ok(name: str, detail: str) -> Check:
    """All is well."""
    return Check(name, Status.OK, detail)


def warning(name: str, detail: str, advice: str) -> Check:
    """It works, but."""
    return Check(name, Status.WARNING, detail, advice)


def failed(name: str, detail: str, advice: str) -> Check:
    """It does not work."""
    return Check(name, Status.FAILED, detail, advice)
