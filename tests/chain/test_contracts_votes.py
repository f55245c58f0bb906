"""Commit and reveal: each way to be refused, and the last second at which each is accepted."""

import pytest

from chain.challenges import Phase, Verdict
from chain.votes import Vote
from tests.evm import INVALID, UNAVAILABLE, Market, Refused, valid

SALT = b"\x07" * 32


@pytest.fixture
def challenge(market: Market) -> int:
    """An open challenge with the first three verifiers on the panel."""
    market.stake(3)
    return market.challenge()


def phase(market: Market, challenge: int) -> Phase:
    return market.pool.challenge(challenge).phase


def test_all_committed_opens_the_reveal_and_all_revealed_the_settlement(market: Market, challenge: int) -> None:
    panel = market.panel(challenge)
    for verifier in panel:
        assert phase(market, challenge) is Phase.COMMIT
        market.commit(challenge, verifier, valid(5))
    for verifier in panel:
        assert phase(market, challenge) is Phase.REVEAL
        market.reveal(challenge, verifier, valid(5), cid="Qm" + verifier)
    assert phase(market, challenge) is Phase.SETTLE
    votes = market.pool.votes(challenge)
    assert [vote.verifier for vote in votes] == panel
    assert [vote.report_cid for vote in votes] == ["Qm" + verifier for verifier in panel]
    assert all(vote.revealed and vote.verdict is Verdict.VALID and vote.score == 5 for vote in votes)
    market.settle(challenge)
    assert phase(market, challenge) is Phase.SETTLED


def test_deadlines_open_the_phases_when_votes_do_not(market: Market, challenge: int) -> None:
    panel = market.panel(challenge)
    market.commit(challenge, panel[0], valid(5))
    state = market.pool.challenge(challenge)
    market.evm.move_to(state.commit_deadline)
    assert phase(market, challenge) is Phase.COMMIT
    market.evm.move_to(state.commit_deadline + 1)
    assert phase(market, challenge) is Phase.REVEAL
    market.evm.move_to(state.reveal_deadline)
    assert phase(market, challenge) is Phase.REVEAL
    market.evm.move_to(state.reveal_deadline + 1)
    assert phase(market, challenge) is Phase.SETTLE


def test_nobody_committed_makes_settlement_due_at_the_commit_deadline(market: Market, challenge: int) -> None:
    state = market.pool.challenge(challenge)
    market.evm.next_at(state.commit_deadline)
    with pytest.raises(Refused, match=r"^settlement is not due yet$"):
        market.settle(challenge)
    market.settle(challenge)  # one second later
    assert phase(market, challenge) is Phase.SETTLED


def test_all_who_committed_having_revealed_makes_settlement_due(market: Market, challenge: int) -> None:
    panel = market.panel(challenge)
    market.commit(challenge, panel[1], valid(5))
    market.evm.move_to(market.pool.challenge(challenge).commit_deadline + 1)
    market.reveal(challenge, panel[1], valid(5))
    assert phase(market, challenge) is Phase.SETTLE


def test_a_commit_is_accepted_up_to_the_last_second(market: Market, challenge: int) -> None:
    panel = market.panel(challenge)
    deadline = market.pool.challenge(challenge).commit_deadline
    market.evm.next_at(deadline)
    market.commit(challenge, panel[0], valid(5))
    assert market.evm.now() == deadline
    with pytest.raises(Refused, match=r"^commit phase is over$"):
        market.commit(challenge, panel[1], valid(5))


def test_a_reveal_is_accepted_up_to_the_last_second(market: Market, challenge: int) -> None:
    panel = market.panel(challenge)
    for verifier in panel:
        market.commit(challenge, verifier, valid(5))
    deadline = market.pool.challenge(challenge).reveal_deadline
    market.evm.next_at(deadline)
    market.reveal(challenge, panel[0], valid(5))
    assert market.evm.now() == deadline
    with pytest.raises(Refused, match=r"^reveal phase is over$"):
        market.reveal(challenge, panel[1], valid(5))


def test_commits_are_refused_with_their_reason(market: Market, challenge: int) -> None:
    panel = market.panel(challenge)
    for number in (0, challenge + 1):
        with pytest.raises(Refused, match=r"^unknown challenge$"):
            market.commit(number, panel[0], valid(5))
    with pytest.raises(Refused, match=r"^not assigned to this challenge$"):
        market.commit(challenge, market.outsider, valid(5))
    with pytest.raises(Refused, match=r"^empty commitment$"):
        market.send(market.pool.commit_call(challenge, bytes(32)), panel[0])
    market.commit(challenge, panel[0], valid(5))
    with pytest.raises(Refused, match=r"^already committed$"):
        market.commit(challenge, panel[0], valid(6))
    market.commit(challenge, panel[1], valid(5))
    market.commit(challenge, panel[2], valid(5))
    with pytest.raises(Refused, match=r"^already committed$"):
        market.commit(challenge, panel[0], valid(6))


