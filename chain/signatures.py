"""EIP-712: the domain of everything an account signs off chain, and the signature over a report.

The domain binds chain and pool, so no signature means anything elsewhere. Each purpose has a primary type
of its own (`ReportAttestation` here, `VoteSalt` in `chain/votes.py`): a published report signature says
nothing about a salt. Source: https://eips.ethereum.org/EIPS/eip-712
"""

from collections.abc import Mapping
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.address import to_checksum_address

from chain.accounts import Signer
from chain.errors import SignatureInvalid

_SIGNATURE_BYTES = 65
_DIGEST_BYTES = 32
_REPORT_TYPES = {
    "ReportAttestation": [
        {"name": "challenge", "type": "uint256"},
        {"name": "verdict", "type": "uint8"},
        {"name": "score", "type": "int256"},
        {"name": "report", "type": "bytes32"},
    ]
}


def domain(chain_id: int, pool: str) -> dict[str, Any]:
    """EIP-712 domain of one pool on one chain."""
    return {
        "name": "fitchain-verifier",
        "version": "1",
        "chainId": chain_id,
        "verifyingContract": to_checksum_address(pool),
    }


def sign_report(
    signer: Signer,
    *,
    chain_id: int,
    pool: str,
    challenge_id: int,
    verdict: int,
    score: int,
    report_sha256: bytes | str,
) -> str:
    """Signature of a verifier over its report, as 0x and 130 hexadecimal digits.

    `report_sha256` is the SHA-256 of the report's canonical bytes (32 bytes, or hexadecimal); `score` is in
    1e-6.
    """
    message = _message(challenge_id, verdict, score, report_sha256)
    return "0x" + signer.sign_typed_data(domain(chain_id, pool), _REPORT_TYPES, message).hex()


def recover_report_signer(
    signature: str,
    *,
    chain_id: int,
    pool: str,
    challenge_id: int,
    verdict: int,
    score: int,
    report_sha256: bytes | str,
) -> str:
    """Checksum address of the account that made `signature`. Raises SignatureInvalid if it is malformed.

    Any well-formed signature belongs to *some* address: compare the result with the verifier that it should
    be.
    """
    message = _message(challenge_id, verdict, score, report_sha256)
    return recover_typed_data(signature, domain(chain_id, pool), _REPORT_TYPES, message)


def recover_typed_data(
    signature: str, of_domain: Mapping[str, Any], types: Mapping[str, Any], message: Mapping[str, Any]
) -> str:
    """Checksum address that signed the typed message. Raises SignatureInvalid."""
    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != _SIGNATURE_BYTES:
        raise SignatureInvalid("The signature is not 65 bytes in hexadecimal.")
    signable = encode_typed_data(dict(of_domain), dict(types), dict(message))
    try:
        return str(Account.recover_message(signable, signature=raw))
    except Exception as error:
        # The libraries below raise several unrelated types for points that are none.
        raise SignatureInvalid("The signature is not a point on the curve: it was damaged or made up.") from error


def _message(challenge_id: int, verdict: int, score: int, report_sha256: bytes | str) -> dict[str, Any]:
    digest = report_sha256 if isinstance(report_sha256, bytes) else bytes.fromhex(report_sha256.removeprefix("0x"))
    if len(digest) != _DIGEST_BYTES:
        raise ValueError(f"report_sha256 has {len(digest)} bytes instead of {_DIGEST_BYTES}")
    return {"challenge": challenge_id, "verdict": int(verdict), "score": score, "report": digest}
