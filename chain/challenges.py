"""The values of a challenge as they leave this package: verdicts, phases, terms, votes, accounts.

Only data and the pure rule of the phases live here; reading them from the chain is `chain/pool.py`. Units
throughout: money in wei, points in time in unix seconds of the chain's clock, scores, marks and tolerances in
integers of 1e-6 of the metric. The meaning of each number is defined by `contracts/ValidatorPool.vy`.
"""

from dataclasses import dataclass
from enum import IntEnum

MAX_K = 15
MAX_SCHEMA_CHARACTERS = 1024
MAX_METRIC_CHARACTERS = 32
MAX_CID_CHARACTERS = 96
MAX_BATCH = 32
MAX_SCORE = 10**30
MAX_WINDOW_SECONDS = 30 * 24 * 3600


class Verdict(IntEnum):
    """What a vote says of a model. NONE is no vote, and on a challenge: undecided."""

    NONE = 0
    VALID = 1
    INVALID = 2
    UNAVAILABLE = 3


class Phase(IntEnum):
    """Where a challenge stands. SETTLE: nothing but the settlement is left, and anybody may send it."""

    COMMIT = 1
    REVEAL = 2
    SETTLE = 3
    SETTLED = 4


@dataclass(frozen=True)
class Terms:
    """What a consumer asks for: k verifiers (odd, at most 15), the metric, the pass mark and the two windows.

    The model passes if its score is at or above `pass_mark` (`higher_passes`), else at or below it.
    """

    k: int
    metric: str
    pass_mark: int
    higher_passes: bool
    tolerance: int
    commit_seconds: int
    reveal_seconds: int

    def passes(self, score: int) -> bool:
        """Whether a score in units of 1e-6 is on the right side of the mark."""
        return score >= self.pass_mark if self.higher_passes else score <= self.pass_mark


@dataclass(frozen=True)
class Model:
    """A published model; `schema` is the JSON itself or the CID of the JSON."""

    id: int
    owner: str
    schema: str
    created_at: int


@dataclass(frozen=True)
class ChallengeRef:
    """A challenge as the registry names it: numbers count within a pool."""

    pool: str
    challenge_id: int


@dataclass(frozen=True)
class Result:
    """How a challenge ended. `verdict` NONE: undecided, the bounty went back."""

    pool: str
    challenge_id: int
    model_id: int
    verdict: Verdict
    score: int
    passed: bool
    settled_at: int


@dataclass(frozen=True)
class Assignment:
    """An open challenge seen by one of its verifiers, with all that is needed to serve it.

    `model_schema` and `data_schema` are each the JSON itself or the CID of the JSON. `phase` holds for the
    block that was read; `phase_at` tells it for another time. `commits` and `reveals` count the votes of the
    whole panel. Deadlines are the last second at which the step is accepted.
    """

    challenge_id: int
    model_id: int
    model_schema: str
    data_schema: str
    terms: Terms
    phase: Phase
    created_at: int
    commit_deadline: int
    reveal_deadline: int
    commits: int
    reveals: int
    share_wei: int
    commitment: bytes
    committed: bool
    revealed: bool

    def phase_at(self, now: float) -> Phase:
        """The phase at `now` (unix seconds), should nobody vote until then; never before the one that was read."""
        implied = phase_at(
            now,
            k=self.terms.k,
            commits=self.commits,
            reveals=self.reveals,
            commit_deadline=self.commit_deadline,
            reveal_deadline=self.reveal_deadline,
        )
        return max(self.phase, implied)


@dataclass(frozen=True)
class Challenge:
    """A challenge with its outcome; `verdict`, `score`, `passed` and `payout_wei` mean something once it is
    settled.
    """

    challenge_id: int
    model_id: int
    consumer: str
    bounty_wei: int
    share_wei: int
    data_schema: str
    terms: Terms
    verifiers: tuple[str, ...]
    created_at: int
    commit_deadline: int
    reveal_deadline: int
    commits: int
    reveals: int
    phase: Phase
    settled_at: int
    verdict: Verdict
    score: int
    passed: bool
    payout_wei: int

    @property
    def settled(self) -> bool:
        """Whether the pool has closed this challenge."""
        return self.phase is Phase.SETTLED

    def phase_by(self, now: float) -> Phase:
        """The later of the phase that was read and the one that `now` (unix seconds) implies without further votes."""
        if self.settled:
            return Phase.SETTLED
        implied = phase_at(
            now,
            k=self.terms.k,
            commits=self.commits,
            reveals=self.reveals,
            commit_deadline=self.commit_deadline,
            reveal_deadline=self.reveal_deadline,
        )
        return max(self.phase, implied)


@dataclass(frozen=True)
class Block:
    """A block of the chain: its number, and its timestamp in unix seconds."""

    number: int
    timestamp: int


@dataclass(frozen=True)
class Ballot:
    """Where one verifier stands in a challenge: the phase, and what of its vote is on chain."""

    phase: Phase
    commitment: bytes
    committed: bool
    revealed: bool


@dataclass(frozen=True)
class VoteView:
    """One ballot of a challenge; `payout_wei` and `slashed_wei` are 0 until the challenge is settled."""

    verifier: str
    commitment: bytes
    committed: bool
    revealed: bool
    verdict: Verdict
    score: int
    report_cid: str
    payout_wei: int
    slashed_wei: int


@dataclass(frozen=True)
class VerifierAccount:
    """A verifier's account in the pool.

    `stake_wei` includes what open assignments lock (`locked_wei`) and what was asked back and has not been
    taken yet (`pending_withdrawal_wei`, from `withdrawable_at` on). `slots` counts the free ones, `active`
    those in use; `credit_wei` can be withdrawn at any time. `minimum_bounty_wei` is the least share for which
    it is drawn.
    """

    address: str
    stake_wei: int
    locked_wei: int
    pending_withdrawal_wei: int
    withdrawable_at: int
    minimum_bounty_wei: int
    slots: int
    active: int
    credit_wei: int


@dataclass(frozen=True)
class PoolTerms:
    """What a pool is deployed with, for good. The delay runs from the request of a withdrawal."""

    stake_per_slot_wei: int
    minimum_share_wei: int
    withdrawal_delay_seconds: int
    minimum_window_seconds: int


def phase_at(now: float, *, k: int, commits: int, reveals: int, commit_deadline: int, reveal_deadline: int) -> Phase:
    """The phase of an unsettled challenge, by the contract's rule: all k committed opens the reveal phase at
    once, all who committed having revealed opens settlement at once, else the deadlines do.
    """
    if commits < k and now <= commit_deadline:
        return Phase.COMMIT
    if reveals < commits and now <= reveal_deadline:
        return Phase.REVEAL
    return Phase.SETTLE
