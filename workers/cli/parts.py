"""The parts that commands work with, made from the settings: chain, contracts, the account that signs, the
sending.

Errors of the parts go up unchanged; `failures` explains them.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from workers.cli.errors import misconfigured

if TYPE_CHECKING:
    from web3 import Web3

    from chain import ChainSettings, ContractCall, Outbox, Receipt, Registry, Signer, ValidatorPool

GAS_MARGIN = 2.0
"""Gas allowed beyond the estimate. What opening a challenge takes depends on who is drawn in the block that
mines it; what is allowed and not used costs nothing."""

_KEYS = (
    "Set FITCHAIN_KEYSTORE (an encrypted keyfile or a folder of them: `fitchain-verifier keystore new`)"
    " and FITCHAIN_KEYSTORE_PASSWORD_FILE."
)


@dataclass(frozen=True)
class ChainParts:
    """The chain of the settings, connected when it is first used."""

    settings: ChainSettings

    @classmethod
    def load(cls) -> ChainParts:
        """Read the settings. Raises SettingsError."""
        from chain import ChainSettings

        return cls(ChainSettings.load())

    @cached_property
    def w3(self) -> Web3:
        """The first healthy endpoint. Raises EndpointUnavailable or WrongChain."""
        from chain import connect

        return connect(self.settings)

    @cached_property
    def pool(self) -> ValidatorPool:
        """The validator pool. Raises SettingsError or ContractMissing."""
        from chain import ValidatorPool

        return ValidatorPool(self.w3, self.settings.pool or None)

    @cached_property
    def registry(self) -> Registry:
        """The registry: the configured one, else the pool's. Raises SettingsError or ContractMissing."""
        from chain import Registry

        if not self.settings.registry and self.settings.pool:
            return Registry(self.w3, self.pool.registry_address)
        return Registry(self.w3, self.settings.registry or None)

    @cached_property
    def signers(self) -> dict[str, Signer]:
        """All accounts with a key here. Raises KeystoreError."""
        from chain import load_signers

        return load_signers(self.settings)

    def signer(self, account: str | None) -> Signer:
        """The account that signs: the one named, else the only one.

        Raises KeystoreError, UnknownAccount, or CommandError where there is none or a choice to be made.
        """
        from chain.accounts import signer_for

        if account is not None:
            return signer_for(self.signers, account)
        if not self.signers:
            raise misconfigured("There is no key here to sign with.", _KEYS)
        if len(self.signers) > 1:
            raise misconfigured(
                f"There are {len(self.signers)} accounts with a key here: say which one by --account.",
                "They are: " + ", ".join(self.signers),
            )
        return next(iter(self.signers.values()))

    def addresses(self) -> tuple[str, ...]:
        """The accounts that are ours: those of FITCHAIN_ACCOUNTS, else those with a key here."""
        from workers.settings import WorkersSettings

        return WorkersSettings().accounts or tuple(self.signers)

    def outbox(self, signer: Signer) -> Outbox:
        """What sends for an account: through FITCHAIN_OUTBOX_URL where submit workers share it, else on its
        own.
        """
        from chain import MemoryOutboxStore, Outbox, RedisOutboxStore
        from chain.outbox import OutboxPolicy

        store = RedisOutboxStore(self.settings.outbox_url) if self.settings.outbox_url else MemoryOutboxStore()
        policy = replace(OutboxPolicy.from_settings(self.settings), gas_margin=GAS_MARGIN)
        return Outbox(self.w3, signer, store, policy=policy)

    def send(self, signer: Signer, call: ContractCall) -> Receipt:
        """Simulate a call, send it and wait until it is mined.

        Raises ChainError; when the simulation is refused nothing was sent.
        """
        return self.outbox(signer).send(f"command:{secrets.token_hex(8)}", call)

    def simulate(self, signer: Signer, call: ContractCall) -> None:
        """Run a call without sending it. Raises CallReverted, with the contract's words, if it would be
        refused.
        """
        from chain.node import Node

        transaction = {"from": signer.address, "to": call.to, "data": call.data, "value": call.value_wei}
        Node(self.w3).simulate(transaction)

    def now(self) -> float:
        """The chain's time: that of its newest block, or this host's where that is ahead."""
        return max(time.time(), float(self.w3.eth.get_block("latest")["timestamp"]))
