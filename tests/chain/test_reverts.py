"""Reverts in words, in the shapes that nodes give them."""

from pathlib import Path

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st
from web3.exceptions import ContractLogicError, Web3RPCError

from chain import build
from chain.reverts import _ADVICE, decode_revert, explain, revert_reason

DATA = "0x08c379a0" + encode(["string"], ["already committed"]).hex()
PANIC = "0x4e487b71" + encode(["uint256"], [0x11]).hex()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ContractLogicError("execution reverted: already committed", data=DATA), "already committed"),
        (ContractLogicError("execution reverted: something else", data=DATA), "already committed"),
        (ContractLogicError("execution reverted: already committed"), "already committed"),
        (ContractLogicError("execution reverted", data={"0xabc": DATA}), "already committed"),
        (ContractLogicError(f"Reverted {DATA}"), "already committed"),
        (
            Web3RPCError(
                "oops", rpc_response={"jsonrpc": "2.0", "id": 1, "error": {"code": 3, "message": "", "data": DATA}}
            ),
            "already committed",
        ),
        (ContractLogicError("execution reverted", data=PANIC), "panic 0x11"),
        (ContractLogicError("execution reverted", data="0x"), None),
        (ContractLogicError("execution reverted"), None),
        (ContractLogicError("execution reverted", data="0x08c379a0ff"), None),
        (ValueError(), None),
    ],
)
def test_the_reason_is_found_wherever_the_node_put_it(error: Exception, reason: str | None) -> None:
    assert revert_reason(error) == reason


def test_a_known_reason_comes_with_advice_and_none_with_a_guess() -> None:
    assert decode_revert(ContractLogicError("", data=DATA)) == (
        "already committed (the vote of this account is bound already)"
    )
    assert explain("words of another contract") == "words of another contract"
    assert "without a reason" in decode_revert(ContractLogicError("execution reverted"))


def test_every_reason_of_the_contracts_has_advice() -> None:
    """Reasons of functions that people call; what a pool says to a registry cannot reach them."""
    internal = {
        "challenge already recorded",
        "result already recorded",
        "too many pools",
        "no contract at this address",
    }
    deployment = {
        "no registry at this address",
        "stake per slot is zero",
        "minimum share is zero",
        "withdrawal delay too long",
        "bad minimum window",
    }
    said = set()
    for name in build.CONTRACTS:
        for line in (Path(build.SOURCES) / f"{name}.vy").read_text().splitlines():
            if (line.strip().startswith("assert ") or line.strip().startswith("return ")) and line.endswith('"'):
                said.add(line.rsplit('"', 2)[1])
    said.discard("")
    assert said - internal - deployment == set(_ADVICE)


@given(st.binary(max_size=200))
def test_garbage_is_no_reason(data: bytes) -> None:
    assert revert_reason(ContractLogicError("execution reverted", data="0x08c379a0" + data.hex())) is None or data
