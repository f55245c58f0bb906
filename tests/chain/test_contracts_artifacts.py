"""The committed artifacts are what the sources compile to, fit into a block, and cost what the documents say."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chain import build
from chain.calls import load_artifact
from tests.evm import ETHER, TERMS, Market, replace_terms, valid

COMPILE = build.compile_contract
DEPLOYED_SIZE_LIMIT_BYTES = 24_576  # EIP-170


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler takes seconds; what it says of a source does not change within a run."""
    monkeypatch.setattr(build, "compile_contract", compiled)


@cache
def compiled(name: str) -> dict[str, Any]:
    return COMPILE(name)


def test_the_artifacts_match_their_sources() -> None:
    assert build.stale_artifacts() == [], "run `python -m chain.build`"


def test_a_changed_source_makes_its_artifact_stale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in build.CONTRACTS:
        source = (build.SOURCES / f"{name}.vy").read_text()
        (tmp_path / f"{name}.vy").write_text(
            source.replace("MAX_PAGE: constant(uint256) = 100", "MAX_PAGE: constant(uint256) = 50")
        )
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    monkeypatch.setattr(build, "compile_contract", COMPILE)
    assert build.stale_artifacts() == list(build.CONTRACTS)
    assert build.main(["--check"]) == 1


@pytest.mark.parametrize("name", build.CONTRACTS)
def test_a_contract_fits_on_any_chain(name: str) -> None:
    assert build.compile_contract(name)["deployedSize"] <= DEPLOYED_SIZE_LIMIT_BYTES
    assert load_artifact(name).compiler == "vyper 0.4.3"


def test_rebuilding_writes_the_same_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = {name: (build.ARTIFACTS / f"{name}.json").read_text() for name in build.CONTRACTS}
    monkeypatch.setattr(build, "ARTIFACTS", tmp_path)
    assert build.main([]) == 0
    assert before == {name: (build.ARTIFACTS / f"{name}.json").read_text() for name in build.CONTRACTS}


@pytest.mark.parametrize(("k", "opening", "settling"), [(3, 900_000, 550_000), (15, 2_400_000, 1_600_000)])
def test_gas_of_each_step_stays_in_bounds(market: Market, k: int, opening: int, settling: int) -> None:
    """Bounds a little above what was measured: a step that becomes dearer is noticed."""
    market.stake(k)
    terms = replace_terms(TERMS, k=k)
    call = market.pool.create_challenge_call(1, "Qm" + "a" * 44, terms, k * ETHER)
    opened = market.send(call, market.consumer)["gasUsed"]
    challenge = market.pool.number_of_challenges()
    panel = market.panel(challenge)
    commits = [market.commit(challenge, verifier, valid(5))["gasUsed"] for verifier in panel]
    reveals = [market.reveal(challenge, v, valid(5), cid="b" * 59)["gasUsed"] for v in panel]
    settled = market.settle(challenge)["gasUsed"]
    print(f"k={k}: open {opened}, commit {max(commits)}, reveal {max(reveals)}, settle {settled}")
    assert opened < opening
    assert max(commits) < 110_000
    assert max(reveals) < 230_000
    assert settled < settling
