"""Every way a challenge can be settled, by table and against a model of the rules."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web3.logs import DISCARD

from chain.challenges import Terms, Verdict
from chain.votes import Vote
from tests.chain.settlement_model import Outcome, settlement
from tests.evm import ETHER, INVALID, TERMS, UNAVAILABLE, Market, Refused, replace_terms, valid

NONE, VALID = Verdict.NONE, Verdict.VALID
BOUNTY = 3 * ETHER + 2  # does not divide by 2 or 3: the remainder must go somewhere


def outcome(market: Market, challenge: int) -> Outcome:
    """What the contract says of a settled challenge, the refund from its books."""
    state, votes = market.pool.challenge(challenge), market.pool.votes(challenge)
    assert state.settled
    return Outcome(
        verdict=state.verdict,
        score=state.score,
        passed=state.passed,
        payouts=tuple(vote.payout_wei for vote in votes),
        slashed=tuple(vote.slashed_wei for vote in votes),
        refund=market.pool.verifier(state.consumer).credit_wei,
    )


TABLE = [
    # how it is called, the votes of the panel ("silent" = committed, never revealed), verdict, score, paid, slashed
    ("agreement", [valid(7), valid(7), valid(7)], VALID, 7, [0, 1, 2], []),
    ("within the tolerance", [valid(0), valid(100), valid(200)], VALID, 100, [0, 1, 2], []),
    ("outlier", [valid(100), valid(0), valid(201)], VALID, 100, [0, 1], [2]),
    ("never committed", [valid(7), None, valid(7)], VALID, 7, [0, 2], [1]),
    ("never revealed", [valid(7), "silent", valid(7)], VALID, 7, [0, 2], [1]),
    ("of two, the lower median", [valid(90), valid(10), None], VALID, 10, [0, 1], [2]),
    ("one vote alone", [valid(7), None, None], VALID, 7, [0], [1, 2]),
    ("abstention", [valid(7), UNAVAILABLE, valid(7)], VALID, 7, [0, 2], []),
    ("invalid", [INVALID, INVALID, INVALID], Verdict.INVALID, 0, [0, 1, 2], []),
    ("invalid, one against", [INVALID, valid(7), INVALID], Verdict.INVALID, 0, [0, 2], [1]),
    ("valid, one against", [valid(7), valid(7), INVALID], VALID, 7, [0, 1], [2]),
    ("half abstain: the others decide", [UNAVAILABLE, valid(7), None], VALID, 7, [1], [2]),
    ("most abstain", [UNAVAILABLE, UNAVAILABLE, valid(7)], NONE, 0, [], []),
    ("all abstain", [UNAVAILABLE, UNAVAILABLE, UNAVAILABLE], NONE, 0, [], []),
    ("one abstains, nobody else speaks", [UNAVAILABLE, None, "silent"], NONE, 0, [], [1, 2]),
    ("tie of verdicts", [valid(7), INVALID, UNAVAILABLE], NONE, 0, [], []),
    ("tie of verdicts, one silent", [valid(7), INVALID, None], NONE, 0, [], [2]),
    ("scattered scores", [valid(0), valid(1000), valid(2000)], NONE, 0, [], []),
    ("two that disagree", [valid(0), valid(1000), "silent"], NONE, 0, [], [2]),
    ("nobody revealed", ["silent", "silent", None], NONE, 0, [], [0, 1, 2]),
    ("nobody committed", [None, None, None], NONE, 0, [], [0, 1, 2]),
]


@pytest.mark.parametrize(
    ("votes", "verdict", "score", "paid", "slashed"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_settlement(
    market: Market, votes: list[Any], verdict: Verdict, score: int, paid: list[int], slashed: list[int]
) -> None:
    market.stake(3)
    challenge = market.challenge(bounty=BOUNTY)
    panel = market.play(challenge, votes)

    pot = BOUNTY + len(slashed) * ETHER
    payout = pot // len(paid) if paid else 0
    assert outcome(market, challenge) == Outcome(
        verdict=verdict,
        score=score,
        passed=False,
        payouts=tuple(payout if place in paid else 0 for place in range(3)),
        slashed=tuple(ETHER if place in slashed else 0 for place in range(3)),
        refund=pot - payout * len(paid),
    )
    for place, verifier in enumerate(panel):
        account = market.pool.verifier(verifier)
        assert account.credit_wei == (payout if place in paid else 0)
        assert account.stake_wei == (0 if place in slashed else ETHER)
        assert (account.active, account.locked_wei) == (0, 0)
    assert market.evm.balance(market.pool.address) == 3 * ETHER + BOUNTY
    result = market.registry.result(challenge)
    assert result is not None
    assert (result.verdict, result.score, result.passed) == (verdict, score, False)


@pytest.mark.parametrize(
    ("higher_passes", "score", "passed"),
    [(True, 600_000, True), (True, 599_999, False), (False, 600_000, True), (False, 600_001, False)],
)
def test_the_mark_itself_passes_on_either_side(market: Market, higher_passes: bool, score: int, passed: bool) -> None:
    market.stake(3)
    challenge = market.challenge(replace_terms(TERMS, higher_passes=higher_passes))
    market.play(challenge, [valid(score)] * 3)
    result = market.registry.result(challenge)
    assert market.pool.challenge(challenge).passed is passed
    assert result is not None
    assert result.passed is passed


def test_invalid_never_passes_even_where_zero_would(market: Market) -> None:
    market.stake(3)
    challenge = market.challenge(replace_terms(TERMS, pass_mark=0))
    market.play(challenge, [INVALID] * 3)
    assert market.pool.challenge(challenge).passed is False


def test_settlement_waits_for_its_time(market: Market) -> None:
    market.stake(3)
    challenge = market.challenge()
    for number in (0, challenge + 1):
        with pytest.raises(Refused, match=r"^unknown challenge$"):
            market.settle(number)
    with pytest.raises(Refused, match=r"^settlement is not due yet$"):
        market.settle(challenge)
    panel = market.panel(challenge)
    for verifier in panel:
        market.commit(challenge, verifier, valid(1))
    for verifier in panel[:2]:
        market.reveal(challenge, verifier, valid(1))
    with pytest.raises(Refused, match=r"^settlement is not due yet$"):
        market.settle(challenge)
    market.reveal(challenge, panel[2], valid(1))
    market.settle(challenge)


def test_payout_and_slash_show_only_once_settled(market: Market) -> None:
    market.stake(3)
    challenge = market.challenge()
    market.commit(challenge, market.panel(challenge)[0], valid(1))
    votes = market.pool.votes(challenge)
    assert {(vote.payout_wei, vote.slashed_wei) for vote in votes} == {(0, 0)}
    assert [vote.committed for vote in votes] == [True, False, False]
    assert not any(vote.revealed for vote in votes)


def test_what_happened_is_logged(market: Market) -> None:
    market.stake(3)
    challenge = market.challenge(bounty=BOUNTY + 1)
    panel = market.panel(challenge)
    for verifier, vote in zip(panel, [valid(7), valid(7), valid(999)], strict=True):
        market.commit(challenge, verifier, vote)
    for verifier, vote in zip(panel, [valid(7), valid(7), valid(999)], strict=True):
        market.reveal(challenge, verifier, vote)
    receipt = market.settle(challenge)
    events = market.pool._contract.events
    logged = {
        name: [dict(log["args"]) for log in events[name]().process_receipt(receipt, errors=DISCARD)]
        for name in ("Settled", "Paid", "Slashed", "Refunded")
    }
    assert logged == {
        "Settled": [{"challenge": 1, "model": 1, "verdict": 1, "score": 7, "passed": False}],
        "Paid": [{"challenge": 1, "verifier": verifier, "amount": 2 * ETHER + 1} for verifier in panel[:2]],
        "Slashed": [{"challenge": 1, "verifier": panel[2], "amount": ETHER}],
        "Refunded": [{"challenge": 1, "consumer": market.consumer, "amount": 1}],
    }


VOTES = st.one_of(
    st.none(),
    st.just("silent"),
    st.sampled_from([INVALID, UNAVAILABLE]),
    # Few different scores, around the tolerance, so that medians tie, agree and scatter.
    st.sampled_from([-101, -100, -1, 0, 1, 99, 100, 101, 200, 201, 5000]).map(valid),
)


@st.composite
def played(draw: st.DrawFn) -> tuple[Terms, list[Vote | str | None], int]:
    k = draw(st.sampled_from([1, 3, 5, 7, 15]))
    kinds = draw(st.sampled_from([VOTES, VOTES.filter(lambda vote: isinstance(vote, Vote))]))
    votes = draw(st.lists(kinds, min_size=k, max_size=k))
    terms = replace_terms(
        TERMS,
        k=k,
        pass_mark=draw(st.integers(-200, 200)),
        higher_passes=draw(st.booleans()),
        tolerance=draw(st.sampled_from([0, 1, 100, 10**30])),
    )
    return terms, votes, k * 10**15 + draw(st.integers(0, 10**18))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(played())
def test_the_contract_settles_as_the_model_of_its_rules(
    market: Market, game: tuple[Terms, list[Vote | str | None], int]
) -> None:
    terms, votes, bounty = game
    with market.evm.undone():
        market.stake(terms.k)
        challenge = market.challenge(terms, bounty=bounty)
        market.play(challenge, votes)
        heard = [vote if isinstance(vote, Vote) else None for vote in votes]
        assert outcome(market, challenge) == settlement(heard, terms=terms, bounty=bounty, stake_per_slot=ETHER)
