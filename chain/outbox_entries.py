"""What the outbox remembers: an entry per step with its nonce, and the signed attempts at it.

Values and their JSON form only; who may change them is `chain/outbox_store.py`, when and why
`chain/outbox.py`.

SIGNED    saved; whether a node has it is not known yet SENT      a node accepted one of the attempts: the
nonce is used up MINED     in a block and successful REVERTED  in a block and refused by the contract: gas
is paid, the step is not done
"""

import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from web3.types import TxReceipt

from chain.fees import Fees


class State(StrEnum):
    """How far an entry is."""

    SIGNED = "signed"
    SENT = "sent"
    MINED = "mined"
    REVERTED = "reverted"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One signed transaction: its bytes and hash (both 0x…), what it offers, when it was signed (unix
    seconds).
    """

    transaction: str
    raw: str
    fees: Fees
    at: float


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A step on its way: one nonce, and the attempts at it (newest last), each of which may be the one that
    is mined.

    `deadline` is the last second (unix) at which the step makes sense, None for no limit. `data` is 0x….
    """

    key: str
    describe: str
    nonce: int
    to: str
    data: str
    value_wei: int
    gas: int
    deadline: float | None
    state: State
    attempts: tuple[Attempt, ...]
    mined: str | None = None

    @property
    def live(self) -> bool:
        """Not known to be in a block."""
        return self.state in (State.SIGNED, State.SENT)

    @property
    def newest(self) -> Attempt:
        """The attempt that offers most."""
        return self.attempts[-1]

    def moved(self, state: State, *, mined: str | None = None) -> "OutboxEntry":
        """The same entry in another state; `mined` is the hash of the attempt that is in a block."""
        return replace(self, state=state, mined=mined)

    def with_attempt(self, attempt: Attempt) -> "OutboxEntry":
        """The same entry with one more attempt."""
        return replace(self, attempts=(*self.attempts, attempt))

    def renewed(self, now: float) -> "OutboxEntry":
        """The same entry, sent and not mined, as if its newest attempt had been signed now."""
        newest = replace(self.newest, at=now)
        return replace(self, state=State.SENT, mined=None, attempts=(*self.attempts[:-1], newest))

    def to_json(self) -> str:
        """Canonical: equal entries have equal JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "OutboxEntry":
        """Inverse of `to_json`."""
        raw: dict[str, Any] = json.loads(text)
        attempts = tuple(
            Attempt(one["transaction"], one["raw"], Fees(**one["fees"]), one["at"]) for one in raw["attempts"]
        )
        return cls(**{**raw, "state": State(raw["state"]), "attempts": attempts})


@dataclass(frozen=True, slots=True)
class Receipt:
    """A step that is done: transaction (0x…), block, gas used and what it cost;

    `logs` as the chain returned them.
    """

    key: str
    transaction: str
    block: int
    block_hash: str
    nonce: int
    gas_used: int
    fee_wei: int
    raw: TxReceipt = field(repr=False, compare=False)
