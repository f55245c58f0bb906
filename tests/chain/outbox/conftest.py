"""A chain of their own for tests of the outbox: they stop its mining and move its blocks."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chain.outbox.sending import OVER, Clock
from tests.evm import Evm, anvil


@pytest.fixture(scope="module")
def chain() -> Iterator[Evm]:
    with anvil() as url:
        yield Evm(url, steady_clock=False)


@pytest.fixture
def fresh(chain: Evm) -> Iterator[Evm]:
    """The chain, mining each transaction at once; taken back after the test."""
    with chain.undone():
        yield chain
        chain.rpc("evm_setAutomine", True)
        chain.rpc("evm_mine")


@pytest.fixture
def still(fresh: Evm) -> Evm:
    """The chain, mining only when told to."""
    fresh.rpc("evm_setAutomine", False)
    return fresh


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that wait for receipts."""
    with ThreadPoolExecutor(8) as executor:
        yield executor
        OVER.set()
    OVER.clear()
