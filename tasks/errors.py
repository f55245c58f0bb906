"""What can go wrong with the work itself, as one hierarchy.

Here live the errors only; where each is raised is said by the function that raises it. ``transient`` is the one
question that a caller must ask: ``True`` means that the same work may succeed later or on another host, so it is
retried until its deadline. Facts about the content (a model that is no model) are never errors: they are results.
"""

from __future__ import annotations

from typing import ClassVar


class TasksError(Exception):
    """Base of everything that this package raises; the message is a sentence for the person who has to act."""

    transient: ClassVar[bool] = False


class ReportInvalid(TasksError):
    """A document is not a report that this version reads, or cannot be signed."""


class SandboxError(TasksError):
    """An evaluation did not come back from its sandbox with a result.

    `cause` is a short machine-readable word for reports, logs and counters.
    """

    cause: ClassVar[str] = "sandbox"


class SandboxTimeout(SandboxError):
    """The evaluation ran longer than its wall clock or its processor time and was killed."""

    cause = "time"


class SandboxOutOfMemory(SandboxError):
    """The evaluation asked for more memory than it may have and was killed."""

    cause = "memory"


class SandboxOutOfScratch(SandboxError):
    """The evaluation wrote more to its scratch folder than it may and was killed."""

    cause = "scratch"


class SandboxFlood(SandboxError):
    """The evaluation returned more than the largest accepted result, or something that is not strict JSON."""

    cause = "output"


class SandboxCrash(SandboxError):
    """The evaluation's process died or raised: by a signal (`signal`), or with an exit code (`exit_code`).

    `output` holds the last lines that it printed.
    """

    cause = "crash"

    def __init__(
        self, message: str, *, signal: int | None = None, exit_code: int | None = None, output: str = ""
    ) -> None:
        super().__init__(message)
        self.signal = signal
        self.exit_code = exit_code
        self.output = output


class SandboxRefused(SandboxError):
    """No evaluation was started: the sandbox is below the demanded level, or could not be set up on this host."""

    cause = "refused"
    transient = True


class EvaluationError(TasksError):
    """The evaluation cannot be done on this host, which says nothing about the content: no fact to vote on."""


class EvaluationUnavailable(EvaluationError):
    """The evaluation cannot be done now (memory, device, disk); later or elsewhere it may be."""

    transient = True


class InvalidContent(TasksError):
    """The content itself is wrong, for every verifier alike. Never leaves the evaluation: it becomes a verdict.

    `rule` is the stable short name of what was broken (``forbidden-layer``), `place` says where in which file, and
    `sentence` what is wrong and what was expected.
    """

    def __init__(self, rule: str, place: str, sentence: str) -> None:
        super().__init__(f"{place}: {sentence}" if place else sentence)
        self.rule = rule
        self.place = place
        self.sentence = sentence

    def __reduce__(self) -> tuple[type[InvalidContent], tuple[str, str, str]]:
        """Keep all parts when the error crosses a process border."""
        return (InvalidContent, (self.rule, self.place, self.sentence))
