"""A real EVM for tests: an anvil process, its clock, and the contracts deployed on it with roles to act in.

`Anvil` is the process, `Evm` speaks to it as its unlocked development accounts, `Market` is a registry and a pool with
a model, a consumer and verifiers. Nothing here asserts; a refused transaction raises `Refused` with the contract's
own words. Set ANVIL_PATH, have anvil on PATH, or in `.local/bin` of the checkout.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from web3 import HTTPProvider, Web3

from chain.accounts import LocalSigner
from chain.calls import ContractCall
from chain.challenges import PoolTerms, Terms, Verdict
from chain.deployment import Deployment, deploy
from chain.pool import ValidatorPool
from chain.registry import Registry
from chain.reverts import revert_reason
from chain.votes import Vote, commitment

ETHER = 10**18
ACCOUNTS = 40
# The mnemonic that every development chain knows: its keys are public, its accounts exist nowhere else.
MNEMONIC = "test test test test test test test test test test test junk"
BLOCK_GAS = 30_000_000
TRANSACTION_GAS = 15_000_000
POOL_TERMS = PoolTerms(
    stake_per_slot_wei=ETHER,
    minimum_share_wei=ETHER // 1000,
    withdrawal_delay_seconds=1000,
    minimum_window_seconds=10,
)
TERMS = Terms(
    k=3,
    metric="accuracy",
    pass_mark=600_000,
    higher_passes=True,
    tolerance=100,
    commit_seconds=100,
    reveal_seconds=100,
)


class Refused(AssertionError):
    """A transaction that the contract refused; the message is the contract's own."""


def anvil_path() -> str | None:
    """Where anvil is, or None."""
    local = Path(__file__).parent.parent / ".local/bin/anvil"
    return os.environ.get("ANVIL_PATH") or shutil.which("anvil") or (str(local) if local.exists() else None)


def _die_with_parent() -> None:
    ctypes.CDLL("libc.so.6").prctl(1, signal.SIGKILL)


