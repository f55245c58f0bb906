"""Settlement once more, written from its description and not from the contract, to compare the contract with."""

import statistics
from dataclasses import dataclass

from chain.challenges import Terms, Verdict
from chain.votes import Vote


@dataclass(frozen=True)
class Outcome:
    """What a challenge ends with; wei by place on the panel."""

    verdict: Verdict
    score: int
    passed: bool
    payouts: tuple[int, ...]
    slashed: tuple[int, ...]
    refund: int


def settlement(votes: list[Vote | None], *, terms: Terms, bounty: int, stake_per_slot: int) -> Outcome:
    """Settle the votes of a panel; None is a verifier who did not commit or did not reveal."""
    decision = _decision([vote for vote in votes if vote is not None], terms.tolerance)
    winners, losers = set(), {place for place, vote in enumerate(votes) if vote is None}
    if decision is not None:
        for place, vote in enumerate(votes):
            if vote is None or vote.verdict is Verdict.UNAVAILABLE:
                continue
            agrees = vote.verdict is decision.verdict and abs(vote.score - decision.score) <= terms.tolerance
            (winners if agrees else losers).add(place)
    pot = bounty + len(losers) * stake_per_slot
    payout = pot // len(winners) if winners else 0
    return Outcome(
        verdict=decision.verdict if decision else Verdict.NONE,
        score=decision.score if decision else 0,
        passed=decision is not None and decision.verdict is Verdict.VALID and terms.passes(decision.score),
        payouts=tuple(payout if place in winners else 0 for place in range(len(votes))),
        slashed=tuple(stake_per_slot if place in losers else 0 for place in range(len(votes))),
        refund=pot - payout * len(winners),
    )


def _decision(revealed: list[Vote], tolerance: int) -> Vote | None:
    deciding = [vote for vote in revealed if vote.verdict is not Verdict.UNAVAILABLE]
    if not deciding or 2 * (len(revealed) - len(deciding)) > len(revealed):
        return None
    for verdict in (Verdict.VALID, Verdict.INVALID):
        same = [vote.score for vote in deciding if vote.verdict is verdict]
        if 2 * len(same) <= len(deciding):
            continue
        middle = statistics.median_low(same)
        if 2 * sum(abs(score - middle) <= tolerance for score in same) > len(deciding):
            return Vote(verdict, middle)
    return None
