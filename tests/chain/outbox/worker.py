"""A submit worker in small: a process that sends gifts for one account through an outbox over Redis.

python -m tests.chain.outbox.worker '{"rpc": …, "redis": …, "account": 5, "keys": ["a", …], "die": null}'

`die` names the moment at which it kills itself: "before-save", "before-send", "after-send", "before-note"
or null. The receipts are printed as JSON lines.
"""

import json
import os
import signal
import sys
from typing import Any

from web3 import Web3

from chain.calls import ContractCall
from chain.connection import web3_for
from chain.node import Answer, Node
from chain.outbox import Outbox, OutboxPolicy, RedisOutboxStore
from chain.outbox_entries import OutboxEntry, State
from tests.evm import development_signer

FRIEND = Web3.to_checksum_address("0x" + "11" * 20)


def gift(number: int = 1) -> ContractCall:
    """A call that needs no contract: some wei for somebody."""
    return ContractCall(FRIEND, b"", number, f"gift of {number} wei")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class MortalStore(RedisOutboxStore):
    """Dies when an entry in a certain state is about to be saved."""

    fatal_state: State | None = None

    def save(self, account: str, lease: Any, entry: OutboxEntry) -> None:
        if entry.state is self.fatal_state:
            _die()
        super().save(account, lease, entry)


def _arm(store: MortalStore, moment: str | None) -> None:
    broadcast = Node.broadcast

    def dying(node: Node, raw: bytes) -> tuple[Answer, str]:
        if moment == "before-send":
            _die()
        answer = broadcast(node, raw)
        if moment == "after-send":
            _die()
        return answer

    Node.broadcast = dying  # type: ignore[method-assign, assignment]
    store.fatal_state = {"before-save": State.SIGNED, "before-note": State.SENT}.get(moment or "")


def main() -> None:
    order = json.loads(sys.argv[1])
    store = MortalStore(order["redis"], lock_seconds=2.0)
    _arm(store, order.get("die"))
    outbox = Outbox(
        web3_for(order["rpc"]),
        development_signer(order["account"]),
        store,
        policy=OutboxPolicy(poll_seconds=0.1),
    )
    for key in order["keys"]:
        receipt = outbox.send(key, gift())
        print(json.dumps({"key": key, "nonce": receipt.nonce, "tx": receipt.transaction}), flush=True)


if __name__ == "__main__":
    main()
