"""What the outbox asks of a chain, in plain values and with the errors of `chain/errors.py`.

One class speaks to one `Web3`; `classify` turns what the node implementations answer to a transaction into
the few cases that matter. No decision about nonces, fees or repetitions is made here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal, cast

import requests
from eth_typing import ChecksumAddress, HexStr
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import (
    BadResponseFormat,
    ContractLogicError,
    MethodUnavailable,
    RequestTimedOut,
    TransactionIndexingInProgress,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)
from web3.types import TxParams, TxReceipt

from chain.connection import describe_failure, endpoint_of
from chain.errors import CallReverted, EndpointUnavailable, InsufficientFunds
from chain.fees import Market
from chain.reverts import decode_revert, revert_reason

_FALLBACK_TIP_WEI = 10**9
_RATE_LIMIT_CODES = {-32005, -32029, 429}
_RATE_LIMIT_WORDS = (
    "rate limit",
    "too many requests",
    "limit exceeded",
    "request timed out",
    "try again later",
)


class Answer(Enum):
    """What a node says to a signed transaction."""

    ACCEPTED = auto()
    KNOWN = auto()  # these very bytes are there already
    NONCE_TOO_LOW = auto()  # the nonce is mined: by these bytes or by others
    NONCE_TAKEN = auto()  # another pending transaction has the nonce, and we do not pay enough to replace it
    FEE_TOO_LOW = auto()
    NO_FUNDS = auto()
    REFUSED = auto()
    UNANSWERED = auto()  # it may or may not have arrived


_ANSWERS: tuple[tuple[Answer, tuple[str, ...]], ...] = (
    (
        Answer.KNOWN,
        ("already known", "known transaction", "already imported", "alreadyknown", "already exists"),
    ),
    (
        Answer.NONCE_TOO_LOW,
        ("nonce too low", "nonce is too low", "oldnonce", "correct nonce", "nonce has already"),
    ),
    (Answer.NONCE_TAKEN, ("replac",)),
    (
        Answer.FEE_TOO_LOW,
        ("underpriced", "base fee", "basefee", "fee too low", "feetoolow", "price too low", "price below"),
    ),
    (
        Answer.NO_FUNDS,
        ("insufficient funds", "insufficientfunds", "insufficient balance", "enough funds", "upfront"),
    ),
)
"""Words by which Geth, Erigon, Nethermind, Besu, Reth, Anvil and Ganache say it; the first row that fits
wins.
"""


def classify(message: str, code: int | None = None) -> Answer:
    """The case behind an error message of eth_sendRawTransaction."""
    text = message.lower()
    if code in _RATE_LIMIT_CODES or any(words in text for words in _RATE_LIMIT_WORDS):
        return Answer.UNANSWERED
    for answer, words in _ANSWERS:
        if any(word in text for word in words):
            return answer
    return Answer.REFUSED


@dataclass(frozen=True, slots=True)
class Head:
    """The newest block: number, time (unix seconds) and base fee (wei; None on legacy chains)."""

    number: int
    timestamp: int
    base_fee_wei: int | None


class Node:
    """The chain behind one Web3, as the outbox sees it.

    Every method raises EndpointUnavailable if it cannot tell.
    """

    def __init__(self, w3: Web3) -> None:
        self._w3 = w3

    def identity(self) -> tuple[int, str]:
        """Chain id and hash of the first block: a development chain that starts anew is another chain."""
        with self._asking("its chain id"):
            chain_id = self._w3.eth.chain_id
            genesis = self._w3.eth.get_block(0)
        return chain_id, HexBytes(genesis["hash"]).hex()

    def head(self) -> Head:
        """The newest block."""
        with self._asking("the newest block"):
            block = self._w3.eth.get_block("latest")
        return Head(block["number"], block["timestamp"], block.get("baseFeePerGas"))

    def block_hash(self, number: int) -> str:
        """Hash of the canonical block of that number."""
        with self._asking(f"block {number}"):
            return "0x" + HexBytes(self._w3.eth.get_block(number)["hash"]).hex()

    def market(self, head: Head) -> Market:
        """What gas costs on top of that block."""
        with self._asking("the gas price"):
            if head.base_fee_wei is None:
                return Market(None, self._w3.eth.gas_price)
            try:
                return Market(head.base_fee_wei, self._w3.eth.max_priority_fee)
            except MethodUnavailable:
                return Market(head.base_fee_wei, _FALLBACK_TIP_WEI)

    def count(self, address: str, block: Literal["latest", "pending"]) -> int:
        """Transactions of an account so far, those that wait to be mined included if `block` is "pending"."""
        with self._asking(f"the nonce of {address}"):
            return self._w3.eth.get_transaction_count(cast("ChecksumAddress", address), block)

    def simulate(self, transaction: Mapping[str, Any], *, block: int | Literal["latest", "pending"] = "latest") -> None:
        """Run a transaction without sending it.

        Raises CallReverted, with the contract's words, if it reverts.
        """
        with self._asking("a simulation"):
            try:
                self._w3.eth.call(cast("TxParams", dict(transaction)), block, ccip_read_enabled=False)
            except ContractLogicError as error:
                raise CallReverted(decode_revert(error), reason=revert_reason(error)) from error

    def gas_needed(self, transaction: Mapping[str, Any], *, block: Literal["latest", "pending"] = "latest") -> int:
        """Units of gas that a transaction takes on the newest state. Raises CallReverted like `simulate`."""
        with self._asking("an estimate of gas"):
            try:
                return self._w3.eth.estimate_gas(cast("TxParams", dict(transaction)), block)
            except ContractLogicError as error:
                raise CallReverted(decode_revert(error), reason=revert_reason(error)) from error

    def broadcast(self, raw: bytes) -> tuple[Answer, str]:
        """Hand in a signed transaction: the kind of answer, and its words.

        Raises nothing that an endpoint can cause.
        """
        try:
            self._w3.eth.send_raw_transaction(raw)
        except (RequestTimedOut, BadResponseFormat) as error:
            return Answer.UNANSWERED, describe_failure(error)
        except Web3RPCError as error:
            message, code = _said(error)
            return classify(message, code), message
        except (Web3Exception, requests.RequestException, OSError, ValueError) as error:
            return Answer.UNANSWERED, f"{endpoint_of(self._w3)} {describe_failure(error)}"
        return Answer.ACCEPTED, ""

    def receipt(self, transaction: str) -> TxReceipt | None:
        """The receipt of a transaction in a block of the canonical chain, or None."""
        with self._asking("a receipt"):
            try:
                return self._w3.eth.get_transaction_receipt(HexStr(transaction))
            except (TransactionNotFound, TransactionIndexingInProgress):
                return None

    def knows(self, transaction: str) -> bool:
        """True if the transaction waits in the node's pool or is in a block."""
        with self._asking("a transaction"):
            try:
                self._w3.eth.get_transaction(HexStr(transaction))
            except TransactionNotFound:
                return False
            return True

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except (Web3Exception, requests.RequestException, OSError, ValueError) as error:
            message, code = _said(error) if isinstance(error, Web3RPCError) else ("", None)
            if message and classify(message, code) is Answer.NO_FUNDS:
                raise InsufficientFunds(f"The account cannot pay for this: {message}. Send it funds.") from None
            why = f"answers: {message}" if message else describe_failure(error)
            # The original would show the whole URL, credentials included.
            raise EndpointUnavailable(f"Asked for {what}, {endpoint_of(self._w3)} {why}.") from None


def _said(error: Web3RPCError) -> tuple[str, int | None]:
    """Message and code of the node's own error."""
    response = error.rpc_response or {}
    inner = cast("dict[str, Any]", response).get("error")
    if isinstance(inner, dict):
        return str(inner.get("message", ""))[:300], inner.get("code")
    return str(error.message)[:300], None
