"""Fixtures that more than one folder of tests uses: the reference example and a real Redis of one's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis

from compose.local import LocalStack

# Time on a shared machine says nothing about an example; a failure prints what reproduces it.
hypothesis.settings.register_profile("house", deadline=None, print_blob=True)
hypothesis.settings.load_profile("house")


@pytest.fixture(scope="session")
def seed_example() -> Path:
    """The folder of the reference example: beside the checkout, or where FITCHAIN_SEED_EXAMPLE points."""
    named = os.environ.get("FITCHAIN_SEED_EXAMPLE")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "seed-example"
    if not (folder / "model_params.h5").is_file():
        pytest.skip(f"the reference example is not in {folder}; set FITCHAIN_SEED_EXAMPLE to its folder")
    return folder


@pytest.fixture(scope="session")
def redis_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A broker and a cache Redis for the whole run."""
    with LocalStack(tmp_path_factory.mktemp("redis-stack"), parts=("broker", "cache")) as stack:
        yield stack


@pytest.fixture
def broker_url(redis_stack: LocalStack) -> str:
    """The address of an empty broker Redis."""
    url = redis_stack.url("broker")
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
def cache_url(redis_stack: LocalStack) -> str:
    """The address of an empty cache Redis."""
    url = redis_stack.url("cache")
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url
