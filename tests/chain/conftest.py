"""One chain for all tests of a process; each test starts on freshly deployed contracts and is undone afterwards."""

from collections.abc import Iterator

import pytest

from tests.evm import Evm, Market, anvil


@pytest.fixture(scope="session")
def evm() -> Iterator[Evm]:
    """A development chain with a clock that only tests move."""
    with anvil() as url:
        yield Evm(url)


@pytest.fixture(scope="session")
def deployed(evm: Evm) -> Market:
    """The contracts, with one published model (number 1) and nothing else."""
    market = Market.open(evm)
    market.publish()
    return market


@pytest.fixture
def market(deployed: Market) -> Iterator[Market]:
    """The contracts in their first state; undone after the test."""
    with deployed.evm.undone():
        yield deployed
