"""What ends a benchmark before it has measured anything."""

from __future__ import annotations

from typing import ClassVar


class BenchmarkError(Exception):
    """Base of the errors of this package. None of them passes by itself."""

    transient: ClassVar[bool] = False


class ExampleMissing(BenchmarkError):
    """The reference example is not where it should be."""


class WrongAnswer(BenchmarkError):
    """A subject came to another result than the others: its time is worth nothing."""


class SubjectEnded(BenchmarkError):
    """A process that was to be measured has ended."""
