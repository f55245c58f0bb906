"""Which step a verifier still owes to a challenge: a pure decision over what was read from the chain.

Nothing is read or sent here. The dispatcher asks on every tick, and each task asks again before it acts.
"""

from enum import StrEnum

from chain.challenges import Assignment, Phase


class Step(StrEnum):
    """A step on the road of an assignment. EVALUATE ends with the commitment of its vote."""

    EVALUATE = "evaluate"
    REVEAL = "reveal"
    SETTLE = "settle"


def owed_step(assignment: Assignment, now: float) -> Step | None:
    """The step that this verifier can do at `now`, or None if it can only wait.

    `now` is unix seconds of the chain's clock. A chain that mines no block while nothing is sent stays behind
    the deadlines that have passed meanwhile, so the phase is derived for `now` and not taken from the block
    that was read. Everybody on the panel owes the settlement; who sends it first is no matter of the
    protocol.
    """
    phase = assignment.phase_at(now)
    if phase is Phase.COMMIT and not assignment.committed:
        return Step.EVALUATE
    if phase is Phase.REVEAL and assignment.committed and not assignment.revealed:
        return Step.REVEAL
    if phase is Phase.SETTLE:
        return Step.SETTLE
    return None


def deadline_of(assignment: Assignment, step: Step) -> int | None:
    """The last second (unix, chain's clock) at which the contract accepts the step; settlement has none."""
    match step:
        case Step.EVALUATE:
            return assignment.commit_deadline
        case Step.REVEAL:
            return assignment.reveal_deadline
        case Step.SETTLE:
            return None
