"""What is traded in the demonstration: three models, one data set, three challenges, and how each must end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chain import Challenge, Phase, Terms, Verdict, VoteView
from storage import IPFS
from workers.demo.provider import BROKEN_MODEL, CLASSES, HONEST_MODEL, LAZY_MODEL, PIXEL_SCALE
from workers.demo.world import ETHER, World

SIGNATURE: Final = "digits-8x8"
CLAIM: Final = 0.9
BOUNTY_WEI: Final = 3 * ETHER // 10

TERMS: Final = Terms(
    k=3,
    metric="accuracy",
    pass_mark=round(CLAIM * 1_000_000),
    higher_passes=True,
    tolerance=100,
    commit_seconds=120,
    reveal_seconds=60,
)


@dataclass(frozen=True)
class Offer:
    """A model on offer with the claim that it is right nine times out of ten, and the truth about it."""

    title: str
    file: str
    verdict: Verdict
    passes: bool


OFFERS: Final = (
    Offer("honest model", HONEST_MODEL, Verdict.VALID, passes=True),
    Offer("claim that does not hold", LAZY_MODEL, Verdict.VALID, passes=False),
    Offer("broken files", BROKEN_MODEL, Verdict.INVALID, passes=False),
)


@dataclass(frozen=True)
class OpenChallenge:
    """A challenge of the demonstration with the offer that it tests."""

    offer: Offer
    challenge_id: int
    model_id: int
    transaction: str


@dataclass(frozen=True)
class Ending:
    """How a challenge ended: what the chain says, and whether that is how it should be."""

    opened: OpenChallenge
    challenge: Challenge
    votes: tuple[VoteView, ...]

    @property
    def as_it_should(self) -> bool:
        """Settled with the true verdict, and everybody who voted so was paid."""
        offer, challenge = self.opened.offer, self.challenge
        return (
            challenge.phase is Phase.SETTLED
            and challenge.verdict is offer.verdict
            and challenge.passed == offer.passes
            and all(vote.payout_wei > 0 and vote.slashed_wei == 0 for vote in self.votes)
        )


def publish_data(ipfs: IPFS, path: Path) -> str:
    """Publish the test data and its schema; return the schema's CID."""
    return ipfs.store_object(
        {
            "uuid": "digits-test",
            "type": "collection",
            "input_signature": SIGNATURE,
            "format": "csv",
            "location": {"provider": "ipfs", "endpoint": ipfs.store_file(path)},
            "task": "classification",
            "label": {"column": "digit", "classes": CLASSES, "encoding": "index"},
            "features": {"encoding": "numeric", "scale": PIXEL_SCALE},
        }
    )


def publish_model(world: World, offer: Offer, folder: Path) -> int:
    """Publish a model file and its schema, register it on chain; return the model's number."""
    schema: dict[str, Any] = {
        "uuid": offer.file,
        "type": "keras",
        "input_signature": SIGNATURE,
        "stored_as": "file",
        "format": "keras",
        "location": {"provider": "ipfs", "endpoint": world.ipfs.store_file(folder / offer.file)},
    }
    call = world.registry.create_model_call(world.ipfs.store_object(schema))
    receipt = world.provider.outbox.send(f"model:{offer.file}", call)
    return world.registry.created_model(receipt.transaction)


def open_challenge(world: World, offer: Offer, model_id: int, data_schema: str) -> OpenChallenge:
    """Open a challenge against the claim of an offer."""
    call = world.pool.create_challenge_call(model_id, data_schema, TERMS, BOUNTY_WEI)
    receipt = world.consumer.outbox.send(f"challenge:{offer.file}", call)
    return OpenChallenge(offer, world.pool.created_challenge(receipt.transaction), model_id, receipt.transaction)


def ending(world: World, opened: OpenChallenge) -> Ending:
    """Read how a challenge stands now."""
    return Ending(opened, world.pool.challenge(opened.challenge_id), tuple(world.pool.votes(opened.challenge_id)))
