"""commitMany, revealMany, settleMany: what can be done is done, the rest is skipped and named by its absence."""

from typing import Any

import pytest

from chain.challenges import MAX_BATCH, Phase
from tests.evm import INVALID, TERMS, Market, Refused, replace_terms, valid

ALONE = replace_terms(TERMS, k=1)


def would_return(market: Market, call: Any, sender: str) -> list[int]:
    """What the function returns, without sending it."""
    request = {"from": sender, "to": call.to, "data": "0x" + call.data.hex()}
    raw = bytes(market.evm.w3.eth.call(request))
    return list(market.evm.w3.codec.decode(["uint256[]"], raw)[0])


def do(market: Market, call: Any, sender: str) -> list[int]:
    done = would_return(market, call, sender)
    market.send(call, sender)
    return done


def open_many(market: Market, count: int) -> tuple[str, list[int]]:
    [verifier] = market.stake(1, slots=count)
    return verifier, [market.challenge(ALONE, bounty=10**15) for _ in range(count)]


def test_a_whole_batch_runs_through_all_steps(market: Market) -> None:
    verifier, numbers = open_many(market, MAX_BATCH)
    commits = [(number, market.commitment(number, verifier, valid(number))) for number in numbers]
    assert do(market, market.pool.commit_many_call(commits), verifier) == numbers
    reveals = [(number, valid(1).verdict, number, market.salt, f"Qm{number}") for number in numbers]
    receipt = market.send(market.pool.reveal_many_call(reveals), verifier)
    assert receipt["gasUsed"] < 10_000_000
    assert do(market, market.pool.settle_many_call(numbers), market.outsider) == numbers
    assert market.pool.assignments(verifier) == []
    results = [market.pool.challenge(number) for number in numbers]
    assert [(state.phase, state.score) for state in results] == [(Phase.SETTLED, number) for number in numbers]
    assert market.pool.votes(numbers[3])[0].report_cid == f"Qm{numbers[3]}"


def test_entries_that_cannot_be_committed_are_skipped(market: Market) -> None:
    [verifier] = market.stake(1, slots=4)
    late = market.challenge(ALONE, bounty=10**15)
    market.evm.move_to(market.pool.challenge(late).commit_deadline + 1)
    committed, empty, good = (market.challenge(ALONE, bounty=10**15) for _ in range(3))
    market.commit(committed, verifier, valid(1))
    entries = [
        (0, b"\x01" * 32),
        (99, b"\x01" * 32),
        (late, b"\x01" * 32),
        (committed, b"\x01" * 32),
        (empty, bytes(32)),
        (good, b"\x01" * 32),
        (good, b"\x02" * 32),
    ]
    assert do(market, market.pool.commit_many_call(entries), verifier) == [good]
    assert market.pool.votes(good)[0].commitment == b"\x01" * 32
    assert not market.pool.votes(empty)[0].committed


def test_entries_that_cannot_be_revealed_are_skipped(market: Market) -> None:
    verifier, [uncommitted, wrong, twice, good] = open_many(market, 4)
    for number in (wrong, twice, good):
        market.commit(number, verifier, valid(5))
    market.reveal(twice, verifier, valid(5))
    verdict, salt = valid(5).verdict, market.salt
    entries = [
        (0, verdict, 5, salt, ""),
        (99, verdict, 5, salt, ""),
        (uncommitted, verdict, 5, salt, ""),
        (wrong, verdict, 6, salt, ""),
        (wrong, INVALID.verdict, 0, salt, ""),
        (wrong, INVALID.verdict, 5, salt, ""),
        (twice, verdict, 5, salt, ""),
        (good, verdict, 5, salt, "QmGood"),
    ]
    assert do(market, market.pool.reveal_many_call(entries), verifier) == [good]
    assert market.pool.votes(good)[0].report_cid == "QmGood"
    assert not market.pool.votes(wrong)[0].revealed


def test_challenges_that_are_not_due_are_skipped(market: Market) -> None:
    verifier, [waiting, due, settled] = open_many(market, 3)
    for number in (due, settled):
        market.commit(number, verifier, valid(5))
        market.reveal(number, verifier, valid(5))
    market.settle(settled)
    numbers = [0, 99, waiting, settled, due, due]
    assert do(market, market.pool.settle_many_call(numbers), market.outsider) == [due]
    assert market.pool.challenge(waiting).phase is Phase.COMMIT


def test_a_stranger_commits_nothing(market: Market) -> None:
    _, [number] = open_many(market, 1)
    call = market.pool.commit_many_call([(number, b"\x01" * 32)])
    assert do(market, call, market.outsider) == []
    assert market.pool.challenge(number).commits == 0


def test_a_batch_has_at_most_32_entries(market: Market) -> None:
    with pytest.raises(Refused):
        market.send(market.pool.settle_many_call(list(range(MAX_BATCH + 1))), market.outsider)
