"""The plan of a tick as tables: what is enqueued for an assignment, when, how urgently, under which lease."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain import Assignment, Phase, Terms
from tasks.wire import CHALLENGE_PRIORITY, PATIENT_PRIORITY, URGENT_PRIORITY
from workers.planning import Action, PlannedStep, PlanningRules, job_of, lease_seconds, order, plan

CHAIN, POOL, ACCOUNT = 31337, "0x" + "12" * 20, "0x" + "Ab" * 20
RULES = PlanningRules(commit_reserve_seconds=60, queued_lease_seconds=120)
START = 1_000_000
TERMS = Terms(
    k=3,
    metric="accuracy",
    pass_mark=900_000,
    higher_passes=True,
    tolerance=100,
    commit_seconds=600,
    reveal_seconds=300,
)
OPEN = Assignment(
    challenge_id=7,
    model_id=2,
    model_schema="QmModel",
    data_schema="QmData",
    terms=TERMS,
    phase=Phase.COMMIT,
    created_at=START,
    commit_deadline=START + 600,
    reveal_deadline=START + 900,
    commits=0,
    reveals=0,
    share_wei=10**15,
    commitment=bytes(32),
    committed=False,
    revealed=False,
)
COMMITTED = replace(OPEN, commits=1, committed=True, commitment=b"\1" * 32)
ALL_COMMITTED = replace(COMMITTED, commits=3, phase=Phase.REVEAL)
REVEALED = replace(ALL_COMMITTED, reveals=1, revealed=True)
ALL_REVEALED = replace(REVEALED, reveals=3, phase=Phase.SETTLE)


def planned(assignment: Assignment, after: float, *, wall_offset: float = 0.0) -> PlannedStep | None:
    now = START + after
    return plan(
        assignment,
        chain_id=CHAIN,
        pool=POOL,
        account=ACCOUNT,
        chain_now=now,
        wall_now=now + wall_offset,
        rules=RULES,
    )


@pytest.mark.parametrize(
    ("assignment", "after", "action"),
    [
        (OPEN, 0, Action.EVALUATE),
        (OPEN, 560, Action.EVALUATE),
        (OPEN, 565, Action.ABSTAIN),
        (OPEN, 600, Action.ABSTAIN),
        (OPEN, 601, Action.SETTLE),  # nobody committed: there is nothing left but to settle
        (COMMITTED, 10, None),
        (COMMITTED, 601, Action.REVEAL),
        (ALL_COMMITTED, 10, Action.REVEAL),
        (ALL_COMMITTED, 900, Action.REVEAL),
        (ALL_COMMITTED, 901, Action.SETTLE),
        (REVEALED, 20, None),
        (REVEALED, 901, Action.SETTLE),
        (ALL_REVEALED, 20, Action.SETTLE),
        (
            replace(OPEN, commits=1),
            601,
            None,
        ),  # late: no vote of ours can be added, another's is being revealed
        (replace(ALL_REVEALED, phase=Phase.SETTLED), 20, None),
    ],
)
def test_what_is_enqueued(assignment: Assignment, after: float, action: Action | None) -> None:
    step = planned(assignment, after)
    assert (step.action if step else None) == action


def test_evaluation_must_end_before_the_reserve_for_the_commit() -> None:
    step = planned(OPEN, 0)
    assert step is not None
    assert step.deadline == START + 600 - 60


def test_a_short_window_keeps_at_most_a_quarter_for_the_commit() -> None:
    short = replace(OPEN, terms=replace(TERMS, commit_seconds=40), commit_deadline=START + 40)
    step = planned(short, 0)
    assert step is not None
    assert step.deadline == START + 30


def test_deadlines_are_told_by_the_clock_of_this_host() -> None:
    step = planned(ALL_COMMITTED, 10, wall_offset=-5000)
    assert step is not None
    assert step.deadline == START + 900 - 5000


def test_one_lease_a_step_and_account_but_one_settlement_a_challenge() -> None:
    evaluate, settle = planned(OPEN, 0), planned(ALL_REVEALED, 20)
    assert evaluate is not None
    assert settle is not None
    assert evaluate.lease_key == f"{CHAIN}:{POOL}:7:evaluate:{ACCOUNT.lower()}"
    assert settle.lease_key == f"{CHAIN}:{POOL}:7:settle:any"


@pytest.mark.parametrize(
    ("assignment", "after", "priority"),
    [
        (OPEN, 0, CHALLENGE_PRIORITY),
        (OPEN, 500, URGENT_PRIORITY),
        (OPEN, 570, URGENT_PRIORITY),
        (replace(OPEN, commit_deadline=START + 7200, reveal_deadline=START + 9000), 0, PATIENT_PRIORITY),
        (ALL_COMMITTED, 10, URGENT_PRIORITY),
        (ALL_REVEALED, 20, CHALLENGE_PRIORITY),
    ],
)
def test_the_nearer_the_deadline_the_sooner(assignment: Assignment, after: float, priority: int) -> None:
    step = planned(assignment, after)
    assert step is not None
    assert step.priority == priority


def test_most_urgent_first_and_settlements_last() -> None:
    later = planned(replace(OPEN, challenge_id=1, commit_deadline=START + 800), 0)
    sooner = planned(replace(OPEN, challenge_id=2), 0)
    settle = planned(replace(ALL_REVEALED, challenge_id=3), 0)
    steps = [step for step in (settle, later, sooner) if step is not None]
    assert [step.ref.challenge_id for step in order(steps)] == [2, 1, 3]


def test_the_job_carries_what_the_tasks_need() -> None:
    step = planned(OPEN, 0)
    assert step is not None
    job = job_of(step)
    assert (job.model_schema, job.data_schema) == ("QmModel", "QmData")
    assert (job.scoring.metric, job.scoring.pass_mark, job.scoring.tolerance) == ("accuracy", 900_000, 100)
    assert job.challenge == step.ref
    assert job.deadline == step.deadline
    assert "challenge 7" in str(job)


@given(after=st.floats(-100, 2000), offset=st.floats(-1e6, 1e6))
def test_a_queued_lease_ends_in_time_for_another_try(after: float, offset: float) -> None:
    step = planned(OPEN, after, wall_offset=offset)
    if step is None:
        return
    now = START + after + offset
    seconds = lease_seconds(step, now, RULES)
    assert 5 <= seconds <= RULES.queued_lease_seconds
    if step.deadline is not None and step.deadline - now > 20:
        assert seconds <= (step.deadline - now) / 4 + 1e-3
