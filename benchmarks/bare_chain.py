"""The development chain without anything in between: signed transactions of its own accounts, sent by hand.

The floors of the benchmarks that end on a chain are made of this: what the same transactions cost somebody who knows
the vote already and has no queue, no journal, no simulation and nobody beside him. `BlockWatch` tells when blocks came.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from eth_account import Account
from hexbytes import HexBytes
from web3 import HTTPProvider, Web3
from web3.exceptions import TransactionNotFound
from web3.types import RPCEndpoint, TxReceipt

from benchmarks.errors import WrongAnswer
from chain.accounts import LocalSigner
from chain.calls import ContractCall

# The mnemonic that every development chain knows: its accounts exist nowhere else.
MNEMONIC: Final = "test test test test test test test test test test test junk"
FEE_WEI: Final = 100 * 10**9
POLL_SECONDS: Final = 0.002
_LOOK_SECONDS: Final = 0.01


class BareChain:
    """One development chain, its first twenty accounts, and their nonces, which nobody else may use meanwhile."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.w3 = Web3(HTTPProvider(url, request_kwargs={"timeout": 120}))
        self.chain_id = int(self.w3.eth.chain_id)
        Account.enable_unaudited_hdwallet_features()
        self._signers: dict[int, LocalSigner] = {}
        self._nonces: dict[str, int] = {}

    def signer(self, index: int) -> LocalSigner:
        """The development account of a number."""
        if index not in self._signers:
            account = Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
            self._signers[index] = LocalSigner(account)
        return self._signers[index]

    def send(self, call: ContractCall, signer: LocalSigner, *, gas: int) -> HexBytes:
        """Sign and hand in one transaction; does not wait."""
        if signer.address not in self._nonces:
            address = Web3.to_checksum_address(signer.address)
            self._nonces[signer.address] = self.w3.eth.get_transaction_count(address)
        raw = signer.sign_transaction(
            {
                "chainId": self.chain_id,
                "nonce": self._nonces[signer.address],
                "gas": gas,
                "maxFeePerGas": FEE_WEI,
                "maxPriorityFeePerGas": 10**9,
                "to": call.to,
                "data": call.data,
                "value": call.value_wei,
            }
        )
        sent = self.w3.eth.send_raw_transaction(raw)
        self._nonces[signer.address] += 1
        return sent

    def receipt(self, sent: HexBytes) -> TxReceipt:
        """Wait until it is mined.

        Raises:
            WrongAnswer: it reverted.
        """
        while True:
            try:
                found = self.w3.eth.get_transaction_receipt(sent)
            except TransactionNotFound:
                time.sleep(POLL_SECONDS)
                continue
            if found["status"] != 1:
                raise WrongAnswer(f"transaction {sent.to_0x_hex()} reverted")
            return found

    def do(self, call: ContractCall, signer: LocalSigner, *, gas: int) -> TxReceipt:
        """Send and wait."""
        return self.receipt(self.send(call, signer, gas=gas))

    def act_as(self, address: str, call: ContractCall) -> None:
        """Send as any account, whose key need not be known, and wait; its balance is topped up for it."""
        self._rpc("anvil_setBalance", address, hex(call.value_wei + 10 * 10**18))
        self._rpc("anvil_impersonateAccount", address)
        transaction = {"from": address, "to": call.to, "data": "0x" + call.data.hex(), "value": hex(call.value_wei)}
        self.receipt(HexBytes(self._rpc("eth_sendTransaction", transaction)))
        self._rpc("anvil_stopImpersonatingAccount", address)

    @contextmanager
    def one_block(self) -> Iterator[None]:
        """Mine what is sent inside into one block, whatever its gas: a block a transaction slows the chain down."""
        self._rpc("evm_setBlockGasLimit", hex(10**12))
        self._rpc("evm_setAutomine", False)
        try:
            yield
            self._rpc("evm_mine")
        finally:
            self._rpc("evm_setAutomine", True)

    def _rpc(self, method: str, *parameters: Any) -> Any:
        answer = self.w3.provider.make_request(cast("RPCEndpoint", method), list(parameters))
        if "error" in answer:
            raise WrongAnswer(f"{method}: {answer['error']}")
        return answer["result"]


class BlockWatch:
    """When each block was first seen, in Unix seconds of this host, to within the 10 ms between two looks."""

    def __init__(self) -> None:
        self._heights: list[int] = []
        self._times: list[float] = []

    def seen(self, block: int) -> float:
        """When the chain was first seen to be as high as this block; waits for it."""
        while not self._heights or self._heights[-1] < block:
            time.sleep(POLL_SECONDS)
        return self._times[bisect.bisect_left(self._heights, block)]

    def note(self, height: int, now: float) -> None:
        """Take in a look at the chain."""
        if not self._heights or height > self._heights[-1]:
            self._times.append(now)
            self._heights.append(height)


@contextmanager
def watching_blocks(url: str) -> Iterator[BlockWatch]:
    """Watch the chain grow while the body runs."""
    watch, stop = BlockWatch(), threading.Event()
    w3 = Web3(HTTPProvider(url))

    def look() -> None:
        while not stop.wait(_LOOK_SECONDS):
            watch.note(w3.eth.block_number, time.time())

    thread = threading.Thread(target=look, name="block-watch", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join(5)
