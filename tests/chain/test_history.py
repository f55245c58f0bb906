"""A challenge's life read back from the log of a real chain."""

from chain.history import challenge_events
from tests.evm import INVALID, Market, valid


def test_every_event_of_a_challenge_in_order(market: Market) -> None:
    market.publish()
    market.stake(3)
    other = market.challenge()
    market.play(other, [valid(1), valid(1), valid(1)])
    challenge = market.challenge()
    panel = market.play(challenge, [valid(5), valid(5), INVALID])

    events = challenge_events(market.pool, challenge)

    assert [event.name for event in events[:10]] == [
        "ChallengeCreated",
        *["Assigned"] * 3,
        *["Committed"] * 3,
        *["Revealed"] * 3,
    ]
    assert sorted(event.name for event in events[10:]) == ["Paid", "Paid", "Settled", "Slashed"]
    assert [event.account for event in events if event.name == "Revealed"] == panel
    slashed = next(event for event in events if event.name == "Slashed")
    assert slashed.account == panel[2]
    assert slashed.detail["amount"] == market.deployment.terms.stake_per_slot_wei
    assert len({event.transaction for event in events}) == 1 + 3 + 3 + 1
    assert [event.timestamp for event in events] == sorted(event.timestamp for event in events)


def test_a_range_of_blocks_limits_what_is_read(market: Market) -> None:
    market.publish()
    market.stake(3)
    challenge = market.challenge()
    created = market.evm.w3.eth.block_number
    market.play(challenge, [valid(5), valid(5), valid(5)])
    events = challenge_events(market.pool, challenge, to_block=created)
    assert {event.name for event in events} == {"ChallengeCreated", "Assigned"}
