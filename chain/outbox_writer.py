"""The single writer of an account: everything that happens under its lock.

Signing, choosing nonces, handing in, repairing and replacing live here; who asks for it, and waiting for
receipts, is `chain/outbox.py`. The rules that keep a nonce from being lost or used twice:

- An attempt is saved before it is handed in, and only saved bytes are ever handed in. - Nobody signs the
next nonce before it is known what became of the last one: a nonce is used up when a node has accepted it,
and free again when nodes have refused it. - Every problem is looked up on the chain before anything is
concluded from an error message.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from chain.accounts import Signer
from chain.calls import ContractCall
from chain.errors import (
    CallReverted,
    EndpointUnavailable,
    FeeCapReached,
    InsufficientFunds,
    LockLost,
    OutboxStoreError,
)
from chain.fees import Fees, Market, raised_fees
from chain.node import Answer, Node
from chain.outbox_entries import Attempt, OutboxEntry, State
from chain.outbox_store import Lease, OutboxStore
from chain.settings import ChainSettings

logger = logging.getLogger(__name__)

_PLACE_TRIES = 8
_UNSETTLED_SECONDS = 5.0
"""An accepted transaction that the node does not know after this long has been dropped by it."""


@dataclass(frozen=True, slots=True)
class OutboxPolicy:
    """How an outbox behaves. Fees are wei per unit of gas."""

    max_fee_wei: int = 200 * 10**9
    confirmations: int = 1
    replace_seconds: float = 45.0
    receipt_seconds: float = 300.0
    lock_wait_seconds: float = 60.0
    gas_margin: float = 1.25
    poll_seconds: float = 1.0

    @classmethod
    def from_settings(cls, settings: ChainSettings) -> "OutboxPolicy":
        """The policy that the operator has set."""
        return cls(
            max_fee_wei=settings.max_fee_wei,
            confirmations=settings.confirmations,
            replace_seconds=settings.replace_seconds,
            receipt_seconds=settings.receipt_seconds,
        )


@dataclass(frozen=True, slots=True)
class Order:
    """A step that is to be sent: its key, the call, the gas it may use, the last second at which it makes
    sense.
    """

    key: str
    call: ContractCall
    gas: int
    deadline: float | None


@dataclass
class Writer:
    """Signs and hands in for one account. Each public method needs the lease of the account's lock."""

    node: Node
    signer: Signer
    store: OutboxStore
    account: str
    chain_id: int
    policy: OutboxPolicy
    clock: Callable[[], float]
    sender: str = field(init=False)

    def __post_init__(self) -> None:
        self.sender = self.signer.address

    def place(self, lease: Lease, order: Order, fees: Fees) -> OutboxEntry:
        """Give a step the next nonce, sign it, save it, hand it in; returns the accepted entry.

        Crashed before the save: nothing has happened. Crashed between save and acceptance: the entry stays
        SIGNED, and whoever writes next hands in its very bytes (`reconcile`). Raises InsufficientFunds,
        FeeCapReached, EndpointUnavailable and LockLost; after the last two the entry may be kept and is
        reconciled later.
        """
        floor = 0
        said = ""
        for _ in range(_PLACE_TRIES):
            entry = self._signed(order, self._free_nonce(floor), fees)
            self.store.save(self.account, lease, entry)
            answer, said = self._hand_in(lease, entry)
            if answer in (Answer.ACCEPTED, Answer.KNOWN):
                return entry.moved(State.SENT)
            if answer is Answer.UNANSWERED:
                raise EndpointUnavailable(f"It is not known yet whether {order.call.describe} was accepted: {said}.")
            self.store.discard(self.account, lease, order.key)
            if answer is Answer.NO_FUNDS:
                raise InsufficientFunds(f"{self.sender} cannot pay for {order.call.describe}: {said}. Send it funds.")
            if answer is Answer.FEE_TOO_LOW:
                fees = self._better_fees(fees, said)
            elif answer in (Answer.NONCE_TOO_LOW, Answer.NONCE_TAKEN):
                # Somebody else sends for this account, or the endpoint that counts lags behind the one that
                # takes.
                floor = entry.nonce + 1
            else:
                break
        raise EndpointUnavailable(f"The endpoint does not take {order.call.describe} of {self.sender}: {said}.")

    def reconcile(self, lease: Lease) -> None:
        """Find out what became of entries that were saved and perhaps never handed in.

        Crashed after signing, before sending: the identical bytes are handed in now. Crashed after sending,
        before acceptance was noted: the chain or the pool knows them. Meanwhile too late, or refused by the
        contract or the node: forgotten, and the nonce is free. Raises EndpointUnavailable if nobody can
        tell yet.
        """
        for entry in self.store.live(self.account):
            if entry.state is not State.SIGNED:
                continue
            if self._is_known(entry):
                self._note_accepted(lease, entry)
            elif self._is_pointless(entry):
                self.store.discard(self.account, lease, entry.key)
            else:
                logger.info("outbox resends: key=%s nonce=%d tx=%s", entry.key, entry.nonce, entry.newest.transaction)
                answer, said = self._hand_in(lease, entry)
                if answer is Answer.UNANSWERED:
                    raise EndpointUnavailable(f"It is not known yet whether {entry.describe} was accepted: {said}.")
                if answer not in (Answer.ACCEPTED, Answer.KNOWN):
                    logger.warning("outbox drops: key=%s nonce=%d said=%s", entry.key, entry.nonce, said)
                    self.store.discard(self.account, lease, entry.key)

    def tend(self, lease: Lease) -> None:
        """Look after all entries of the account, whoever sent them: their workers may be gone.

        Mined and not noted: noted. Noted and gone again (a reorganisation): live again, and its bytes are
        handed in. Dropped by the node: handed in again. Stuck: replaced at the same nonce by a higher
        offer.
        """
        self.reconcile(lease)
        count = self.node.count(self.sender, "latest")
        dropped = self._revive(lease, count)
        market: Market | None = None
        for entry in self.store.live(self.account):
            if entry.nonce < count:
                self._close(lease, entry)
                continue
            first = entry.nonce == count
            if first and self._age(entry) > _UNSETTLED_SECONDS:
                dropped = dropped or not self.node.knows(entry.newest.transaction)
            if dropped:
                # The first in line is gone, so its followers may be: the same bytes again harm nobody.
                self._hand_in(lease, entry)
            if self._age(entry) >= self.policy.replace_seconds:
                market = market or self.node.market(self.node.head())
                if first or entry.newest.fees.max_fee_wei < (market.base_fee_wei or 0):
                    self._replace(lease, entry, market)

    def restore(self, lease: Lease, entry: OutboxEntry) -> None:
        """Keep a sent entry that the store has lost (Redis was flushed), unless its nonce has a new owner."""
        if all(other.nonce != entry.nonce for other in self.store.live(self.account)):
            self.store.save(self.account, lease, entry)

    def _revive(self, lease: Lease, count: int) -> bool:
        """Make entries live again whose block lost its place in the chain; True if there are any.

        An endpoint that lags looks the same: then the bytes are handed in for nothing.
        """
        gone = [entry for entry in self.store.done_from(self.account, count) if self._mined_attempt(entry) is None]
        for entry in gone:
            logger.warning("outbox revives: key=%s nonce=%d tx=%s", entry.key, entry.nonce, entry.mined)
            self.store.save(self.account, lease, entry.renewed(self.clock()))
        return bool(gone)

    def _replace(self, lease: Lease, entry: OutboxEntry, market: Market) -> None:
        """Offer more for a nonce that is stuck.

        The new attempt is saved first, beside the old ones: any may win.
        """
        fees = raised_fees(entry.newest.fees, market, self.policy.max_fee_wei)
        if fees is None:
            logger.warning("outbox is at its fee cap: key=%s nonce=%d", entry.key, entry.nonce)
            return
        raised = entry.with_attempt(self._sign(entry, fees))
        self.store.save(self.account, lease, raised)
        answer, said = self.node.broadcast(bytes.fromhex(raised.newest.raw[2:]))
        logger.info(
            "outbox replaces: key=%s nonce=%d max_fee_wei=%d answer=%s %s",
            entry.key, entry.nonce, fees.max_fee_wei, answer.name, said,
        )  # fmt: skip

    def _close(self, lease: Lease, entry: OutboxEntry) -> None:
        """Note what became of an entry whose nonce is mined, if its own worker has not done so."""
        mined = self._mined_attempt(entry)
        if mined is not None:
            transaction, succeeded = mined
            state = State.MINED if succeeded else State.REVERTED
            self.store.save(self.account, lease, entry.moved(state, mined=transaction))
        elif self._age(entry) > _UNSETTLED_SECONDS:
            logger.warning("outbox lost a nonce to another sender: key=%s nonce=%d", entry.key, entry.nonce)
            self.store.discard(self.account, lease, entry.key)

    def _hand_in(self, lease: Lease, entry: OutboxEntry) -> tuple[Answer, str]:
        """Broadcast the newest attempt of a saved entry and note an acceptance.

        A refusal counts only if the node does not know the transaction: "nonce too low" may be about
        ourselves.
        """
        if not lease.held:
            raise LockLost(f"The lock on the outbox {self.account} ran out before {entry.describe} was handed in.")
        answer, said = self.node.broadcast(bytes.fromhex(entry.newest.raw[2:]))
        if answer in (Answer.ACCEPTED, Answer.KNOWN):
            self._note_accepted(lease, entry)
        elif answer is not Answer.UNANSWERED and self._is_known(entry):
            self._note_accepted(lease, entry)
            answer = Answer.KNOWN
        return answer, said

    def _note_accepted(self, lease: Lease, entry: OutboxEntry) -> None:
        try:
            self.store.save(self.account, lease, entry.moved(State.SENT))
        except (LockLost, OutboxStoreError) as error:
            # It is accepted, whatever the store says: the saved SIGNED entry, or the chain, will tell.
            logger.warning("outbox could not note an acceptance: key=%s error=%s", entry.key, error)

    def _is_known(self, entry: OutboxEntry) -> bool:
        return any(self.node.knows(attempt.transaction) for attempt in reversed(entry.attempts))

    def _is_pointless(self, entry: OutboxEntry) -> bool:
        """Whether an entry that never arrived is too late, or would be refused by its contract by now."""
        if entry.deadline is not None and self.clock() > entry.deadline:
            return True
        try:
            self.node.simulate(self._unsigned(entry.to, entry.data, entry.value_wei))
        except (CallReverted, InsufficientFunds) as error:
            logger.info("outbox drops: key=%s nonce=%d reason=%s", entry.key, entry.nonce, error)
            return True
        return False

    def _mined_attempt(self, entry: OutboxEntry) -> tuple[str, bool] | None:
        """Hash of the attempt that is in a block and whether it succeeded, or None."""
        for attempt in reversed(entry.attempts):
            receipt = self.node.receipt(attempt.transaction)
            if receipt is not None:
                return attempt.transaction, receipt["status"] == 1
        return None

    def _free_nonce(self, floor: int) -> int:
        """The lowest nonce that neither the chain, nor its pool, nor any entry of ours has used."""
        nonce = max(floor, self.node.count(self.sender, "pending"))
        taken = {entry.nonce for entry in self.store.live(self.account)}
        taken |= {entry.nonce for entry in self.store.done_from(self.account, nonce)}
        while nonce in taken:
            nonce += 1
        return nonce

    def _better_fees(self, fees: Fees, said: str) -> Fees:
        better = raised_fees(fees, self.node.market(self.node.head()), self.policy.max_fee_wei)
        if better is None:
            raise FeeCapReached(
                f"The node wants a higher fee ({said}), but FITCHAIN_MAX_FEE_GWEI is reached: nothing was sent."
            )
        return better

    def _signed(self, order: Order, nonce: int, fees: Fees) -> OutboxEntry:
        unsigned = OutboxEntry(
            key=order.key,
            describe=order.call.describe,
            nonce=nonce,
            to=order.call.to,
            data="0x" + order.call.data.hex(),
            value_wei=order.call.value_wei,
            gas=order.gas,
            deadline=order.deadline,
            state=State.SIGNED,
            attempts=(),
        )
        return unsigned.with_attempt(self._sign(unsigned, fees))

    def _sign(self, entry: OutboxEntry, fees: Fees) -> Attempt:
        transaction = {
            **self._unsigned(entry.to, entry.data, entry.value_wei),
            **fees.fields(),
            "chainId": self.chain_id,
            "nonce": entry.nonce,
            "gas": entry.gas,
        }
        del transaction["from"]
        raw = self.signer.sign_transaction(transaction)
        return Attempt("0x" + keccak(raw).hex(), "0x" + raw.hex(), fees, self.clock())

    def _unsigned(self, to: str, data: str, value_wei: int) -> dict[str, object]:
        return {"from": self.sender, "to": to_checksum_address(to), "data": data, "value": value_wei}

    def _age(self, entry: OutboxEntry) -> float:
        return self.clock() - entry.newest.at
