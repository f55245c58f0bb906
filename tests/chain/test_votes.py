"""Commitments as the pool computes them, salts that come back, votes that are found again."""

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.accounts import LocalSigner
from chain.challenges import MAX_SCORE, Verdict
from chain.votes import Vote, commitment, derive_salt, recover_vote
from tests.evm import Market

POOL = "0x" + "ab" * 20
VERIFIER = "0x" + "cd" * 20
SALT = bytes(range(32))

addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
numbers = st.integers(0, 2**256 - 1)
scores = st.integers(-MAX_SCORE, MAX_SCORE)
votes = st.one_of(
    scores.map(lambda score: Vote(Verdict.VALID, score)),
    st.sampled_from([Vote(Verdict.INVALID, 0), Vote(Verdict.UNAVAILABLE, 0)]),
)


@given(numbers, addresses, numbers, addresses, votes, st.binary(min_size=32, max_size=32))
def test_commitment_is_the_hash_of_the_abi_encoding(
    chain_id: int, pool: str, challenge_id: int, verifier: str, vote: Vote, salt: bytes
) -> None:
    types = ["uint256", "address", "uint256", "address", "uint8", "int256", "bytes32"]
    values = [chain_id, pool, challenge_id, verifier, int(vote.verdict), vote.score, salt]
    assert commitment(
        chain_id=chain_id, pool=pool, challenge_id=challenge_id, verifier=verifier, vote=vote, salt=salt
    ) == keccak(encode(types, values))


@pytest.mark.parametrize("score", [0, 675_127, -5, MAX_SCORE, -MAX_SCORE])
def test_pool_opens_our_commitment(market: Market, score: int) -> None:
    market.stake(3)
    challenge = market.challenge()
    verifier = market.panel(challenge)[0]
    for each in market.panel(challenge):
        market.commit(challenge, each, Vote(Verdict.VALID, score))
    market.reveal(challenge, verifier, Vote(Verdict.VALID, score))
    seen = next(vote for vote in market.pool.votes(challenge) if vote.verifier == verifier)
    assert (seen.revealed, seen.verdict, seen.score) == (True, Verdict.VALID, score)


@pytest.mark.parametrize(
    ("verdict", "score"),
    [(Verdict.NONE, 0), (Verdict.INVALID, 1), (Verdict.UNAVAILABLE, -1), (Verdict.VALID, MAX_SCORE + 1)],
)
def test_votes_that_could_not_be_revealed_cannot_be_made(verdict: Verdict, score: int) -> None:
    with pytest.raises(ValueError, match=r"vote|score"):
        Vote(verdict, score)


def committed(vote: Vote, **changes: object) -> bytes:
    binding = {"chain_id": 1, "pool": POOL, "challenge_id": 2, "verifier": VERIFIER, "salt": SALT, **changes}
    return commitment(vote=vote, **binding)  # type: ignore[arg-type]


def recovered(target: bytes, guess: Vote, radius: int) -> Vote | None:
    return recover_vote(
        target, guess, chain_id=1, pool=POOL, challenge_id=2, verifier=VERIFIER, salt=SALT, radius=radius
    )


@given(scores, st.integers(-60, 60), st.integers(0, 50))
@settings(deadline=None)
def test_committed_score_is_found_within_the_radius_and_only_there(score: int, off: int, radius: int) -> None:
    target = max(-MAX_SCORE, min(MAX_SCORE, score + off))
    found = recovered(committed(Vote(Verdict.VALID, target)), Vote(Verdict.VALID, score), radius)
    if abs(target - score) <= radius:
        assert found == Vote(Verdict.VALID, target)
    else:
        assert found is None


@given(votes, st.sampled_from([Vote(Verdict.INVALID, 0), Vote(Verdict.UNAVAILABLE, 0)]))
def test_verdicts_without_score_are_found_from_any_guess(guess: Vote, truth: Vote) -> None:
    assert recovered(committed(truth), guess, 0) == truth


def test_score_is_found_after_an_abstention_was_guessed() -> None:
    truth = Vote(Verdict.VALID, -12)
    assert recovered(committed(truth), Vote(Verdict.UNAVAILABLE, 0), 12) == truth
    assert recovered(committed(Vote(Verdict.VALID, 0)), Vote(Verdict.UNAVAILABLE, 0), 0) == Vote(Verdict.VALID, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": 3},
        {"pool": VERIFIER},
        {"challenge_id": 3},
        {"verifier": POOL},
        {"salt": bytes(32)},
    ],
)
def test_commitments_of_others_are_not_opened(change: dict[str, object]) -> None:
    vote = Vote(Verdict.VALID, 5)
    assert recovered(committed(vote, **change), vote, 20) is None


def test_salt_comes_back_and_binds_account_chain_pool_and_challenge() -> None:
    signer, other = LocalSigner.from_key(bytes([1] * 32)), LocalSigner.from_key(bytes([2] * 32))
    salt = derive_salt(signer, 1, POOL, 2)
    assert len(salt) == 32
    assert salt == derive_salt(LocalSigner.from_key(bytes([1] * 32)), 1, POOL.upper().replace("X", "x"), 2)
    different = {
        derive_salt(other, 1, POOL, 2),
        derive_salt(signer, 5, POOL, 2),
        derive_salt(signer, 1, VERIFIER, 2),
        derive_salt(signer, 1, POOL, 3),
    }
    assert len(different) == 4
    assert salt not in different


@pytest.mark.parametrize("change", [{"salt": b"short"}, {"pool": "0x12"}, {"chain_id": -1}, {"challenge_id": 2**256}])
def test_bad_operands_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"bytes|address|256 bits"):
        committed(Vote(Verdict.VALID, 1), **change)
