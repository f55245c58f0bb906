"""Deploying, and the record of it; and the names that the package exports."""

from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account

import chain
from chain.accounts import LocalSigner
from chain.deployment import Deployment, deploy
from chain.errors import DeploymentError
from chain.pool import ValidatorPool
from chain.registry import Registry
from tests.evm import POOL_TERMS, Market, development_signer


def test_a_deployment_is_a_registry_that_knows_its_pool(market: Market) -> None:
    signer = development_signer(5)
    made = deploy(market.evm.w3, signer, terms=POOL_TERMS)
    assert made.deployer == signer.address
    assert made.chain_id == 31337
    assert made.block == market.evm.w3.eth.block_number
    pool = ValidatorPool(market.evm.w3, made.pool)
    assert pool.terms() == POOL_TERMS == made.terms
    assert pool.registry_address == made.registry
    assert Registry(market.evm.w3, made.registry).pools() == [made.pool]


def test_the_record_survives_its_file(market: Market, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "deployment.json"
    market.deployment.save(path)
    assert Deployment.load(path) == market.deployment


@pytest.mark.parametrize("text", ["", "{}", "[]", "not JSON", '{"terms": {}}', '{"terms": 1}'])
def test_a_file_that_is_no_record_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "deployment.json"
    path.write_text(text)
    with pytest.raises(DeploymentError, match=r"deployment\.json is no record"):
        Deployment.load(path)


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"absent\.json cannot be read"):
        Deployment.load(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stake_per_slot_wei": 0}, "stake per slot is zero"),
        ({"minimum_share_wei": 0}, "minimum share is zero"),
        ({"withdrawal_delay_seconds": 365 * 86400 + 1}, "withdrawal delay too long"),
        ({"minimum_window_seconds": 0}, "bad minimum window"),
        ({"minimum_window_seconds": 30 * 86400 + 1}, "bad minimum window"),
    ],
)
def test_a_pool_with_senseless_terms_is_refused(market: Market, change: dict[str, int], reason: str) -> None:
    with pytest.raises(DeploymentError, match=f"Could not deploy the ValidatorPool: {reason}"):
        deploy(market.evm.w3, development_signer(0), terms=replace(POOL_TERMS, **change))


def test_an_account_without_ether_is_told_so(market: Market) -> None:
    with pytest.raises(DeploymentError, match="Could not deploy the Registry"):
        deploy(market.evm.w3, LocalSigner(Account.create()))


def test_every_exported_name_is_there() -> None:
    assert sorted(chain.__all__) == sorted(name for names in chain._HOME.values() for name in names)
    for name in chain.__all__:
        assert getattr(chain, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = chain.absent
