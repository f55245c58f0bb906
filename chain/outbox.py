"""The outbox: sends the steps of one account so that none is lost, none is sent twice and no nonce goes
astray.

Any number of workers may send for the same account: they share a store, take turns to write
(`outbox_writer.py`) and wait for receipts side by side, so that consecutive nonces are in flight together.
Here is what a caller sees: one `send` for each step, which returns the receipt or raises an error of
`chain/errors.py`. What it survives:

- Crashed after signing, before sending: the next worker hands in the identical bytes before it signs
anything. - Crashed after sending: the entry is known by its key; sending again waits for what is in flight.
- Crashed after it was mined: the same key returns the same receipt. - Redis flushed: what is in flight is
put back by whoever waits for it; if nobody does, the chain says what is owed. - A reorganisation drops the
block: the entry is live again and its bytes are handed in again. - Gas rises: the first nonce in line is
replaced by a higher offer, up to the cap. - The answer to a broadcast is lost: the pool and the chain are
asked before anything is signed anew.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from hexbytes import HexBytes
from web3 import Web3
from web3.types import TxReceipt

from chain.accounts import Signer
from chain.calls import ContractCall
from chain.errors import (
    CallReverted,
    ChainError,
    EndpointUnavailable,
    NotMined,
    OutboxBusy,
    OutboxStoreError,
    StepExpired,
    StepNotOwed,
    StepRejected,
    StepReplaced,
)
from chain.fees import opening_fees
from chain.node import Head, Node
from chain.outbox_entries import OutboxEntry, Receipt, State
from chain.outbox_store import MemoryOutboxStore, OutboxStore, RedisOutboxStore
from chain.outbox_writer import Order, OutboxPolicy, Writer

__all__ = ["MemoryOutboxStore", "Outbox", "OutboxPolicy", "OutboxStore", "Receipt", "RedisOutboxStore"]

logger = logging.getLogger(__name__)

_ROUNDS = 4
_FIRST_POLL_SECONDS = 0.02
_POLL_GROWTH = 1.5
_LONGEST_TEND_SECONDS = 5.0


def _always() -> bool:
    return True


class Outbox:
    """Sends for one account on one chain.

    One outbox serves one thread at a time; make one for each process.
    """

    def __init__(
        self,
        w3: Web3,
        signer: Signer,
        store: OutboxStore,
        *,
        policy: OutboxPolicy | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Asks the chain who it is; raises EndpointUnavailable.

        `clock` is unix seconds, compared with deadlines.
        """
        self._node = Node(w3)
        self._store = store
        self._policy = policy or OutboxPolicy()
        self._clock = clock
        self._sleep = sleep
        self._sender = signer.address
        chain_id, genesis = self._node.identity()
        self.account = f"{chain_id}:{genesis[:12]}:{signer.address.lower()}"
        self._writer = Writer(self._node, signer, store, self.account, chain_id, self._policy, clock)

    def send(
        self,
        key: str,
        call: ContractCall,
        *,
        deadline: float | None = None,
        still_owed: Callable[[], bool] = _always,
    ) -> Receipt:
        """Send a step, once, and return its receipt after the confirmations that the policy asks for.

        `key` names the step: a key whose transaction succeeded returns that receipt, one in flight is
        waited for, and one whose transaction reverted is sent anew. `deadline` (unix seconds) is the last
        moment at which sending makes sense; `still_owed` is asked under the account's lock, right before
        the transaction is signed.

        Raises, with nothing sent: StepRejected (the simulation reverts), StepNotOwed, StepExpired,
        FeeCapReached, InsufficientFunds, OutboxBusy, OutboxStoreError. Raises CallReverted if the mined
        transaction reverted, NotMined if it still waits, EndpointUnavailable, and StepReplaced if another
        sender took its nonce.
        """
        for _ in range(_ROUNDS):
            entry = self._store.find(self.account, key)
            if entry is None or entry.state is State.REVERTED:
                entry = self._submit(key, call, deadline, still_owed)
            receipt = self._wait(entry)
            if receipt is not None:
                return receipt
        raise StepReplaced(
            f"{call.describe}: transactions from outside took the nonces of {self._sender} again and again. "
            "Let nothing but this cluster send for that account."
        )

    def live(self) -> list[OutboxEntry]:
        """What waits to be mined, by nonce."""
        return self._store.live(self.account)

    def tend(self, *, reopen: OutboxEntry | None = None) -> None:
        """Resend, replace and note whatever the account's entries need now. `send` does this while it waits.

        `reopen` is an entry that was in a block and is not any more; it becomes live again.
        """
        with self._store.lock(self.account, wait_seconds=self._policy.lock_wait_seconds) as lease:
            if reopen is not None:
                self._writer.restore(lease, reopen.moved(State.SENT))
            self._writer.tend(lease)

    def _submit(
        self, key: str, call: ContractCall, deadline: float | None, still_owed: Callable[[], bool]
    ) -> OutboxEntry:
        """Simulate, then take the lock and place the step; or return what another worker has placed
        meanwhile.
        """
        head = self._node.head()
        self._check_deadline(call, deadline, head)
        gas = self._simulated_gas(call)
        fees = opening_fees(self._node.market(head), self._policy.max_fee_wei)
        with self._store.lock(self.account, wait_seconds=self._policy.lock_wait_seconds) as lease:
            self._writer.reconcile(lease)
            entry = self._store.find(self.account, key)
            if entry is not None and entry.state is not State.REVERTED:
                return entry
            self._check_deadline(call, deadline, head)
            if not still_owed():
                raise StepNotOwed(f"{call.describe} is not owed any more: nothing was sent.")
            placed = self._writer.place(lease, Order(key, call, gas, deadline), fees)
        logger.info("outbox sent: key=%s nonce=%d tx=%s", key, placed.nonce, placed.newest.transaction)
        return placed

    def _simulated_gas(self, call: ContractCall) -> int:
        """Units of gas to allow for a call. Raises StepRejected if it would revert.

        The newest block may be older than a deadline that has passed meanwhile, on a chain without traffic for
        ever: what it refuses is asked of the block in the making as well.
        """
        transaction = {"from": self._sender, "to": call.to, "data": call.data, "value": call.value_wei}
        try:
            return self._gas_at(transaction, "latest")
        except CallReverted:
            try:
                return self._gas_at(transaction, "pending")
            except CallReverted as error:
                raise StepRejected(
                    f"{call.describe} would be refused: {error}. Nothing was sent.", reason=error.reason
                ) from error

    def _gas_at(self, transaction: Mapping[str, Any], block: Literal["latest", "pending"]) -> int:
        self._node.simulate(transaction, block=block)
        return int(self._node.gas_needed(transaction, block=block) * self._policy.gas_margin)

    def _check_deadline(self, call: ContractCall, deadline: float | None, head: Head) -> None:
        """Raise StepExpired once our clock or the chain's is past the deadline."""
        now = max(self._clock(), head.timestamp)
        if deadline is not None and now > deadline:
            raise StepExpired(
                f"{call.describe} came too late: its deadline passed {now - deadline:.0f} s ago. Nothing was sent."
            )

    def _wait(self, entry: OutboxEntry) -> Receipt | None:
        """Wait for an entry to be mined and confirmed; None if its nonce went to another transaction, or it
        was dropped before any node had it.

        Raises CallReverted, NotMined, and what the endpoint or the store raise when they stay away for too
        long.
        """
        started = tended = self._clock()
        pause = _FIRST_POLL_SECONDS
        trouble: ChainError | None = None
        while True:
            try:
                current = self._refreshed(entry)
                if current is None:
                    return None
                entry, trouble = current, None
                receipt = self._receipt(entry)
                if receipt is not None:
                    return self._finish(entry, receipt)
                if self._needs_tending(entry, tended):
                    tended = self._clock()
                    self.tend(reopen=None if entry.live else entry)
            except (EndpointUnavailable, OutboxStoreError, OutboxBusy) as error:
                trouble = error
            if self._clock() - started > self._policy.receipt_seconds:
                raise trouble or NotMined(
                    f"{entry.describe} (transaction {entry.newest.transaction}) is not mined after "
                    f"{self._policy.receipt_seconds:.0f} s. It stays in the outbox, and is waited for again."
                )
            self._sleep(pause)
            pause = min(pause * _POLL_GROWTH, self._policy.poll_seconds)

    def _needs_tending(self, entry: OutboxEntry, tended: float) -> bool:
        """At once if nobody has handed it in, or if its block is gone; else from time to time."""
        every = min(self._policy.replace_seconds / 2, _LONGEST_TEND_SECONDS)
        return entry.state is not State.SENT or self._clock() - tended >= every

    def _refreshed(self, entry: OutboxEntry) -> OutboxEntry | None:
        """The entry as the store has it now; None if it was dropped or lost its nonce.

        An entry that was accepted and is not in the store any more was flushed, or discarded because another
        transaction took its nonce. The chain tells which: in the first case it is put back.
        """
        try:
            found = self._store.find(self.account, entry.key)
        except OutboxStoreError as error:
            logger.warning("outbox store is away while waiting: key=%s error=%s", entry.key, error)
            return entry
        if found is not None and (found.nonce == entry.nonce or found.live):
            return found
        if entry.state is State.SIGNED:
            return None
        if self._receipt_of_any(entry) is not None:
            return entry
        if self._node.count(self._sender, "latest") > entry.nonce:
            # Mined since the line above, or the nonce is lost: the receipt tells, asked after the count.
            return entry if self._receipt_of_any(entry) is not None else None
        with self._store.lock(self.account, wait_seconds=self._policy.lock_wait_seconds) as lease:
            self._writer.restore(lease, entry)
        return entry

    def _receipt(self, entry: OutboxEntry) -> TxReceipt | None:
        """The receipt of whichever attempt was mined, once it has its confirmations."""
        receipt = self._receipt_of_any(entry)
        wanted = self._policy.confirmations
        if receipt is None or wanted <= 1:
            return receipt
        block = receipt["blockNumber"]
        if self._node.head().number - block + 1 < wanted:
            return None
        return receipt if self._node.block_hash(block) == _hex(receipt["blockHash"]) else None

    def _receipt_of_any(self, entry: OutboxEntry) -> TxReceipt | None:
        for attempt in reversed(entry.attempts):
            receipt = self._node.receipt(attempt.transaction)
            if receipt is not None:
                return receipt
        return None

    def _finish(self, entry: OutboxEntry, receipt: TxReceipt) -> Receipt:
        """Note the outcome and return it, or raise CallReverted with the contract's reason."""
        succeeded = receipt["status"] == 1
        transaction = _hex(receipt["transactionHash"])
        if entry.live:
            state = State.MINED if succeeded else State.REVERTED
            self._note_outcome(entry, state, transaction)
        if not succeeded:
            reason, words = self._why_reverted(entry, receipt)
            raise CallReverted(
                f"{entry.describe} was refused in block {receipt['blockNumber']} (transaction {transaction}): {words}.",
                reason=reason,
                transaction=transaction,
            )
        return Receipt(
            key=entry.key,
            transaction=transaction,
            block=receipt["blockNumber"],
            block_hash=_hex(receipt["blockHash"]),
            nonce=entry.nonce,
            gas_used=receipt["gasUsed"],
            fee_wei=receipt["gasUsed"] * receipt.get("effectiveGasPrice", entry.newest.fees.max_fee_wei),
            raw=receipt,
        )

    def _note_outcome(self, entry: OutboxEntry, state: State, transaction: str) -> None:
        """Move the entry to the done ones. Should that fail, whoever tends the account next does it."""
        try:
            for _ in range(_ROUNDS):
                if self._store.settle(self.account, entry, entry.moved(state, mined=transaction)):
                    return
                changed = self._store.find(self.account, entry.key)
                if changed is None or not changed.live or changed.nonce != entry.nonce:
                    return
                entry = changed
        except OutboxStoreError as error:
            logger.warning("outbox could not note a receipt: key=%s error=%s", entry.key, error)

    def _why_reverted(self, entry: OutboxEntry, receipt: TxReceipt) -> tuple[str | None, str]:
        """Run a reverted transaction once more, on the state after its block, to hear the contract's
        reason.
        """
        if receipt["gasUsed"] >= entry.gas:
            return None, f"it ran out of gas ({entry.gas} units)"
        transaction = {"from": self._sender, "to": entry.to, "data": entry.data, "value": entry.value_wei}
        try:
            self._node.simulate(transaction, block=receipt["blockNumber"])
        except CallReverted as error:
            return error.reason, str(error)
        except ChainError as error:
            return None, f"the reason could not be found out ({error})"
        return None, "something before it in the same block stood in its way"


def _hex(value: bytes) -> str:
    return "0x" + HexBytes(value).hex()
