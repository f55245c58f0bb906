"""Votes, their commitments, and how a vote is found again when everything but the key is lost.

A commitment is `keccak256(abi.encode(uint256 chainid, address pool, uint256 challenge, address verifier,
uint8 verdict, int256 score, bytes32 salt))`, as `ValidatorPool.vy` computes it. Its salt is the hash of the
account's EIP-712 signature over the challenge: nobody else can guess it, and whoever holds the key can
derive it again. Since nothing else is secret, a vote whose journal is gone is recovered by evaluating again
and searching near the new score.

What a score means (1e-6 units of which metric) is not decided here, nor whether a step is owed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from eth_hash.auto import keccak
from eth_utils.address import is_hex_address

from chain.accounts import Signer
from chain.challenges import MAX_SCORE, Verdict
from chain.signatures import domain

RECOVERY_RADIUS = 10_000
"""Scores (1e-6) searched on each side of a guess: 100 times the default tolerance between honest machines.

The whole search costs 20,003 hashes, about 0.15 s on one core; a vote at the guess itself costs one.
"""

_WORD_BYTES = 32
_SALT_TYPES = {"VoteSalt": [{"name": "challenge", "type": "uint256"}]}


@dataclass(frozen=True, slots=True)
class Vote:
    """A verdict and, for VALID alone, a score in 1e-6 (signed, at most 1e30 either way).

    Raises ValueError for a vote that the pool would refuse at the reveal: committing to one costs the stake.
    """

    verdict: Verdict
    score: int

    def __post_init__(self) -> None:
        if self.verdict == Verdict.NONE:
            raise ValueError("a vote needs a verdict: VALID, INVALID or UNAVAILABLE")
        if self.verdict != Verdict.VALID and self.score != 0:
            raise ValueError(f"only a VALID vote carries a score, not {self.verdict.name} (score {self.score})")
        if abs(self.score) > MAX_SCORE:
            raise ValueError(f"score {self.score} is beyond the {MAX_SCORE:.0e} that the pool accepts")


def commitment(*, chain_id: int, pool: str, challenge_id: int, verifier: str, vote: Vote, salt: bytes) -> bytes:
    """The 32 bytes that bind a vote to one verifier, challenge, pool and chain.

    Raises ValueError on bad operands.
    """
    prefix, suffix = _frame(chain_id, pool, challenge_id, verifier, salt)
    return keccak(prefix + _words(vote.verdict, vote.score) + suffix)


def derive_salt(signer: Signer, chain_id: int, pool: str, challenge_id: int) -> bytes:
    """The salt (32 bytes) of an account's vote on a challenge: the hash of its EIP-712 signature over it.

    With a deterministic signer the same call always gives the same salt. With any other, call it once and
    write the result to the journal before anything is sent.
    """
    signature = signer.sign_typed_data(domain(chain_id, pool), _SALT_TYPES, {"challenge": challenge_id})
    return keccak(signature)


def recover_vote(
    committed: bytes,
    guess: Vote,
    *,
    chain_id: int,
    pool: str,
    challenge_id: int,
    verifier: str,
    salt: bytes,
    radius: int = RECOVERY_RADIUS,
) -> Vote | None:
    """The vote that `committed` (32 bytes, from the chain) was made of, searched around `guess`.

    Likely votes come first: the guess, the verdicts that have no score, then the guess's neighbours
    outwards. None if no vote within `radius` scores opens the commitment: it was made by another key, or by
    an evaluation that differed by more, and only the journal of the host that committed can help.
    """
    prefix, suffix = _frame(chain_id, pool, challenge_id, verifier, salt)
    for vote in _candidates(guess, radius):
        if keccak(prefix + _words(vote.verdict, vote.score) + suffix) == committed:
            return vote
    return None


def _candidates(guess: Vote, radius: int) -> Iterator[Vote]:
    """Each vote within the radius once, most likely first."""
    yield guess
    for verdict in (Verdict.INVALID, Verdict.UNAVAILABLE):
        if verdict != guess.verdict:
            yield Vote(verdict, 0)
    if guess.verdict != Verdict.VALID:
        yield Vote(Verdict.VALID, 0)
    for step in range(1, radius + 1):
        for score in (guess.score + step, guess.score - step):
            if abs(score) <= MAX_SCORE:
                yield Vote(Verdict.VALID, score)


def _frame(chain_id: int, pool: str, challenge_id: int, verifier: str, salt: bytes) -> tuple[bytes, bytes]:
    """The encoded words before and after verdict and score."""
    if len(salt) != _WORD_BYTES:
        raise ValueError(f"a salt has {_WORD_BYTES} bytes, not {len(salt)}")
    prefix = _unsigned(chain_id) + _address(pool) + _unsigned(challenge_id) + _address(verifier)
    return prefix, salt


def _words(verdict: int, score: int) -> bytes:
    return int(verdict).to_bytes(_WORD_BYTES, "big") + score.to_bytes(_WORD_BYTES, "big", signed=True)


def _unsigned(value: int) -> bytes:
    if not 0 <= value < 1 << 256:
        raise ValueError(f"{value} does not fit into 256 bits")
    return value.to_bytes(_WORD_BYTES, "big")


def _address(value: str) -> bytes:
    if not is_hex_address(value):
        raise ValueError(f"{value!r} is not an address")
    return bytes.fromhex(value.removeprefix("0x")).rjust(_WORD_BYTES, b"\0")
