"""The registry: who may do what, and what it remembers."""

import pytest

from chain.challenges import ChallengeRef, Verdict
from chain.deployment import _create
from chain.errors import NotFound, SettingsError
from chain.pool import ValidatorPool
from tests.evm import POOL_TERMS, TERMS, Market, Refused, development_signer, replace_terms, valid


def test_anybody_publishes_models_numbered_from_one(market: Market) -> None:
    number = market.publish('{"uuid": "1"}', owner=market.outsider)
    assert number == 2
    assert market.registry.number_of_models() == 2
    model = market.registry.model(2)
    assert (model.owner, model.schema) == (market.outsider, '{"uuid": "1"}')
    assert model.created_at == market.evm.now()


def test_a_schema_of_1024_characters_is_kept_and_one_more_refused(market: Market) -> None:
    schema = "x" * 1024
    assert market.registry.model(market.publish(schema)).schema == schema
    with pytest.raises(Refused):
        market.publish("x" * 1025)


def test_an_empty_schema_is_refused(market: Market) -> None:
    with pytest.raises(Refused, match=r"^empty schema$"):
        market.publish("")


@pytest.mark.parametrize("number", [0, 2])
def test_a_model_that_is_not_there_is_not_found(market: Market, number: int) -> None:
    with pytest.raises(NotFound, match="unknown model"):
        market.registry.model(number)


def test_only_the_owner_adds_pools_each_once_and_only_contracts(market: Market) -> None:
    add = market.registry.add_pool_call
    with pytest.raises(Refused, match=r"^only the owner adds pools$"):
        market.send(add(market.registry.address), market.outsider)
    with pytest.raises(Refused, match=r"^no contract at this address$"):
        market.send(add(market.outsider), market.deployer)
    with pytest.raises(Refused, match=r"^pool already added$"):
        market.send(add(market.pool.address), market.deployer)


def test_only_pools_record_challenges_and_each_its_own_results(market: Market) -> None:
    market.stake(3)
    challenge = market.challenge()
    record = market.registry._call("recordChallenge", 1, 99, describe="")
    with pytest.raises(Refused, match=r"^pool not authorised$"):
        market.send(record, market.outsider)
    result = market.registry._call("recordResult", challenge, 1, 5, True, describe="")
    with pytest.raises(Refused, match=r"^unknown challenge$"):
        market.send(result, market.outsider)
    assert market.registry.result(challenge) is None


def test_a_pool_records_each_challenge_and_result_once(market: Market) -> None:
    market.stake(3)
    challenge = market.challenge()
    market.play(challenge, [valid(7)] * 3)
    market.evm.rpc("anvil_impersonateAccount", market.pool.address)
    market.evm.rpc("anvil_setBalance", market.pool.address, hex(10**19))
    with pytest.raises(Refused, match=r"^challenge already recorded$"):
        market.send(market.registry._call("recordChallenge", 1, challenge, describe=""), market.pool.address)
    with pytest.raises(Refused, match=r"^result already recorded$"):
        call = market.registry._call("recordResult", challenge, 1, 5, True, describe="")
        market.send(call, market.pool.address)


def test_the_result_of_a_challenge_is_kept(market: Market) -> None:
    market.stake(3)
    challenge = market.challenge()
    market.play(challenge, [valid(675_127)] * 3)
    result = market.registry.result(challenge)
    assert result is not None
    assert (result.model_id, result.verdict, result.score, result.passed) == (1, Verdict.VALID, 675_127, True)
    assert result.settled_at == market.evm.now()
    with pytest.raises(NotFound):
        market.registry.result(challenge + 1)


def test_a_models_challenges_are_listed_over_pages_and_by_pool(market: Market) -> None:
    market.stake(1, slots=130)
    terms = replace_terms(TERMS, k=1)
    opened = [market.challenge(terms, bounty=10**15) for _ in range(101)]
    other = market.publish("QmOther")
    mine = market.challenge(terms, model=other, bounty=10**15)
    refs = market.registry.model_challenge_refs(1)
    assert refs == [ChallengeRef(pool=market.pool.address, challenge_id=number) for number in opened]
    assert market.registry.model_challenges(1) == opened
    assert market.registry.model_challenges(other) == [mine]
    assert market.registry.model_challenges(other + 1) == []
    page = market.registry._read("getModelChallenges", 1, 99, 5)
    assert [raw.challenge for raw in page] == opened[99:101]
    assert market.registry._read("getModelChallenges", 1, 101, 5) == []


def test_with_two_pools_a_challenge_needs_its_pool(market: Market) -> None:
    arguments = (market.registry.address, POOL_TERMS.stake_per_slot_wei, 1, 0, 1)
    second = ValidatorPool(market.evm.w3, _create(market.evm.w3, development_signer(0), "ValidatorPool", *arguments))
    market.send(market.registry.add_pool_call(second.address), market.deployer)
    assert market.registry.pools() == [market.pool.address, second.address]
    with pytest.raises(SettingsError, match="knows 2 pools"):
        market.registry.result(1)
    assert market.registry.model_challenges(1, pool=second.address) == []
