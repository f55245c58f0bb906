"""What nodes say to a transaction, in their own words."""

import pytest

from chain.node import Answer, classify

SAID = [
    (Answer.KNOWN, "already known"),  # Geth, Erigon, Reth
    (Answer.KNOWN, "AlreadyKnown"),  # Nethermind
    (Answer.KNOWN, "Known transaction"),  # Besu
    (Answer.KNOWN, "transaction already imported"),  # Anvil
    (Answer.KNOWN, "Transaction with the same hash was already imported."),  # OpenEthereum
    (Answer.NONCE_TOO_LOW, "nonce too low: next nonce 5, tx nonce 4"),  # Geth
    (Answer.NONCE_TOO_LOW, "nonce too low"),  # Anvil
    (Answer.NONCE_TOO_LOW, "OldNonce, Current nonce: 5, nonce of rejected tx: 4"),  # Nethermind
    (
        Answer.NONCE_TOO_LOW,
        "the tx doesn't have the correct nonce. account has nonce of: 5 tx has nonce of: 4",
    ),  # Ganache
    (Answer.NONCE_TAKEN, "replacement transaction underpriced"),  # Geth, Anvil, Besu
    (Answer.NONCE_TAKEN, "ReplacementNotAllowed"),  # Nethermind
    (Answer.NONCE_TAKEN, "could not replace existing tx"),  # Erigon
    (Answer.FEE_TOO_LOW, "transaction underpriced: gas tip cap 0, minimum needed 1"),  # Geth
    (
        Answer.FEE_TOO_LOW,
        "max fee per gas less than block base fee: address 0x1, maxFeePerGas: 1, baseFee: 2",
    ),
    (Answer.FEE_TOO_LOW, "FeeTooLow, MaxFeePerGas too low"),  # Nethermind
    (Answer.FEE_TOO_LOW, "Gas price below configured minimum gas price"),  # Besu
    (Answer.NO_FUNDS, "insufficient funds for gas * price + value: balance 0, tx cost 1, overshot 1"),  # Geth
    (Answer.NO_FUNDS, "Insufficient funds for gas * price + value"),  # Anvil
    (Answer.NO_FUNDS, "InsufficientFunds, Account balance: 0"),  # Nethermind
    (Answer.NO_FUNDS, "Upfront cost exceeds account balance"),  # Besu
    (Answer.NO_FUNDS, "sender doesn't have enough funds to send tx"),  # Ganache
    (Answer.UNANSWERED, "daily request count exceeded, request rate limited: rate limit"),
    (Answer.UNANSWERED, "Too Many Requests"),
    (Answer.REFUSED, "exceeds block gas limit"),
    (Answer.REFUSED, "invalid sender"),
    (Answer.REFUSED, "txpool is full"),
    (Answer.REFUSED, ""),
]


@pytest.mark.parametrize(("answer", "message"), SAID)
def test_words_of_every_node_are_understood(answer: Answer, message: str) -> None:
    assert classify(message, -32000) is answer


def test_rate_limits_are_known_by_their_code() -> None:
    assert classify("whatever", -32005) is Answer.UNANSWERED
