"""Timing: subjects that take turns, and the middle and the spread of what they took.

Subjects run interleaved, one round after the other, so that a busy moment of the machine falls on all of them. The
median is what is reported; lowest and highest show how far to trust it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """What one subject took, round by round, in one unit (seconds unless it is said otherwise)."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The lowest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The highest value."""
        return max(self.values)


def interleaved(rounds: int, subjects: Mapping[str, Callable[[], float | None]]) -> dict[str, Sample]:
    """Run every subject once a round, in turn.

    A subject that returns a number has measured itself (seconds); one that returns None is timed from outside.
    """
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds):
        # The order alternates, so that nobody always runs in the wake of the same neighbour.
        names = list(subjects)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            taken[name].append(timed(subjects[name]))
    return {name: Sample(tuple(values)) for name, values in taken.items()}


def timed(subject: Callable[[], float | None]) -> float:
    """Seconds of one run: the subject's own measurement if it returns one."""
    started = time.perf_counter()
    own = subject()
    return time.perf_counter() - started if own is None else own


def ratio(of: Sample, to: Sample) -> float:
    """How many times the median of one is that of the other."""
    return of.median / to.median
