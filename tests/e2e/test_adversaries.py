"""A panel that is not all ours: one verifier lies, one is late. The cluster's accounts must come out unharmed."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from chain import Phase, Verdict, Vote, commitment
from chain.accounts import LocalSigner
from chain.outbox import Outbox
from chain.outbox_store import MemoryOutboxStore, RedisOutboxStore
from tests.e2e.conftest import TERMS, Cluster
from workers.demo.world import ETHER, SLOT_STAKE_WEI, Actor

SEED_SCORE = 675_127


@dataclass
class Outsider:
    """A staked verifier that the tests play by hand."""

    cluster: Cluster
    actor: Actor
    salt: bytes

    def vote(self, challenge: int, vote: Vote) -> None:
        world = self.cluster.world
        hashed = commitment(
            chain_id=world.deployment.chain_id,
            pool=world.pool.address,
            challenge_id=challenge,
            verifier=self.actor.address,
            vote=vote,
            salt=self.salt,
        )
        self.actor.outbox.send(f"commit-{challenge}", world.pool.commit_call(challenge, hashed))

    def reveal(self, challenge: int, vote: Vote) -> None:
        call = self.cluster.world.pool.reveal_call(challenge, vote.verdict, vote.score, self.salt, "")
        self.actor.outbox.send(f"reveal-{challenge}", call)


@pytest.fixture
def outsider(cluster: Cluster) -> Iterator[Outsider]:
    """A fourth verifier; one of the cluster's own asks for too much meanwhile, so that the panel is always the same."""
    world = cluster.world
    priced_out = world.builder.verifier_signer(3)
    outbox = Outbox(world.builder.w3, priced_out, RedisOutboxStore(world.stack.url("broker")))
    outbox.send(f"price-{time.time()}", world.pool.set_minimum_bounty_call(1000 * ETHER))
    signer = LocalSigner.from_key("0x" + secrets.token_hex(32))
    actor = Actor("outsider", signer, Outbox(world.builder.w3, signer, MemoryOutboxStore()))
    world.builder.fund(actor.address)
    actor.outbox.send("stake", world.pool.deposit_call(SLOT_STAKE_WEI))
    yield Outsider(cluster, actor, secrets.token_bytes(32))
    actor.outbox.send("price", world.pool.set_minimum_bounty_call(1000 * ETHER))
    outbox.send(f"price-{time.time()}", world.pool.set_minimum_bounty_call(ETHER // 1000))


@pytest.fixture
def seed_challenge(cluster: Cluster, seed_example: Path, outsider: Outsider) -> int:
    ipfs = cluster.world.ipfs
    for name in ("model_params.h5", "test.csv"):
        ipfs.store_file(seed_example / name)
    model = cluster.register((seed_example / "model_schema.json").read_text())
    data = ipfs.store_object(json.loads((seed_example / "data_schema.json").read_text()))
    number = cluster.challenge(model, data, replace(TERMS, commit_seconds=120, reveal_seconds=90))
    assert outsider.actor.address in cluster.world.pool.challenge(number).verifiers
    return number


def test_the_liar_is_slashed_and_the_others_are_paid(cluster: Cluster, outsider: Outsider, seed_challenge: int) -> None:
    pool, lie = cluster.world.pool, Vote(Verdict.VALID, 999_999)
    before = pool.verifier(outsider.actor.address).stake_wei
    outsider.vote(seed_challenge, lie)
    cluster.wait(lambda: pool.challenge(seed_challenge).phase is Phase.REVEAL, what="reveal phase", within_seconds=90)
    outsider.reveal(seed_challenge, lie)
    challenge = cluster.settled(seed_challenge)

    assert (challenge.verdict, challenge.score) == (Verdict.VALID, SEED_SCORE)
    by_account = {vote.verifier: vote for vote in pool.votes(seed_challenge)}
    liar = by_account.pop(outsider.actor.address)
    assert (liar.payout_wei, liar.slashed_wei) == (0, SLOT_STAKE_WEI)
    assert pool.verifier(outsider.actor.address).stake_wei == before - SLOT_STAKE_WEI
    assert {vote.payout_wei for vote in by_account.values()} == {(challenge.bounty_wei + SLOT_STAKE_WEI) // 2}
    assert all(vote.slashed_wei == 0 for vote in by_account.values())


def test_votes_are_revealed_though_redis_and_every_journal_were_wiped_in_between(
    cluster: Cluster, outsider: Outsider, seed_challenge: int
) -> None:
    import redis

    world, vote = cluster.world, Vote(Verdict.VALID, SEED_SCORE)
    cluster.wait(lambda: world.pool.challenge(seed_challenge).commits == 2, what="two commits", within_seconds=90)
    for name in ("broker", "cache"):
        redis.Redis.from_url(world.stack.url(name)).flushall()
    for journal in world.stack.folder.rglob("journal.sqlite*"):
        journal.unlink()
    outsider.vote(seed_challenge, vote)
    outsider.reveal(seed_challenge, vote)
    challenge = cluster.settled(seed_challenge)

    assert (challenge.verdict, challenge.score) == (Verdict.VALID, SEED_SCORE)
    votes = world.pool.votes(seed_challenge)
    assert all(vote.revealed and vote.payout_wei > 0 and vote.slashed_wei == 0 for vote in votes)
    assert all(vote.report_cid for vote in votes if vote.verifier != outsider.actor.address)
