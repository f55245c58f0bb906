"""Stake, slots, withdrawals: what a verifier may put in and take out, and when."""

import pytest

from chain.calls import ContractCall
from tests.evm import ETHER, POOL_TERMS, TERMS, Market, Refused, replace_terms, valid

DELAY = POOL_TERMS.withdrawal_delay_seconds


def test_slots_follow_the_stake(market: Market) -> None:
    verifier = market.verifiers[0]
    market.send(market.pool.deposit_call(ETHER - 1), verifier)
    assert market.pool.verifier(verifier).slots == 0
    assert market.pool._read("getNumberOfAvailable") == 0
    market.send(market.pool.deposit_call(1), verifier)
    market.send(market.pool.deposit_call(2 * ETHER), verifier)
    account = market.pool.verifier(verifier)
    assert (account.stake_wei, account.slots, account.active, account.locked_wei) == (3 * ETHER, 3, 0, 0)
    assert market.pool._read("getNumberOfAvailable") == 1
    assert market.pool._read("getNumberOfVerifiers") == 1


def test_nothing_cannot_be_deposited(market: Market) -> None:
    with pytest.raises(Refused, match=r"^nothing deposited$"):
        market.send(market.pool.deposit_call(0), market.verifiers[0])


def test_plain_transfers_are_refused(market: Market) -> None:
    with pytest.raises(Refused):
        market.send(ContractCall(market.pool.address, b"", 1, "transfer"), market.outsider)


def test_stake_asked_back_leaves_the_drawing_at_once_and_comes_after_the_delay(market: Market) -> None:
    [verifier] = market.stake(1, slots=2)
    market.send(market.pool.request_withdrawal_call(ETHER + 1), verifier)
    asked = market.evm.now()
    account = market.pool.verifier(verifier)
    assert (account.pending_withdrawal_wei, account.withdrawable_at) == (ETHER + 1, asked + DELAY)
    assert account.slots == 0
    assert market.pool._read("getNumberOfAvailable") == 0

    market.evm.move_to(asked + DELAY - 2)
    assert market.pool.withdrawable(verifier) == 0
    with pytest.raises(Refused, match=r"^nothing to withdraw$"):
        market.send(market.pool.withdraw_call(), verifier)
    with market.evm.undone():
        market.evm.move_to(asked + DELAY)
        assert market.pool.withdrawable(verifier) == ETHER + 1
    before = market.evm.balance(market.pool.address)
    market.evm.next_at(asked + DELAY)
    market.send(market.pool.withdraw_call(), verifier)
    assert before - market.evm.balance(market.pool.address) == ETHER + 1
    account = market.pool.verifier(verifier)
    assert (account.stake_wei, account.pending_withdrawal_wei, account.withdrawable_at) == (ETHER - 1, 0, 0)
    with pytest.raises(Refused, match=r"^nothing to withdraw$"):
        market.send(market.pool.withdraw_call(), verifier)


def test_the_withdrawn_ether_reaches_the_account(market: Market) -> None:
    [verifier] = market.stake(1)
    market.send(market.pool.request_withdrawal_call(ETHER), verifier)
    market.evm.move_to(market.evm.now() + DELAY)
    before = market.evm.balance(verifier)
    receipt = market.send(market.pool.withdraw_call(), verifier)
    fee = receipt["gasUsed"] * receipt["effectiveGasPrice"]
    assert market.evm.balance(verifier) == before + ETHER - fee


def test_only_free_stake_can_be_asked_back(market: Market) -> None:
    verifiers = market.stake(3, slots=2)
    market.challenge()
    with pytest.raises(Refused, match=r"^more than the free stake$"):
        market.send(market.pool.request_withdrawal_call(ETHER + 1), verifiers[0])
    with pytest.raises(Refused, match=r"^nothing requested$"):
        market.send(market.pool.request_withdrawal_call(0), verifiers[0])
    market.send(market.pool.request_withdrawal_call(ETHER), verifiers[0])
    with pytest.raises(Refused, match=r"^more than the free stake$"):
        market.send(market.pool.request_withdrawal_call(1), verifiers[0])


def test_a_further_request_starts_the_delay_anew_but_not_for_what_has_matured(market: Market) -> None:
    [verifier] = market.stake(1, slots=3)
    market.send(market.pool.request_withdrawal_call(ETHER), verifier)
    market.evm.move_to(market.evm.now() + DELAY // 2)
    market.send(market.pool.request_withdrawal_call(ETHER), verifier)
    account = market.pool.verifier(verifier)
    assert account.pending_withdrawal_wei == 2 * ETHER
    assert account.withdrawable_at == market.evm.now() + DELAY
    market.evm.move_to(account.withdrawable_at)
    market.send(market.pool.request_withdrawal_call(ETHER), verifier)
    account = market.pool.verifier(verifier)
    assert (account.credit_wei, account.pending_withdrawal_wei, account.stake_wei) == (2 * ETHER, ETHER, ETHER)
    assert market.pool.withdrawable(verifier) == 2 * ETHER


def test_a_minimum_bounty_may_be_set_before_any_stake_and_never_undercuts_the_pool(market: Market) -> None:
    verifier = market.verifiers[0]
    assert market.pool.verifier(verifier).minimum_bounty_wei == POOL_TERMS.minimum_share_wei
    market.send(market.pool.set_minimum_bounty_call(1), verifier)
    assert market.pool.verifier(verifier).minimum_bounty_wei == POOL_TERMS.minimum_share_wei
    market.send(market.pool.set_minimum_bounty_call(ETHER), verifier)
    assert market.pool.verifier(verifier).minimum_bounty_wei == ETHER
    assert market.pool._read("getNumberOfVerifiers") == 0


def test_a_slashed_stake_lowers_the_slots(market: Market) -> None:
    market.stake(3, slots=2)
    challenge = market.challenge()
    panel = market.play(challenge, [valid(5), valid(5), None])
    loser, winner = market.pool.verifier(panel[2]), market.pool.verifier(panel[0])
    assert (loser.stake_wei, loser.slots, loser.active) == (ETHER, 1, 0)
    assert (winner.stake_wei, winner.slots, winner.active) == (2 * ETHER, 2, 0)


def test_the_seats_of_the_drawing_stay_true_through_any_order_of_leaving(market: Market) -> None:
    verifiers = market.stake(6)
    for verifier in (verifiers[5], verifiers[0], verifiers[2]):  # the last, the first, one in the middle
        market.send(market.pool.request_withdrawal_call(ETHER), verifier)
    assert market.pool._read("getNumberOfAvailable") == 3
    challenge = market.challenge()
    assert set(market.panel(challenge)) == {verifiers[1], verifiers[3], verifiers[4]}
    with pytest.raises(Refused, match=r"^too few eligible verifiers$"):
        market.challenge(replace_terms(TERMS, k=1))


def test_all_verifiers_are_listed_over_pages(market: Market) -> None:
    market.stake(3)
    accounts = market.pool.verifiers()
    assert [account.address for account in accounts] == market.verifiers[:3]
    assert accounts[1] == market.pool.verifier(market.verifiers[1])
    page = market.pool._read("getVerifiers", 1, 1)
    assert [raw.verifier for raw in page] == [market.verifiers[1]]
    assert market.pool._read("getVerifiers", 3, 100) == []