def test_reveals_are_refused_with_their_reason(market: Market, challenge: int) -> None:
    panel = market.panel(challenge)
    for number in (0, challenge + 1):
        with pytest.raises(Refused, match=r"^unknown challenge$"):
            market.reveal(number, panel[0], valid(5))
    with pytest.raises(Refused, match=r"^not assigned to this challenge$"):
        market.reveal(challenge, market.outsider, valid(5))
    market.commit(challenge, panel[0], valid(5))
    market.commit(challenge, panel[1], valid(5))
    with pytest.raises(Refused, match=r"^reveal phase has not begun$"):
        market.reveal(challenge, panel[0], valid(5))
    market.evm.move_to(market.pool.challenge(challenge).commit_deadline + 1)
    with pytest.raises(Refused, match=r"^nothing committed$"):
        market.reveal(challenge, panel[2], valid(5))
    market.reveal(challenge, panel[0], valid(5))
    with pytest.raises(Refused, match=r"^already revealed$"):
        market.reveal(challenge, panel[0], valid(5))
    assert market.pool.challenge(challenge).reveals == 1


@pytest.mark.parametrize(
    ("verdict", "score", "reason"),
    [
        (0, 0, "unknown verdict"),
        (4, 0, "unknown verdict"),
        (1, 10**30 + 1, "score out of range"),
        (1, -(10**30) - 1, "score out of range"),
        (1, -(2**255), "score out of range"),
        (2, 1, "score without a valid verdict"),
        (3, -1, "score without a valid verdict"),
        (1, 6, "vote does not match the commitment"),
        (2, 0, "vote does not match the commitment"),
    ],
)
def test_votes_that_are_none_are_refused(market: Market, challenge: int, verdict: int, score: int, reason: str) -> None:
    panel = market.panel(challenge)
    for verifier in panel:
        market.commit(challenge, verifier, valid(5))
    call = market.pool._call("reveal", challenge, verdict, score, SALT, "", describe="")
    with pytest.raises(Refused, match=rf"^{reason}$"):
        market.send(call, panel[0])


def test_a_reveal_needs_the_salt_that_was_committed(market: Market, challenge: int) -> None:
    panel = market.panel(challenge)
    for verifier in panel:
        market.commit(challenge, verifier, valid(5))
    with pytest.raises(Refused, match=r"^vote does not match the commitment$"):
        market.send(market.pool.reveal_call(challenge, Verdict.VALID, 5, b"\x08" * 32, ""), panel[0])


def test_a_copied_commitment_cannot_be_revealed(market: Market, challenge: int) -> None:
    panel = market.panel(challenge)
    copied = market.commitment(challenge, panel[0], valid(5))
    for verifier in panel:
        market.send(market.pool.commit_call(challenge, copied), verifier)
    market.reveal(challenge, panel[0], valid(5))
    with pytest.raises(Refused, match=r"^vote does not match the commitment$"):
        market.reveal(challenge, panel[1], valid(5))


def test_a_commitment_is_of_one_challenge_only(market: Market) -> None:
    market.stake(3, slots=2)
    first, second = market.challenge(), market.challenge()
    panel = market.panel(second)
    for verifier in panel:
        of_the_first = market.commitment(first, verifier, valid(5))
        market.send(market.pool.commit_call(second, of_the_first), verifier)
    with pytest.raises(Refused, match=r"^vote does not match the commitment$"):
        market.reveal(second, panel[0], valid(5))


@pytest.mark.parametrize("vote", [valid(-(10**30)), valid(10**30), valid(0), INVALID, UNAVAILABLE])
def test_every_kind_of_vote_can_be_revealed(market: Market, challenge: int, vote: Vote) -> None:
    for verifier in market.panel(challenge):
        market.commit(challenge, verifier, vote)
    for verifier in market.panel(challenge):
        market.reveal(challenge, verifier, vote, cid="")
    assert {(v.verdict, v.score) for v in market.pool.votes(challenge)} == {(vote.verdict, vote.score)}


def test_a_report_address_of_96_characters_fits_and_one_more_does_not(market: Market, challenge: int) -> None:
    panel = market.panel(challenge)
    for verifier in panel:
        market.commit(challenge, verifier, valid(5))
    with pytest.raises(Refused):
        market.reveal(challenge, panel[0], valid(5), cid="b" * 97)
    market.reveal(challenge, panel[0], valid(5), cid="b" * 96)
    assert market.pool.votes(challenge)[0].report_cid == "b" * 96


def test_a_settled_challenge_takes_nothing_more(market: Market, challenge: int) -> None:
    panel = market.play(challenge, [valid(5), valid(5), None])
    with pytest.raises(Refused, match=r"^challenge already settled$"):
        market.commit(challenge, panel[2], valid(5))
    with pytest.raises(Refused, match=r"^challenge already settled$"):
        market.reveal(challenge, panel[0], valid(5))
    with pytest.raises(Refused, match=r"^challenge already settled$"):
        market.settle(challenge)