@contextmanager
def anvil(*, options: tuple[str, ...] = ()) -> Iterator[str]:
    """Run a development chain on a free port and yield its URL."""
    binary = anvil_path()
    if binary is None:
        pytest.fail("anvil is missing: run `make setup`, or set ANVIL_PATH")
    with tempfile.TemporaryDirectory(prefix="anvil-") as states:
        command = [binary, "--port", "0", "--accounts", str(ACCOUNTS), "--gas-limit", str(BLOCK_GAS)]
        process = subprocess.Popen(
            [*command, "--cache-path", states, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 -- it only calls prctl
        )
        try:
            yield f"http://{_listening(process)}"
        finally:
            process.kill()
            process.wait()


def _listening(process: subprocess.Popen[str]) -> str:
    """The address that anvil says it listens on; its later output is read to nowhere, lest it fill the pipe."""
    assert process.stdout is not None
    for line in process.stdout:
        match = re.search(r"Listening on ([\d.]+:\d+)", line)
        if match:
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return match[1]
    return pytest.fail("anvil ended before it listened")


class Evm:
    """A development chain whose clock moves by one second a block, and otherwise only when told to."""

    def __init__(self, url: str, *, steady_clock: bool = True) -> None:
        self.url = url
        self.w3 = Web3(HTTPProvider(url, request_kwargs={"timeout": 60}))
        self.accounts: list[str] = list(self.w3.eth.accounts)
        self.chain_id = self.w3.eth.chain_id
        if steady_clock:
            self.rpc("anvil_setBlockTimestampInterval", 1)

    def rpc(self, method: str, *parameters: Any) -> Any:
        """One raw JSON-RPC call; `Refused` if it came back with an error."""
        response = self.w3.provider.make_request(method, list(parameters))  # type: ignore[arg-type]
        if "error" in response:
            error = response["error"]
            raise Refused(revert_reason(_RpcError(error)) or str(error))
        return response["result"]

    def send(self, call: ContractCall, sender: str) -> Any:
        """Send as an unlocked account and return the receipt; `Refused` if the contract does not want it.

        Gas is not estimated: what opening a challenge costs depends on who is drawn in the block that mines it.
        """
        transaction = {
            "from": sender,
            "to": call.to,
            "data": "0x" + call.data.hex(),
            "value": hex(call.value_wei),
            "gas": hex(TRANSACTION_GAS),
        }
        sent = self.rpc("eth_sendTransaction", transaction)
        receipt = self.w3.eth.wait_for_transaction_receipt(sent, poll_latency=0.005)
        if receipt["status"] != 1:
            self.rpc("eth_call", transaction, hex(receipt["blockNumber"]))  # says why
            raise Refused("without a reason")
        return receipt

    def now(self) -> int:
        """The timestamp of the latest block."""
        return int(self.w3.eth.get_block("latest")["timestamp"])

    def move_to(self, timestamp: int) -> None:
        """Mine a block at this time, unless it is past."""
        if timestamp > self.now():
            self.next_at(timestamp)
            self.rpc("evm_mine")

    def next_at(self, timestamp: int) -> None:
        """The next block, and so the next transaction, will be at this time."""
        self.rpc("evm_setNextBlockTimestamp", hex(timestamp))

    def balance(self, address: str) -> int:
        """Wei of an account."""
        return int(self.w3.eth.get_balance(Web3.to_checksum_address(address)))

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Take back whatever happens inside."""
        snapshot = self.rpc("evm_snapshot")
        try:
            yield
        finally:
            self.rpc("evm_revert", snapshot)


class _RpcError(Exception):
    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("message", ""))
        self.data = error.get("data")


def development_signer(index: int) -> LocalSigner:
    """The key of the chain's development account number `index`."""
    from eth_account import Account

    Account.enable_unaudited_hdwallet_features()
    return LocalSigner(Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}"))


@dataclass
class Market:
    """Contracts on a chain and who acts on them. The salts of all votes are `salt`."""

    evm: Evm
    deployment: Deployment
    registry: Registry = field(init=False)
    pool: ValidatorPool = field(init=False)
    salt: bytes = b"\x07" * 32

    def __post_init__(self) -> None:
        self.registry = Registry(self.evm.w3, self.deployment.registry)
        self.pool = ValidatorPool(self.evm.w3, self.deployment.pool)
        self.deployer, self.owner, self.consumer, self.outsider = self.evm.accounts[:4]
        self.verifiers = self.evm.accounts[4:]

    @classmethod
    def open(cls, evm: Evm, terms: PoolTerms = POOL_TERMS) -> "Market":
        """Deploy as account 0."""
        return cls(evm, deploy(evm.w3, development_signer(0), terms=terms))

    def send(self, call: ContractCall, sender: str) -> Any:
        return self.evm.send(call, sender)

    def publish(self, schema: str = "QmModelSchema", owner: str | None = None) -> int:
        receipt = self.send(self.registry.create_model_call(schema), owner or self.owner)
        return self.registry.created_model(receipt["transactionHash"])

    def stake(self, count: int, *, slots: int = 1) -> list[str]:
        """Let the first `count` verifiers deposit for `slots` assignments each."""
        for verifier in self.verifiers[:count]:
            self.send(self.pool.deposit_call(slots * self.deployment.terms.stake_per_slot_wei), verifier)
        return self.verifiers[:count]

    def challenge(
        self,
        terms: Terms = TERMS,
        *,
        model: int = 1,
        bounty: int = 3 * ETHER,
        consumer: str | None = None,
        data_schema: str = "QmDataSchema",
    ) -> int:
        call = self.pool.create_challenge_call(model, data_schema, terms, bounty)
        receipt = self.send(call, consumer or self.consumer)
        return self.pool.created_challenge(receipt["transactionHash"])

    def panel(self, challenge: int) -> list[str]:
        return list(self.pool.challenge(challenge).verifiers)

    def commitment(self, challenge: int, verifier: str, vote: Vote) -> bytes:
        return commitment(
            chain_id=self.evm.chain_id,
            pool=self.pool.address,
            challenge_id=challenge,
            verifier=verifier,
            vote=vote,
            salt=self.salt,
        )

    def commit(self, challenge: int, verifier: str, vote: Vote) -> Any:
        call = self.pool.commit_call(challenge, self.commitment(challenge, verifier, vote))
        return self.send(call, verifier)

    def reveal(self, challenge: int, verifier: str, vote: Vote, *, cid: str = "QmReport") -> Any:
        return self.send(self.pool.reveal_call(challenge, vote.verdict, vote.score, self.salt, cid), verifier)

    def settle(self, challenge: int, sender: str | None = None) -> Any:
        return self.send(self.pool.settle_call(challenge), sender or self.outsider)

    def play(self, challenge: int, votes: list[Vote | str | None]) -> list[str]:
        """Let the panel vote in its order, wait for the deadlines if need be, settle, and return the panel.

        None does not commit, "silent" commits and does not reveal.
        """
        panel = self.panel(challenge)
        state = self.pool.challenge(challenge)
        for verifier, vote in zip(panel, votes, strict=True):
            if vote is not None:
                self.commit(challenge, verifier, vote if isinstance(vote, Vote) else valid(1))
        if None in votes:
            self.evm.move_to(state.commit_deadline + 1)
        for verifier, vote in zip(panel, votes, strict=True):
            if isinstance(vote, Vote):
                self.reveal(challenge, verifier, vote)
        if "silent" in votes:
            self.evm.move_to(state.reveal_deadline + 1)
        self.settle(challenge)
        return panel


def valid(score: int) -> Vote:
    return Vote(Verdict.VALID, score)


INVALID = Vote(Verdict.INVALID, 0)
UNAVAILABLE = Vote(Verdict.UNAVAILABLE, 0)


def replace_terms(terms: Terms, **changes: Any) -> Terms:
    """Terms with some of them changed."""
    return replace(terms, **changes)
