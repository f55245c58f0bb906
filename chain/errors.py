"""Everything that can go wrong between this project and a chain, one class for each way out of it.

Here live the exceptions of the package `chain`. A caller needs two facts about each: the sentence, which is
written for the person who runs the verifier (what happened, to which challenge, account or host, and what
to do), and `transient`: True if the same call may succeed later without anybody doing anything, so that a
task retries it. Decoding of reverts is not here but in `chain/reverts.py`.
"""

from typing import ClassVar


class ChainError(Exception):
    """Base of all errors of this package. `transient` says whether trying again later can help."""

    transient: ClassVar[bool] = False


class SettingsError(ChainError):
    """A FITCHAIN_ setting of the chain is missing or makes no sense; the message names it."""


# --- accounts and keys ---


class KeystoreError(ChainError):
    """A keyfile, its password or a development key cannot be used; the message names the file, never the
    key.
    """


class UnknownAccount(ChainError):
    """No key for the account that should sign is loaded here."""


# --- endpoints ---


class EndpointUnavailable(ChainError):
    """No RPC endpoint answers, or it answers with errors of its own (time-outs, 429, 5xx)."""

    transient = True


class WrongChain(ChainError):
    """An endpoint serves another chain than the one that is configured."""


# --- contracts ---


class ContractMissing(ChainError):
    """There is no code, or no contract of ours, at the configured address of this chain."""


class CallReverted(ChainError):
    """A contract refused a call or a mined transaction.

    `reason` is the contract's own sentence, if it gave one.
    """

    def __init__(self, message: str, *, reason: str | None = None, transaction: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.transaction = transaction


class DeploymentError(ChainError):
    """Contracts could not be deployed, or the record of a deployment cannot be read."""


class NotFound(ChainError):
    """The model or challenge that was asked for does not exist on chain."""


# --- votes ---


class VoteLost(ChainError):
    """A commitment on chain is opened neither by the journal nor by any vote near the one evaluated again."""


class JournalError(ChainError):
    """The journal of votes cannot be read or written; nothing is sent that it does not hold."""


class SignatureInvalid(ChainError):
    """A report's signature is malformed or was not made by the account it claims."""


# --- transactions ---


class StepRejected(CallReverted):
    """The simulation shows that the contract would revert: nothing was sent, and sending cannot help."""


class StepNotOwed(ChainError):
    """The chain no longer asks for this step (another worker did it, or its phase is over): nothing was
    sent.
    """


class StepExpired(ChainError):
    """The step's deadline passed before its transaction was sent; nothing was sent."""


class StepReplaced(ChainError):
    """Another transaction of the same account, unknown to this outbox, took the nonce of this step's."""

    transient = True


class OutboxBusy(ChainError):
    """Another process holds the account's outbox for longer than we wait for it."""

    transient = True


class OutboxStoreError(ChainError):
    """The store of the outbox (Redis) cannot be reached; nothing is sent that it does not hold."""

    transient = True


class LockLost(OutboxBusy):
    """The lock on the account ran out while we held it; what we were about to write was refused."""


class FeeCapReached(ChainError):
    """The chain asks for more than FITCHAIN_MAX_FEE_GWEI: the step waits for cheaper gas or a higher cap."""

    transient = True


class InsufficientFunds(ChainError):
    """The account cannot pay for gas and value of a transaction; the message says how much is missing."""

    transient = True


class NotMined(ChainError):
    """A transaction was accepted but is not mined within the time we wait; it stays in the outbox."""

    transient = True
