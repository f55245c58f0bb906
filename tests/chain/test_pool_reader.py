"""Reading the pool from Python: assignments over pages at one block, and errors in words."""

import json
import time
from dataclasses import replace

import pytest
from web3 import HTTPProvider, Web3

from chain.challenges import Assignment, Ballot, Block, Phase
from chain.errors import ContractMissing, EndpointUnavailable, NotFound, SettingsError
from chain.pool import ValidatorPool
from chain.registry import Registry
from tests.evm import ETHER, POOL_TERMS, TERMS, Market, replace_terms, valid

ALONE = replace_terms(TERMS, k=1)
PATIENT = replace_terms(ALONE, commit_seconds=10_000)


def test_an_assignment_holds_all_that_a_dispatcher_needs(market: Market) -> None:
    market.stake(3)
    model = market.publish('{"a": "model"}')
    terms = replace_terms(TERMS, metric="mse", higher_passes=False, pass_mark=-5, commit_seconds=50)
    challenge = market.challenge(terms, model=model, data_schema='{"a": "data set"}', bounty=3 * ETHER)
    verifier, other, _ = market.panel(challenge)
    now = market.evm.now()
    expected = Assignment(
        challenge_id=challenge,
        model_id=model,
        model_schema='{"a": "model"}',
        data_schema='{"a": "data set"}',
        terms=terms,
        phase=Phase.COMMIT,
        created_at=now,
        commit_deadline=now + 50,
        reveal_deadline=now + 150,
        commits=0,
        reveals=0,
        share_wei=ETHER,
        commitment=bytes(32),
        committed=False,
        revealed=False,
    )
    assert market.pool.assignments(verifier) == [expected]
    assert market.pool.assignments(verifier.lower()) == [expected]

    market.commit(challenge, verifier, valid(5))
    commitment = market.commitment(challenge, verifier, valid(5))
    mine = replace(expected, commits=1, committed=True, commitment=commitment)
    assert market.pool.assignments(verifier) == [mine]
    assert market.pool.assignments(other) == [replace(expected, commits=1)]

    market.evm.move_to(now + 51)
    market.reveal(challenge, verifier, valid(5))
    done = replace(mine, phase=Phase.SETTLE, reveals=1, revealed=True)
    assert market.pool.assignments(verifier) == [done]
    market.settle(challenge)
    assert market.pool.assignments(verifier) == []
    assert market.pool.assignments(market.outsider) == []


@pytest.mark.parametrize("count", [99, 100, 101, 201])
def test_all_pages_are_read(market: Market, count: int) -> None:
    [verifier] = market.stake(1, slots=count)
    numbers = [market.challenge(ALONE, bounty=10**15) for _ in range(count)]
    assert market.pool.number_of_assignments(verifier) == count
    assert [assignment.challenge_id for assignment in market.pool.assignments(verifier)] == numbers


def test_settled_challenges_leave_the_list_wherever_they_stand(market: Market) -> None:
    [verifier] = market.stake(1, slots=5)
    first, second, third, fourth, fifth = (market.challenge(PATIENT, bounty=10**15) for _ in range(5))
    left = {first, second, third, fourth, fifth}
    # The last of the list, one in the middle, the first, one that has been moved twice, and the rest.
    for number in (fifth, second, first, third, fourth):
        market.play(number, [valid(1)])
        left.remove(number)
        assert {assignment.challenge_id for assignment in market.pool.assignments(verifier)} == left
    assert market.pool.verifier(verifier).slots == 5


