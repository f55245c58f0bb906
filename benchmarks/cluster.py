"""A running cluster to measure: real services, contracts, three staked verifiers, worker processes, and the reference
example published to it.

The world is that of the demonstration (`workers.demo.world`), with as many submit processes as the role has by default.
There is no Flower, which counts events for people and would share the processors with what is measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from celery import Celery

from chain import Registry, Terms, ValidatorPool
from compose.local import LocalStack
from compose.services import Mining
from storage import IPFS
from tasks.chains import evaluation_chain
from tasks.messages import Evaluated
from tasks.settings import TasksSettings
from tasks.verifying import Verification, ad_hoc_job
from tasks.wire import AD_HOC_PRIORITY, wire_options
from workers.demo.world import ETHER, EVALUATE_WORKERS, World, WorldBuilder
from workers.roles import ROLES, RoleName

PATIENCE_SECONDS: Final = 300.0
ACCURACY: Final = 0.675127
SCORE: Final = 675_127
BOUNTY_WEI: Final = 3 * ETHER // 10
TERMS: Final = Terms(
    k=3,
    metric="accuracy",
    pass_mark=600_000,
    higher_passes=True,
    tolerance=100,
    commit_seconds=600,
    reveal_seconds=300,
)
EVERY_TRANSACTION: Final = Mining(block_seconds=1.0, at_once=True)
EVERY_SECOND: Final = Mining(block_seconds=1.0, at_once=False)


@dataclass(frozen=True)
class Example:
    """The reference example on the cluster's node: both schemas as text."""

    model_schema: str
    data_schema: str


class Cluster:
    """A world with the reference example in it, and the moves of the benchmarks."""

    def __init__(self, world: World, example: Path) -> None:
        self.world = world
        self.app = Celery("benchmarks", set_as_current=False)
        self.app.conf.update(wire_options(TasksSettings(broker_url=world.stack.url("broker"))))
        self.example = _publish(world.ipfs, example)
        self._sent = 0

    def enqueue(self) -> Verification:
        """Enqueue an ad-hoc verification of the reference example, as `tasks.verify` does."""
        job = ad_hoc_job(self.example.model_schema, self.example.data_schema, metric="accuracy", pass_mark=None)
        result = evaluation_chain(job, app=self.app, priority=AD_HOC_PRIORITY).apply_async()
        return Verification(job, result)

    def verify(self) -> Evaluated:
        """Enqueue one and wait for it."""
        return self.enqueue().wait(timeout=PATIENCE_SECONDS)

    def warm(self) -> None:
        """Verify until every evaluate worker has a warm sandbox and the caches hold the files."""
        for _ in range(6):
            self.verify()

    def register(self) -> int:
        """Register the reference model; return its number."""
        self._sent += 1
        world = self.world
        receipt = world.provider.outbox.send(
            f"model-{self._sent}", world.registry.create_model_call(self.example.model_schema)
        )
        return world.registry.created_model(receipt.transaction)

    def challenge(self, model: int) -> int:
        """Open a challenge of the reference model on the reference data; return its number."""
        self._sent += 1
        call = self.world.pool.create_challenge_call(model, self.example.data_schema, TERMS, BOUNTY_WEI)
        receipt = self.world.consumer.outbox.send(f"challenge-{self._sent}", call)
        return self.world.pool.created_challenge(receipt.transaction)


@contextmanager
def running_cluster(folder: Path, example: Path, *, mining: Mining = EVERY_TRANSACTION) -> Iterator[Cluster]:
    """Start a cluster in a folder and stop it in the end."""
    with LocalStack(folder, mining=mining) as stack:
        builder = WorldBuilder(stack)
        deployment = builder.deploy()
        verifiers = builder.verifiers(deployment)
        builder.start_fetch_worker(deployment)
        for number in range(1, EVALUATE_WORKERS + 1):
            builder.start_evaluate_worker(f"evaluate-{number}", deployment)
        for number in range(1, len(verifiers) + 1):
            builder.start_submit_worker(number, deployment, processes=ROLES[RoleName.SUBMIT].concurrency)
        builder.start_dispatcher("dispatcher", deployment, verifiers)
        builder.wait_for_workers()
        world = World(
            stack=stack,
            deployment=deployment,
            registry=Registry(builder.w3, deployment.registry),
            pool=ValidatorPool(builder.w3, deployment.pool),
            ipfs=IPFS(stack.url("ipfs")),
            provider=builder.actor("provider"),
            consumer=builder.actor("consumer"),
            verifiers=verifiers,
            flower_url="",
            flower_auth="",
            builder=builder,
        )
        yield Cluster(world, example)


def _publish(ipfs: IPFS, example: Path) -> Example:
    """Put both files on the node; the schemas are the published ones, which name the CIDs that result."""
    for name in ("model_params.h5", "test.csv"):
        ipfs.store_file(example / name)
    return Example(_text(example / "model_schema.json"), _text(example / "data_schema.json"))


def _text(path: Path) -> str:
    schema: Any = json.loads(path.read_text(encoding="utf-8"))
    return json.dumps(schema, separators=(",", ":"))
