"""How long getting something may take: one total, and one for silence in between."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from storage.errors import SourceUnavailable

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on a clock that does not jump, in seconds, and the longest silence that is borne before it."""

    at: float
    idle_seconds: float
    clock: Clock = time.monotonic

    @classmethod
    def after(cls, seconds: float, *, idle_seconds: float, clock: Clock = time.monotonic) -> "Deadline":
        """A deadline so many seconds from now."""
        return cls(clock() + seconds, idle_seconds, clock)

    def remaining(self) -> float:
        """Seconds left, not below zero."""
        return max(0.0, self.at - self.clock())

    def patience(self) -> float:
        """Seconds to wait for the next sign of life: the silence borne, or less where less time is left."""
        return max(0.001, min(self.idle_seconds, self.remaining()))

    def check(self, what: str) -> None:
        """Raise SourceUnavailable when the time is over."""
        if self.remaining() <= 0:
            raise SourceUnavailable(f"{what} did not finish in the time that was given")
