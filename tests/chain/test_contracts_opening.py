"""Opening a challenge: its bounds, and who may be drawn."""

from collections import Counter
from typing import Any

import pytest

from chain.challenges import Phase
from tests.evm import ETHER, TERMS, Market, Refused, replace_terms

DAY = 24 * 3600


def test_a_challenge_says_all_that_was_asked_for(market: Market) -> None:
    market.stake(5)
    terms = replace_terms(TERMS, k=5, metric="log_loss", pass_mark=-(10**30), higher_passes=False, tolerance=10**30)
    number = market.challenge(terms, bounty=5 * ETHER + 4, data_schema='{"uuid": "2"}')
    challenge = market.pool.challenge(number)
    now = market.evm.now()
    assert number == 1 == market.pool.number_of_challenges()
    assert challenge.terms == terms
    assert (challenge.model_id, challenge.consumer) == (1, market.consumer)
    assert (challenge.bounty_wei, challenge.share_wei) == (5 * ETHER + 4, ETHER)
    assert challenge.data_schema == '{"uuid": "2"}'
    assert challenge.created_at == now
    assert (challenge.commit_deadline, challenge.reveal_deadline) == (now + 100, now + 200)
    assert (challenge.phase, challenge.settled) == (Phase.COMMIT, False)
    assert sorted(challenge.verifiers) == sorted(market.verifiers[:5])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"k": 0}, "k must be odd and at most 15"),
        ({"k": 2}, "k must be odd and at most 15"),
        ({"k": 17}, "k must be odd and at most 15"),
        ({"metric": ""}, "empty metric"),
        ({"pass_mark": 10**30 + 1}, "pass mark out of range"),
        ({"pass_mark": -(10**30) - 1}, "pass mark out of range"),
        ({"tolerance": 10**30 + 1}, "tolerance out of range"),
        ({"commit_seconds": 9}, "window too short"),
        ({"reveal_seconds": 9}, "window too short"),
        ({"commit_seconds": 30 * DAY + 1}, "window too long"),
        ({"reveal_seconds": 2**256 - 1}, "window too long"),
        ({"k": 5}, "too few eligible verifiers"),
    ],
)
def test_terms_out_of_bounds_are_refused(market: Market, change: dict[str, Any], reason: str) -> None:
    market.stake(3)
    with pytest.raises(Refused, match=rf"^{reason}$"):
        market.challenge(replace_terms(TERMS, **change))


def test_terms_at_their_bounds_are_accepted(market: Market) -> None:
    market.stake(16)
    market.challenge(replace_terms(TERMS, k=15, commit_seconds=10, reveal_seconds=30 * DAY), bounty=15 * ETHER)
    market.challenge(replace_terms(TERMS, k=1, commit_seconds=30 * DAY, metric="m" * 32), bounty=10**15)


def test_the_metric_has_at_most_32_characters(market: Market) -> None:
    market.stake(3)
    with pytest.raises(Refused):
        market.challenge(replace_terms(TERMS, metric="m" * 33))


@pytest.mark.parametrize("model", [0, 2])
def test_a_model_that_is_not_there_cannot_be_challenged(market: Market, model: int) -> None:
    market.stake(3)
    with pytest.raises(Refused, match=r"^unknown model$"):
        market.challenge(model=model)


def test_the_share_must_reach_the_pools_minimum(market: Market) -> None:
    market.stake(3)
    with pytest.raises(Refused, match=r"^bounty below the minimum$"):
        market.challenge(bounty=3 * 10**15 - 1)
    market.challenge(bounty=3 * 10**15)


def test_a_data_schema_must_be_there_and_fit(market: Market) -> None:
    market.stake(3)
    with pytest.raises(Refused, match=r"^empty data schema$"):
        market.challenge(data_schema="")
    with pytest.raises(Refused):
        market.challenge(data_schema="x" * 1025)


def test_nobody_staked_is_too_few(market: Market) -> None:
    with pytest.raises(Refused, match=r"^too few eligible verifiers$"):
        market.challenge()


