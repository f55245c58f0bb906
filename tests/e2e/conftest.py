"""One cluster for all end-to-end tests: real services, deployed contracts, three staked verifiers, worker processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chain import Challenge, Phase, Registry, Terms, ValidatorPool
from compose.local import LocalStack
from compose.services import Mining
from storage import IPFS
from workers.demo.world import ETHER, World, WorldBuilder

SETTLED_WITHIN_SECONDS = 120.0

TERMS = Terms(
    k=3,
    metric="accuracy",
    pass_mark=600_000,
    higher_passes=True,
    tolerance=100,
    commit_seconds=90,
    reveal_seconds=40,
)


class Cluster:
    """A running world and the moves of the tests in it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._sent = 0

    @property
    def environment(self) -> dict[str, str]:
        """What a command line of an operator is told."""
        return self.world.builder.environment(self.world.deployment)

    def publish(self, schema: dict[str, Any], file: Path | bytes | None = None) -> str:
        """Publish a schema, with the file that it points at; return the schema's CID."""
        ipfs = self.world.ipfs
        if file is not None:
            cid = ipfs.store_bytes(file) if isinstance(file, bytes) else ipfs.store_file(file)
            schema = {**schema, "location": {"provider": "ipfs", "endpoint": cid}}
        return ipfs.store_object(schema)

    def register(self, schema: str) -> int:
        """Register a model by its schema's CID or JSON; return its number."""
        self._sent += 1
        receipt = self.world.provider.outbox.send(f"model-{self._sent}", self.world.registry.create_model_call(schema))
        return self.world.registry.created_model(receipt.transaction)

    def challenge(self, model: int, data_schema: str, terms: Terms = TERMS, bounty_wei: int = 3 * ETHER // 10) -> int:
        """Open a challenge; return its number."""
        self._sent += 1
        call = self.world.pool.create_challenge_call(model, data_schema, terms, bounty_wei)
        receipt = self.world.consumer.outbox.send(f"challenge-{self._sent}", call)
        return self.world.pool.created_challenge(receipt.transaction)

    def settled(self, challenge_id: int, *, within_seconds: float = SETTLED_WITHIN_SECONDS) -> Challenge:
        """Wait for the settlement of a challenge."""
        return self.wait(
            lambda: c if (c := self.world.pool.challenge(challenge_id)).phase is Phase.SETTLED else None,
            what=f"settlement of challenge {challenge_id}",
            within_seconds=within_seconds,
        )

    def wait(self, ready: Callable[[], Any], *, what: str, within_seconds: float = 60.0) -> Any:
        """Poll until something true comes back; on failure show the ends of the workers' logs."""
        deadline = time.monotonic() + within_seconds
        while time.monotonic() < deadline:
            value = ready()
            if value:
                return value
            time.sleep(0.1)
        logs = "\n".join(
            f"--- {address.name}\n" + "\n".join(self.world.stack.process(address.name).last_lines(15))
            for address in self.world.stack.addresses()
            if not address.url
        )
        pytest.fail(f"no {what} within {within_seconds:.0f} s\n{logs}")

    def reports(self, challenge_id: int) -> list[dict[str, Any]]:
        """The reports that the verifiers published for a challenge, in the order of the draw."""
        return [json.loads(self.world.ipfs.get(vote.report_cid)) for vote in self.world.pool.votes(challenge_id)]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster, started once."""
    folder = tmp_path_factory.mktemp("cluster")
    with LocalStack(folder, mining=Mining(block_seconds=1.0, at_once=True)) as stack:
        builder = WorldBuilder(stack)
        deployment = builder.deploy()
        verifiers = builder.verifiers(deployment)
        flower_url, flower_auth = builder.start_cluster(deployment, verifiers)
        builder.wait_for_workers()
        yield Cluster(
            World(
                stack=stack,
                deployment=deployment,
                registry=Registry(builder.w3, deployment.registry),
                pool=ValidatorPool(builder.w3, deployment.pool),
                ipfs=IPFS(stack.url("ipfs")),
                provider=builder.actor("provider"),
                consumer=builder.actor("consumer"),
                verifiers=verifiers,
                flower_url=flower_url,
                flower_auth=flower_auth,
                builder=builder,
            )
        )