def test_pages_are_read_at_one_block_even_if_the_list_changes(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the second page is asked for, a challenge of the first is settled and the last one moves to its place."""
    [verifier] = market.stake(1, slots=101)
    numbers = [market.challenge(PATIENT, bounty=10**15) for _ in range(101)]
    read = market.pool._read

    def interrupted(view: str, *arguments: object, block: int | None = None) -> object:
        answer = read(view, *arguments, block=block)
        if arguments[1] == 0:
            monkeypatch.setattr(market.pool, "_read", read)
            market.play(numbers[0], [valid(1)])
        return answer

    monkeypatch.setattr(market.pool, "_read", interrupted)
    assert [assignment.challenge_id for assignment in market.pool.assignments(verifier)] == numbers
    assert len(market.pool.assignments(verifier)) == 100


def test_an_older_block_can_be_read(market: Market) -> None:
    [verifier] = market.stake(1)
    block = market.evm.w3.eth.block_number
    market.challenge(ALONE, bounty=10**15)
    assert market.pool.assignments(verifier, block=block) == []
    assert len(market.pool.assignments(verifier, block=block + 1)) == 1


def test_a_page_of_100_with_the_largest_schemas_is_read_within_the_gas_of_a_node(market: Market) -> None:
    """Nodes cap the gas of eth_call at 50 M (geth) or at the gas of a block (30 M and more)."""
    [verifier] = market.stake(1, slots=100)
    model = market.publish("m" * 1024)
    for _ in range(100):
        market.challenge(ALONE, model=model, data_schema="d" * 1024, bounty=10**15)
    request = {
        "to": market.pool.address,
        "data": market.pool._contract.encode_abi("assignments", args=[verifier, 0, 100]),
    }
    gas = int(market.evm.rpc("eth_estimateGas", request), 16)
    start = time.monotonic()
    page = market.pool.assignments(verifier)
    print(f"page of 100 at 2 x 1024 characters: {gas} gas, {time.monotonic() - start:.3f} s")
    assert len(page) == 100
    assert page[99].model_schema == "m" * 1024
    assert gas < 25_000_000


def test_what_is_not_there_is_not_found(market: Market) -> None:
    for number in (0, 1):
        with pytest.raises(NotFound, match=f"getChallenge\\({number},\\).*unknown challenge"):
            market.pool.challenge(number)
        with pytest.raises(NotFound):
            market.pool.votes(number)


def test_a_ballot_tells_where_one_verifier_stands(market: Market) -> None:
    [verifier] = market.stake(1)
    challenge = market.challenge(ALONE, bounty=10**15)
    deadline = market.pool.challenge(challenge).commit_deadline
    assert market.pool.ballot(challenge, market.outsider) is None
    assert market.pool.ballot(challenge, verifier) == Ballot(Phase.COMMIT, bytes(32), False, False)
    overdue = market.pool.ballot(challenge, verifier, now=deadline + 1)
    assert overdue == Ballot(Phase.SETTLE, bytes(32), False, False)
    market.commit(challenge, verifier, valid(5))
    commitment = market.commitment(challenge, verifier, valid(5))
    assert market.pool.ballot(challenge, verifier) == Ballot(Phase.REVEAL, commitment, True, False)
    market.reveal(challenge, verifier, valid(5))
    assert market.pool.ballot(challenge, verifier) == Ballot(Phase.SETTLE, commitment, True, True)
    market.settle(challenge)
    assert market.pool.ballot(challenge, verifier) == Ballot(Phase.SETTLED, commitment, True, True)


def test_the_latest_block_is_read_with_its_time(market: Market) -> None:
    assert market.pool.latest_block() == Block(market.evm.w3.eth.block_number, market.evm.now())


def test_the_pool_says_its_terms_and_registry(market: Market) -> None:
    assert market.pool.terms() == POOL_TERMS
    assert market.pool.registry_address == market.registry.address


def test_a_stranger_has_an_empty_account(market: Market) -> None:
    account = market.pool.verifier(market.outsider)
    assert (account.stake_wei, account.slots, account.active, account.credit_wei) == (0, 0, 0, 0)


def test_no_contract_at_the_address_is_said_with_the_setting_to_check(market: Market) -> None:
    nowhere = "0x" + "12" * 20
    with pytest.raises(ContractMissing, match=r"on chain 31337 is no contract.*check FITCHAIN_POOL"):
        ValidatorPool(market.evm.w3, nowhere)
    with pytest.raises(ContractMissing, match="check FITCHAIN_REGISTRY"):
        Registry(market.evm.w3, nowhere)


def test_the_wrong_contract_at_the_address_is_noticed(market: Market) -> None:
    with pytest.raises(ContractMissing, match="another contract than a ValidatorPool"):
        ValidatorPool(market.evm.w3, market.registry.address)
    with pytest.raises(ContractMissing, match="another contract than a Registry"):
        Registry(market.evm.w3, market.pool.address)


def test_an_address_that_is_none_is_refused(market: Market) -> None:
    with pytest.raises(SettingsError, match="'0x12' is no address for the ValidatorPool"):
        ValidatorPool(market.evm.w3, "0x12")


def test_a_url_and_the_configured_address_are_enough(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITCHAIN_POOL", market.pool.address)
    monkeypatch.delenv("FITCHAIN_REGISTRY", raising=False)
    assert ValidatorPool(market.evm.url).address == market.pool.address
    monkeypatch.setenv("FITCHAIN_RPC_URL", market.evm.url)
    assert ValidatorPool().terms() == POOL_TERMS
    with pytest.raises(SettingsError, match="set FITCHAIN_REGISTRY"):
        Registry(market.evm.url)


def test_an_endpoint_that_does_not_answer_may_answer_later(market: Market) -> None:
    w3 = Web3(HTTPProvider("http://127.0.0.1:9", exception_retry_configuration=None))
    with pytest.raises(EndpointUnavailable) as raised:
        ValidatorPool(w3, market.pool.address)
    assert raised.value.transient


def test_schemas_may_hold_any_text(market: Market) -> None:
    [verifier] = market.stake(1)
    text = json.dumps({"ключ": "值 🙂"}, ensure_ascii=False)
    model = market.publish(text)
    market.challenge(ALONE, model=model, data_schema=text, bounty=10**15)
    [assignment] = market.pool.assignments(verifier)
    assert assignment.model_schema == assignment.data_schema == text
