"""Reverts in words: what a contract said when it refused a call, and what to do about it.

The contracts refuse with `Error(string)` (Solidity's convention, which Vyper follows); nodes wrap it
differently, so it is looked for in the returned data first and in the node's message second. Which exception
it becomes is decided by the caller.
"""

import re
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

_ERROR_SELECTOR = bytes.fromhex("08c379a0")  # Error(string)
_PANIC_SELECTOR = bytes.fromhex("4e487b71")  # Panic(uint256)
_HEX = re.compile(r"0x(?:08c379a0|4e487b71)[0-9a-fA-F]*")
_REVERTED = re.compile(r"execution reverted(?:: (?P<reason>.+))?", re.DOTALL)

# What the person behind the call can do, by the contract's own words.
_ADVICE = {
    "only the owner adds pools": "use the account that deployed the registry",
    "pool already added": "nothing is left to do",
    "unknown model": "check the number of the model, and that it is in the registry of this pool",
    "pool not authorised": "the owner of the registry has to add this pool first (Registry.addPool)",
    "empty schema": "give the schema as JSON or its CID",
    "nothing deposited": "send an amount above zero",
    "nothing requested": "ask for an amount above zero",
    "more than the free stake": "stake that open assignments lock comes free when those are settled",
    "nothing to withdraw": "no earnings, and no requested withdrawal whose delay is over",
    "k must be odd and at most 15": "choose 1, 3, 5, … or 15 verifiers",
    "empty data schema": "give the data schema as JSON or its CID",
    "empty metric": "name the metric, for instance accuracy",
    "pass mark out of range": "marks are integers of 1e-6 of the metric, at most 1e30",
    "tolerance out of range": "tolerances are integers of 1e-6 of the metric, at most 1e30",
    "window too short": "give commit and reveal at least the pool's minimum window",
    "window too long": "commit and reveal may take 30 days each at most",
    "bounty below the minimum": "the share (bounty divided by k) must reach the pool's minimum share",
    "too few eligible verifiers": "offer a higher bounty, ask for fewer verifiers, or try again later: "
    "drawn are those with a free slot whose minimum the share meets, never the consumer or the model's owner",
    "unknown challenge": "check the number of the challenge and the address of the pool",
    "challenge already settled": "nothing is left to do",
    "not assigned to this challenge": "another account was drawn; check which account signs",
    "already committed": "the vote of this account is bound already",
    "commit phase is over": "the commit deadline has passed",
    "empty commitment": "a commitment is the 32-byte hash of a vote, never zero",
    "already revealed": "the vote of this account is open already",
    "reveal phase has not begun": "wait until all have committed or the commit deadline has passed",
    "nothing committed": "this account let the commit phase pass, so it has nothing to reveal",
    "reveal phase is over": "the reveal deadline has passed",
    "unknown verdict": "a vote is valid (1), invalid (2) or unavailable (3)",
    "score out of range": "scores are integers of 1e-6 of the metric, at most 1e30",
    "score without a valid verdict": "only a valid verdict carries a score",
    "vote does not match the commitment": "verdict, score and salt must be those that were committed",
    "settlement is not due yet": "wait until all have revealed or the deadlines have passed",
}


def revert_reason(error: BaseException) -> str | None:
    """The contract's own words in an exception of web3, or None if the call failed without any."""
    for part in _parts(error):
        reason = _from_data(part)
        if reason is not None:
            return reason
    for part in _parts(error):
        match = _REVERTED.search(part) if isinstance(part, str) else None
        if match and match["reason"]:
            return match["reason"].strip().removesuffix(", data")
    return None


def decode_revert(error: BaseException) -> str:
    """Say in one sentence why a contract refused a call, with what to do where that is known."""
    reason = revert_reason(error)
    if reason is None:
        return "the contract refused without a reason (is this the right contract, and is there enough gas?)"
    return explain(reason)


def explain(reason: str) -> str:
    """Add to a contract's words what can be done about it."""
    advice = _ADVICE.get(reason)
    return f"{reason} ({advice})" if advice else reason


def _parts(error: BaseException) -> list[Any]:
    """Everything in an exception that may hold revert data or a message, the data first."""
    parts: list[Any] = [getattr(error, "data", None)]
    response = getattr(error, "rpc_response", None)
    if isinstance(response, dict) and isinstance(response.get("error"), dict):
        parts += [response["error"].get("data"), response["error"].get("message")]
    parts += [getattr(error, "message", None), *error.args]
    flat: list[Any] = []
    for part in parts:
        flat += list(part.values()) if isinstance(part, dict) else [part]
    return flat


def _from_data(part: Any) -> str | None:
    """Decode `Error(string)` or `Panic(uint256)` out of bytes or of a text that holds them as hex."""
    if isinstance(part, str):
        match = _HEX.search(part)
        if match is None or len(match[0]) % 2:
            return None
        part = bytes.fromhex(match[0][2:])
    if not isinstance(part, bytes | bytearray):
        return None
    selector, body = bytes(part[:4]), bytes(part[4:])
    try:
        if selector == _ERROR_SELECTOR:
            return str(decode(["string"], body)[0])
        if selector == _PANIC_SELECTOR:
            return f"panic 0x{decode(['uint256'], body)[0]:02x}"
    except (DecodingError, OverflowError, UnicodeDecodeError):
        return None
    return None
