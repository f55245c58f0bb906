"""What the dispatcher does with the open assignments that it reads: pure decisions, no I/O.

`plan` turns one assignment into the step to enqueue now, with its deadline, its priority and its lease; `order` puts
the steps of a tick in the order of their urgency. Reading, leasing and enqueuing are in `workers.dispatcher`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from chain import Assignment
from chain.owed import Step, deadline_of, owed_step
from tasks.leases import bounded_lease
from tasks.messages import ChallengeRef, Job, Scoring
from tasks.wire import CHALLENGE_PRIORITY, PATIENT_PRIORITY, URGENT_PRIORITY

URGENT_SECONDS = 60.0
PATIENT_SECONDS = 15 * 60.0

# Between the end of the time to evaluate and the commit deadline: the first part belongs to an evaluation that has
# just ended and is about to commit; what is left at this share of the reserve is for the abstention.
ABSTAIN_SHARE_OF_RESERVE = 0.6


class Action(StrEnum):
    """What is enqueued for a step. ABSTAIN takes the place of EVALUATE when no time is left for it."""

    EVALUATE = "evaluate"
    ABSTAIN = "abstain"
    REVEAL = "reveal"
    SETTLE = "settle"


@dataclass(frozen=True)
class PlannedStep:
    """A step to enqueue. `deadline` is Unix seconds of this host's clock (None: settlement may wait)."""

    action: Action
    assignment: Assignment
    ref: ChallengeRef
    lease_key: str
    deadline: float | None
    priority: int


@dataclass(frozen=True)
class PlanningRules:
    """The operator's settings that bear on the plan; seconds."""

    commit_reserve_seconds: float
    queued_lease_seconds: float


def plan(
    assignment: Assignment,
    *,
    chain_id: int,
    pool: str,
    account: str,
    chain_now: float,
    wall_now: float,
    rules: PlanningRules,
) -> PlannedStep | None:
    """The step that an account owes to a challenge at this moment, or None.

    `chain_now` is the chain's clock and decides what is owed; deadlines in the plan are moved to the clock of this
    host, by which workers live.
    """
    step = owed_step(assignment, chain_now)
    if step is None:
        return None
    ref = ChallengeRef(
        chain_id=chain_id,
        pool=pool,
        challenge_id=assignment.challenge_id,
        model_id=assignment.model_id,
        account=account,
        commit_deadline=assignment.commit_deadline,
        reveal_deadline=assignment.reveal_deadline,
    )
    last_second = deadline_of(assignment, step)
    deadline = None if last_second is None else wall_now + (last_second - chain_now)
    action = Action(step.value)
    if step is Step.EVALUATE and deadline is not None:
        reserve = commit_reserve(assignment, rules)
        if wall_now >= deadline - reserve * ABSTAIN_SHARE_OF_RESERVE:
            action = Action.ABSTAIN
        else:
            deadline -= reserve
    return PlannedStep(
        action=action,
        assignment=assignment,
        ref=ref,
        lease_key=_lease_key(ref, action),
        deadline=deadline,
        priority=priority_of(action, deadline, wall_now),
    )


def commit_reserve(assignment: Assignment, rules: PlanningRules) -> float:
    """Seconds at the end of the commit window that are kept for committing: at most a quarter of the window."""
    return min(rules.commit_reserve_seconds, assignment.terms.commit_seconds / 4)


def priority_of(action: Action, deadline: float | None, now: float) -> int:
    """The broker priority (0 is served first). What no evaluation holds up goes first; the rest by time left."""
    if action in {Action.ABSTAIN, Action.REVEAL}:
        return URGENT_PRIORITY
    if deadline is None:
        return CHALLENGE_PRIORITY
    left = deadline - now
    if left < URGENT_SECONDS:
        return URGENT_PRIORITY
    return CHALLENGE_PRIORITY if left < PATIENT_SECONDS else PATIENT_PRIORITY


def lease_seconds(step: PlannedStep, now: float, rules: PlanningRules) -> float:
    """How long a queued step is trusted to be on its way, before it is enqueued once more."""
    return bounded_lease(rules.queued_lease_seconds, step.deadline, now)


def order(steps: Iterable[PlannedStep]) -> list[PlannedStep]:
    """Most urgent first: by deadline, settlements (which lose nothing by waiting) last."""
    return sorted(steps, key=lambda step: (step.deadline is None, step.deadline or 0.0, step.ref.challenge_id))


def job_of(step: PlannedStep) -> Job:
    """The job that the tasks of a step work on; the lease is added when it has been taken."""
    terms = step.assignment.terms
    return Job(
        job_id=f"challenge-{step.ref.challenge_id}-{step.ref.account[:8]}",
        model_schema=step.assignment.model_schema,
        data_schema=step.assignment.data_schema,
        scoring=Scoring(
            metric=terms.metric,
            pass_mark=terms.pass_mark,
            higher_passes=terms.higher_passes,
            tolerance=terms.tolerance,
        ),
        challenge=step.ref,
        deadline=step.deadline,
    )


def _lease_key(ref: ChallengeRef, action: Action) -> str:
    """One lease a step and account; one a challenge for the settlement, which any account of the cluster may send."""
    if action is Action.SETTLE:
        return ref.model_copy(update={"account": "any"}).step_key(action)
    return ref.step_key(action)
