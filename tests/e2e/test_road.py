"""The road of a challenge on real parts: Redis, chain, IPFS node and worker processes of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chain import Verdict
from chain.signatures import recover_report_signer
from tasks.report import SignedReport
from tests.e2e.conftest import TERMS, Cluster

SEED_SCORE = 675_127


@pytest.fixture(scope="module")
def seed_model(cluster: Cluster, seed_example: Path) -> int:
    """The reference model, registered by the JSON of its schema."""
    cluster.world.ipfs.store_file(seed_example / "model_params.h5")
    return cluster.register((seed_example / "model_schema.json").read_text())


@pytest.fixture(scope="module")
def seed_data(cluster: Cluster, seed_example: Path) -> str:
    """The CID of the reference data's schema."""
    cluster.world.ipfs.store_file(seed_example / "test.csv")
    return cluster.publish(json.loads((seed_example / "data_schema.json").read_text()))


def test_the_reference_example_ends_settled_with_the_known_score(
    cluster: Cluster, seed_model: int, seed_data: str
) -> None:
    number = cluster.challenge(seed_model, seed_data)
    challenge = cluster.settled(number)

    assert challenge.verdict is Verdict.VALID
    assert challenge.score == SEED_SCORE
    assert challenge.passed
    votes = cluster.world.pool.votes(number)
    assert {vote.verifier for vote in votes} == set(cluster.world.verifiers)
    assert all(vote.payout_wei == challenge.bounty_wei // 3 for vote in votes)
    for vote, document in zip(votes, cluster.reports(number), strict=True):
        signed = SignedReport.model_validate(document)
        assert signed.verify() == vote.verifier
        assert signed.report.evaluation is not None
        assert (signed.report.evaluation.correct, signed.report.evaluation.rows) == (266, 394)
        assert signed.report.evaluation.metrics["log_loss"] == pytest.approx(2.004036, abs=1e-6)


def test_a_second_challenge_on_the_same_files_fetches_nothing_again(
    cluster: Cluster, seed_model: int, seed_data: str
) -> None:
    cluster.settled(cluster.challenge(seed_model, seed_data))
    second = cluster.challenge(seed_model, seed_data)
    cluster.settled(second)
    tiers = {document["report"][part]["tier"] for document in cluster.reports(second) for part in ("model", "data")}
    assert tiers <= {"disk", "redis"}


def test_a_claim_that_does_not_hold_is_valid_and_fails(cluster: Cluster, seed_model: int, seed_data: str) -> None:
    number = cluster.challenge(seed_model, seed_data, replace(TERMS, pass_mark=900_000))
    challenge = cluster.settled(number)
    assert (challenge.verdict, challenge.score, challenge.passed) == (Verdict.VALID, SEED_SCORE, False)


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        ("broken file", Verdict.INVALID),
        ("broken schema", Verdict.INVALID),
        ("wrong input_signature", Verdict.INVALID),
        ("empty data", Verdict.INVALID),
    ],
)
def test_what_is_wrong_for_everybody_ends_invalid(
    cluster: Cluster, seed_example: Path, seed_model: int, seed_data: str, case: str, verdict: Verdict
) -> None:
    schema: dict[str, Any] = json.loads((seed_example / "model_schema.json").read_text())
    data_schema = json.loads((seed_example / "data_schema.json").read_text())
    model, data = seed_model, seed_data
    match case:
        case "broken file":
            model = cluster.register(cluster.publish(schema, b"\x89HDF\r\n\x1a\n" + b"not a model" * 100))
        case "broken schema":
            model = cluster.register('{"type": "keras", "location": ')
        case "wrong input_signature":
            model = cluster.register(json.dumps({**schema, "input_signature": "something else"}))
        case "empty data":
            data = cluster.publish(data_schema, b"a,b,c\n")
    number = cluster.challenge(model, data)
    challenge = cluster.settled(number)
    assert challenge.verdict is verdict
    assert all(document["report"]["reason"] for document in cluster.reports(number))
    assert all(vote.payout_wei > 0 for vote in cluster.world.pool.votes(number))


def test_content_that_nobody_has_ends_in_abstentions_and_costs_nobody_a_stake(
    cluster: Cluster, seed_example: Path, seed_data: str
) -> None:
    missing = json.loads((seed_example / "model_schema.json").read_text())
    missing["location"]["endpoint"] = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"
    terms = replace(TERMS, commit_seconds=20, reveal_seconds=20)
    number = cluster.challenge(cluster.register(json.dumps(missing)), seed_data, terms)
    challenge = cluster.settled(number)
    assert challenge.verdict is Verdict.NONE
    votes = cluster.world.pool.votes(number)
    assert {vote.verdict for vote in votes} == {Verdict.UNAVAILABLE}
    assert all(vote.slashed_wei == 0 and vote.payout_wei == 0 for vote in votes)


def test_a_report_that_was_changed_does_not_verify(cluster: Cluster, seed_model: int, seed_data: str) -> None:
    number = cluster.challenge(seed_model, seed_data)
    cluster.settled(number)
    document = cluster.reports(number)[0]
    document["report"]["score"] += 1
    report = SignedReport.model_validate(document).report
    assert report.challenge is not None
    changed_by = recover_report_signer(
        document["signature"],
        chain_id=report.challenge.chain_id,
        pool=report.challenge.pool,
        challenge_id=number,
        verdict=Verdict.VALID,
        score=report.score or 0,
        report_sha256=report.sha256(),
    )
    assert changed_by != report.challenge.verifier
