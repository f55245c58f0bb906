"""Signed reports: whoever changes a field, or takes a signature elsewhere, is found out."""

from contextlib import suppress
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from chain.accounts import LocalSigner
from chain.errors import SignatureInvalid
from chain.signatures import recover_report_signer, sign_report

SIGNER = LocalSigner.from_key(bytes(range(1, 33)))
REPORT: dict[str, Any] = {
    "chain_id": 31337,
    "pool": "0x" + "ab" * 20,
    "challenge_id": 7,
    "verdict": 1,
    "score": 675_127,
    "report_sha256": bytes(32),
}
CHANGES = [
    ("chain_id", 1),
    ("pool", "0x" + "ac" * 20),
    ("challenge_id", 8),
    ("verdict", 2),
    ("score", -675_127),
    ("report_sha256", b"\1" + bytes(31)),
]


def test_signature_names_its_signer_and_is_the_same_every_time() -> None:
    signature = sign_report(SIGNER, **REPORT)
    assert len(signature) == 132
    assert signature == sign_report(SIGNER, **{**REPORT, "report_sha256": "0x" + "00" * 32})
    assert recover_report_signer(signature, **REPORT) == SIGNER.address


@pytest.mark.parametrize(("field", "other"), CHANGES)
def test_every_field_is_bound(field: str, other: object) -> None:
    signature = sign_report(SIGNER, **REPORT)
    assert recover_report_signer(signature, **{**REPORT, field: other}) != SIGNER.address


def test_signature_is_what_wallets_make_of_the_same_message() -> None:
    full = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            "ReportAttestation": [
                {"name": "challenge", "type": "uint256"},
                {"name": "verdict", "type": "uint8"},
                {"name": "score", "type": "int256"},
                {"name": "report", "type": "bytes32"},
            ],
        },
        "primaryType": "ReportAttestation",
        "domain": {
            "name": "fitchain-verifier",
            "version": "1",
            "chainId": 31337,
            "verifyingContract": "0x" + "ab" * 20,
        },
        "message": {"challenge": 7, "verdict": 1, "score": 675_127, "report": bytes(32)},
    }
    key = bytes(range(1, 33))
    assert (
        sign_report(SIGNER, **REPORT) == "0x" + bytes(Account.sign_typed_data(key, full_message=full).signature).hex()
    )


@pytest.mark.parametrize(
    "bad", ["", "0x", "nonsense", "0x" + "00" * 64, "0x" + "00" * 65, "0x" + "ff" * 65, "0x" + "1b" * 66]
)
def test_malformed_signatures_are_refused(bad: str) -> None:
    with pytest.raises(SignatureInvalid):
        recover_report_signer(bad, **REPORT)


@given(st.binary(min_size=65, max_size=65))
def test_made_up_signatures_are_never_the_verifiers(noise: bytes) -> None:
    with suppress(SignatureInvalid):
        assert recover_report_signer("0x" + noise.hex(), **REPORT) != SIGNER.address


def test_digest_must_have_32_bytes() -> None:
    with pytest.raises(ValueError, match="31 bytes"):
        sign_report(SIGNER, **{**REPORT, "report_sha256": bytes(31)})