def test_a_refused_challenge_leaves_nothing_behind(market: Market) -> None:
    market.stake(2)
    with pytest.raises(Refused):
        market.challenge()
    assert market.pool.number_of_challenges() == 0
    assert market.registry.model_challenge_refs(1) == []
    assert market.evm.balance(market.pool.address) == 2 * ETHER


def test_consumer_and_model_owner_are_never_drawn(market: Market) -> None:
    verifiers = market.stake(5)
    model = market.publish(owner=verifiers[0])
    for turn in range(6):
        with market.evm.undone():
            market.evm.move_to(market.evm.now() + 1 + turn)  # another parent block, another draw
            challenge = market.challenge(model=model, consumer=verifiers[1])
            assert set(market.panel(challenge)) == set(verifiers[2:])
    with pytest.raises(Refused, match=r"^too few eligible verifiers$"):
        market.challenge(replace_terms(TERMS, k=5), model=model, consumer=verifiers[1])


def test_only_those_are_drawn_whose_minimum_the_share_meets(market: Market) -> None:
    verifiers = market.stake(4)
    market.send(market.pool.set_minimum_bounty_call(ETHER + 1), verifiers[0])
    market.send(market.pool.set_minimum_bounty_call(ETHER), verifiers[1])
    challenge = market.challenge(bounty=3 * ETHER)
    assert set(market.panel(challenge)) == set(verifiers[1:])


def test_each_drawing_uses_one_slot_of_each_on_the_panel(market: Market) -> None:
    market.stake(3, slots=2)
    first, second = market.challenge(), market.challenge()
    assert set(market.panel(first)) == set(market.panel(second)) == set(market.verifiers[:3])
    with pytest.raises(Refused, match=r"^too few eligible verifiers$"):
        market.challenge()
    account = market.pool.verifier(market.verifiers[0])
    assert (account.slots, account.active, account.locked_wei) == (0, 2, 2 * ETHER)


def test_a_panel_never_repeats_and_everybody_has_the_same_chance(market: Market) -> None:
    verifiers = market.stake(9)
    drawn: Counter[str] = Counter()
    rounds = 120
    for turn in range(rounds):
        with market.evm.undone():
            market.evm.move_to(market.evm.now() + 1 + turn)  # another parent block, another draw
            panel = market.panel(market.challenge())
        assert len(set(panel)) == 3
        drawn.update(panel)
    # Each is expected 40 times with a standard deviation of 5.2: seven of them are not left by chance.
    assert set(drawn) == set(verifiers)
    assert all(abs(count - rounds / 3) < 36 for count in drawn.values()), drawn


def test_the_first_place_goes_to_anybody(market: Market) -> None:
    verifiers = market.stake(4)
    first = set()
    for turn in range(60):
        with market.evm.undone():
            market.evm.move_to(market.evm.now() + 1 + turn)
            first.add(market.panel(market.challenge())[0])
    assert first == set(verifiers)


def test_the_scan_starts_anywhere_and_wraps_around_the_list(market: Market) -> None:
    """260 with a free slot, all but the last three too expensive: 256 of them are looked at, from a random place on.

    A scan from the start of the list would never see the last ones; a random one misses one of them in 6 of 260 draws.
    """
    crowd = [market.evm.w3.to_checksum_address(f"0x{number:040x}") for number in range(0x1000, 0x1000 + 257)]
    for address in crowd:
        market.evm.rpc("anvil_setBalance", address, hex(100 * ETHER))
        market.evm.rpc("anvil_impersonateAccount", address)
        market.send(market.pool.deposit_call(ETHER), address)
        market.send(market.pool.set_minimum_bounty_call(50 * ETHER), address)
    verifiers = market.stake(3)
    refused, opened = 0, 0
    for turn in range(20):
        with market.evm.undone():
            market.evm.move_to(market.evm.now() + 1 + turn)
            try:
                challenge = market.challenge()
            except Refused as refusal:
                assert str(refusal) == "too few eligible verifiers"
                refused += 1
            else:
                opened += 1
                assert set(market.panel(challenge)) == set(verifiers)
    assert opened > refused
