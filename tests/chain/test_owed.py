"""Which step is owed, by table; and that the rule of the phases is the contract's."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.challenges import Assignment, Phase, phase_at
from chain.owed import Step, deadline_of, owed_step
from tests.evm import TERMS, Market, valid

COMMIT_DEADLINE, REVEAL_DEADLINE = 1_000, 2_000
FRESH = Assignment(
    challenge_id=1,
    model_id=1,
    model_schema="QmModel",
    data_schema="QmData",
    terms=TERMS,
    phase=Phase.COMMIT,
    created_at=900,
    commit_deadline=COMMIT_DEADLINE,
    reveal_deadline=REVEAL_DEADLINE,
    commits=0,
    reveals=0,
    share_wei=1,
    commitment=bytes(32),
    committed=False,
    revealed=False,
)


def seen(*, commits: int, reveals: int, committed: bool, revealed: bool) -> Assignment:
    return replace(FRESH, commits=commits, reveals=reveals, committed=committed, revealed=revealed)


NOTHING = seen(commits=0, reveals=0, committed=False, revealed=False)
OTHERS_COMMITTED = seen(commits=2, reveals=0, committed=False, revealed=False)
I_COMMITTED = seen(commits=1, reveals=0, committed=True, revealed=False)
ALL_COMMITTED = seen(commits=3, reveals=0, committed=True, revealed=False)
I_REVEALED = seen(commits=3, reveals=1, committed=True, revealed=True)
ALL_REVEALED = seen(commits=3, reveals=3, committed=True, revealed=True)
BEFORE, DURING, AFTER = 950, 1_500, 2_500


@pytest.mark.parametrize(
    ("assignment", "now", "step"),
    [
        (NOTHING, BEFORE, Step.EVALUATE),
        (NOTHING, COMMIT_DEADLINE, Step.EVALUATE),
        (NOTHING, COMMIT_DEADLINE + 1, Step.SETTLE),  # nobody committed: nothing to reveal
        (OTHERS_COMMITTED, BEFORE, Step.EVALUATE),
        (OTHERS_COMMITTED, DURING, None),  # missed; the others may still reveal
        (OTHERS_COMMITTED, AFTER, Step.SETTLE),
        (I_COMMITTED, BEFORE, None),
        (I_COMMITTED, COMMIT_DEADLINE + 0.5, Step.REVEAL),
        (I_COMMITTED, DURING, Step.REVEAL),
        (ALL_COMMITTED, BEFORE, Step.REVEAL),
        (ALL_COMMITTED, REVEAL_DEADLINE, Step.REVEAL),
        (ALL_COMMITTED, AFTER, Step.SETTLE),
        (I_REVEALED, BEFORE, None),
        (I_REVEALED, DURING, None),
        (I_REVEALED, AFTER, Step.SETTLE),
        (ALL_REVEALED, BEFORE, Step.SETTLE),
        (replace(ALL_REVEALED, phase=Phase.SETTLED), AFTER, None),
        (replace(I_COMMITTED, phase=Phase.REVEAL), BEFORE, Step.REVEAL),  # our clock is behind the chain's
        (replace(OTHERS_COMMITTED, phase=Phase.SETTLE), DURING, Step.SETTLE),
    ],
)
def test_owed_step(assignment: Assignment, now: float, step: Step | None) -> None:
    assert owed_step(assignment, now) is step


def test_each_step_has_the_deadline_of_its_phase() -> None:
    deadlines = [deadline_of(FRESH, step) for step in Step]
    assert deadlines == [COMMIT_DEADLINE, REVEAL_DEADLINE, None]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commits=st.integers(0, 3), reveals=st.integers(0, 3), offset=st.sampled_from([0, 50, 100, 101, 150, 200, 201]))
def test_the_phase_is_the_contracts(market: Market, commits: int, reveals: int, offset: int) -> None:
    with market.evm.undone():
        market.stake(3)
        challenge = market.challenge()
        panel = market.panel(challenge)
        created = market.evm.now()
        for verifier in panel[:commits]:
            market.commit(challenge, verifier, valid(1))
        if commits < 3:
            market.evm.move_to(created + 101)
        for verifier in panel[: min(commits, reveals)]:
            market.reveal(challenge, verifier, valid(1))
        market.evm.move_to(created + offset)
        state = market.pool.challenge(challenge)
        mine = phase_at(
            market.evm.now(),
            k=3,
            commits=state.commits,
            reveals=state.reveals,
            commit_deadline=state.commit_deadline,
            reveal_deadline=state.reveal_deadline,
        )
        assert mine is state.phase
