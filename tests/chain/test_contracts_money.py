"""No wei is created, lost or locked, whoever calls what in which order; and contracts that misbehave gain nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from chain.calls import ContractCall
from tests.chain.money_machine import MoneyMachine
from tests.evm import ETHER, TERMS, Market, Refused, replace_terms, valid

# Takes part in everything through `forward`; on receiving ether it calls the pool again, or refuses it.
TRICKSTER = """
# pragma version 0.4.3
target: address
payload: Bytes[256]
refuse: bool
tries: public(uint256)

@external
@payable
def forward(to: address, data: Bytes[2048]):
    raw_call(to, data, value=msg.value)

@external
def onReceive(to: address, data: Bytes[256], refuse: bool):
    self.target = to
    self.payload = data
    self.refuse = refuse

@external
@payable
def __default__():
    assert not self.refuse
    if len(self.payload) > 0:
        self.tries += 1
        ok: bool = raw_call(self.target, self.payload, revert_on_failure=False)
"""


def run_machine(market: Market, *, examples: int, steps: int) -> None:
    machine = type("Bound", (MoneyMachine,), {"market": market})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_no_wei_is_created_lost_or_locked(market: Market) -> None:
    run_machine(market, examples=12, steps=30)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_wei_is_created_lost_or_locked_for_long(market: Market) -> None:
    run_machine(market, examples=400, steps=80)


@pytest.fixture
def trickster(market: Market) -> tuple[str, Callable[..., ContractCall]]:
    """A contract that acts for itself, and how to make a call to it."""
    from vyper.compiler import compile_code

    output: dict[str, Any] = compile_code(TRICKSTER, output_formats=["abi", "bytecode"])
    w3 = market.evm.w3
    contract = w3.eth.contract(abi=output["abi"], bytecode=output["bytecode"])
    sent = contract.constructor().transact({"from": market.outsider})
    address = w3.eth.wait_for_transaction_receipt(sent)["contractAddress"]
    bound = w3.eth.contract(address=address, abi=output["abi"])

    def call(function: str, *arguments: Any, value: int = 0) -> ContractCall:
        return ContractCall(address, bytes.fromhex(bound.encode_abi(function, args=arguments)[2:]), value, function)

    return address, call


def test_calling_again_while_being_paid_gains_nothing(
    market: Market, trickster: tuple[str, Callable[..., ContractCall]]
) -> None:
    address, call = trickster
    pool = market.pool
    market.stake(3)  # somebody else's ether is in the pool
    market.send(call("forward", pool.address, pool.deposit_call(ETHER).data, value=ETHER), market.outsider)
    ask = pool.request_withdrawal_call(ETHER)
    market.send(call("forward", pool.address, ask.data), market.outsider)
    market.evm.move_to(market.evm.now() + 1000)
    market.send(call("onReceive", pool.address, pool.withdraw_call().data, False), market.outsider)
    market.send(call("forward", pool.address, pool.withdraw_call().data), market.outsider)
    assert market.evm.balance(address) == ETHER
    assert market.evm.balance(pool.address) == 3 * ETHER


def test_who_refuses_ether_blocks_only_itself(
    market: Market, trickster: tuple[str, Callable[..., ContractCall]]
) -> None:
    address, call = trickster
    pool = market.pool
    market.stake(3)
    create = pool.create_challenge_call(1, "QmData", TERMS, 3 * ETHER)
    market.send(call("forward", pool.address, create.data, value=3 * ETHER), market.outsider)
    market.send(call("onReceive", pool.address, b"", True), market.outsider)
    challenge = pool.number_of_challenges()
    market.play(challenge, [None, None, None])
    assert pool.withdrawable(address) == 6 * ETHER
    with pytest.raises(Refused):
        market.send(call("forward", pool.address, pool.withdraw_call().data), market.outsider)
    market.send(call("onReceive", pool.address, b"", False), market.outsider)
    market.send(call("forward", pool.address, pool.withdraw_call().data), market.outsider)
    assert market.evm.balance(address) == 6 * ETHER
    assert market.evm.balance(pool.address) == 0


def test_ether_that_was_forced_in_changes_nothing(market: Market) -> None:
    market.stake(1)
    forced = market.evm.balance(market.pool.address) + 7
    market.evm.rpc("anvil_setBalance", market.pool.address, hex(forced))
    terms = replace_terms(TERMS, k=1)
    challenge = market.challenge(terms, bounty=ETHER)
    [verifier] = market.play(challenge, [valid(1)])
    market.send(market.pool.withdraw_call(), verifier)
    assert market.evm.balance(market.pool.address) == ETHER + 7
