"""What travels between processes: jobs, fetched inputs, evaluations and finished steps.

Small JSON only: CIDs, schemas and results, never blobs. Every message carries a `version`; a worker that is older than
a message refuses it by name instead of guessing. No Celery and no I/O live here.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from chain import Verdict

MESSAGE_VERSION: Final = 1
MAX_SCHEMA_CHARACTERS = 64 * 1024


class Message(BaseModel):
    """Base of all messages: immutable, strict about unknown fields so that a misspelled one is not lost silently."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ChallengeRef(Message):
    """The assignment that a job works for. Deadlines are Unix seconds of chain time."""

    chain_id: int
    pool: str
    challenge_id: int
    model_id: int
    account: str
    commit_deadline: int
    reveal_deadline: int

    def step_key(self, step: str) -> str:
        """The idempotency key of a step: `{chain}:{pool}:{challenge}:{step}:{account}`."""
        return f"{self.chain_id}:{self.pool.lower()}:{self.challenge_id}:{step}:{self.account.lower()}"

    @property
    def vote_key(self) -> str:
        """The key under which the account's vote on the challenge is kept in the journal."""
        return f"{self.chain_id}:{self.pool.lower()}:{self.challenge_id}:{self.account.lower()}"


class StepLease(Message):
    """The claim under which a step was enqueued: see `tasks.leases`."""

    key: str
    token: str


class Scoring(Message):
    """How the result becomes a score: the metric by name, mark and tolerance in score units of 1e-6."""

    metric: str = "accuracy"
    pass_mark: int | None = None
    higher_passes: bool = True
    tolerance: int = 100

    def passes(self, score: int) -> bool | None:
        """Whether a score is on the right side of the mark; None where there is no mark."""
        if self.pass_mark is None:
            return None
        return score >= self.pass_mark if self.higher_passes else score <= self.pass_mark


class Job(Message):
    """One verification: of a challenge on chain, or ad hoc (`challenge` is None).

    `model_schema` and `data_schema` hold the JSON of the schema or the CID of that JSON.
    `deadline` is the Unix second after which the result is of no use.
    """

    version: Literal[1] = MESSAGE_VERSION
    job_id: str = Field(max_length=200)
    model_schema: str = Field(max_length=MAX_SCHEMA_CHARACTERS)
    data_schema: str = Field(max_length=MAX_SCHEMA_CHARACTERS)
    scoring: Scoring = Scoring()
    challenge: ChallengeRef | None = None
    lease: StepLease | None = None
    deadline: float | None = None

    def __str__(self) -> str:
        if self.challenge is None:
            return f"ad hoc {self.job_id}"
        ref = self.challenge
        return f"challenge {ref.challenge_id} · model {ref.model_id} · {ref.account[:8]}…{ref.account[-4:]}"


class Refusal(Message):
    """Why there is no result: the verdict that follows from it, the rule that was broken, and a sentence."""

    verdict: Literal[Verdict.INVALID, Verdict.UNAVAILABLE]
    rule: str
    reason: str


class Input(Message):
    """One fetched file: where it is addressed, how large it is and which cache tier had it."""

    cid: str
    size_bytes: int
    tier: str


class Fetched(Message):
    """What `fetch` hands to `evaluate`: both schemas as canonical JSON and both inputs, or a refusal."""

    version: Literal[1] = MESSAGE_VERSION
    job: Job
    model_schema: dict[str, Any] | None = None
    data_schema: dict[str, Any] | None = None
    model: Input | None = None
    data: Input | None = None
    refusal: Refusal | None = None
    seconds: float = 0.0
    host: str = ""


class Evaluated(Message):
    """What `evaluate` hands to `submit.commit` and to whoever waits for an ad-hoc job.

    `report` is the unsigned report as JSON; `score` is in units of 1e-6 and None unless the verdict is VALID.
    """

    version: Literal[1] = MESSAGE_VERSION
    job: Job
    verdict: Verdict
    score: int | None = None
    passed: bool | None = None
    reason: str | None = None
    rule: str | None = None
    report: dict[str, Any]
    seconds: float = 0.0
    host: str = ""


class StepOutcome(StrEnum):
    """How a submit step ended."""

    SENT = "sent"
    NOT_OWED = "not owed"
    SUPERSEDED = "superseded"
    LATE = "late"


class StepDone(Message):
    """The end of a submit step: the transaction that carried it, or why none was sent."""

    version: Literal[1] = MESSAGE_VERSION
    challenge_id: int
    account: str
    step: str
    outcome: StepOutcome
    transaction: str | None = None
    block: int | None = None
    gas_used: int | None = None
    detail: str = ""
    report_cid: str | None = None


def score_of(value: float) -> int:
    """A metric's value as an integer of 1e-6, halves to even.

    Raises:
        ValueError: the value is NaN or infinite, which is the verdict *invalid* and never a score.
    """
    if not math.isfinite(value):
        raise ValueError(f"a score needs a finite value, not {value!r}")
    return round(value * 1_000_000)
