"""The world of the demonstration: services, contracts, accounts with stake, and the processes of the cluster.

Everything lives in one private folder. The verifiers' keys are encrypted keyfiles, as in production; each submit
worker gets one of them and nobody else any.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from web3 import Web3

from chain import Registry, ValidatorPool, connect
from chain.accounts import LocalSigner, Signer, create_keystore, load_signers
from chain.calls import ContractCall
from chain.challenges import PoolTerms
from chain.deployment import Deployment, deploy
from chain.outbox import Outbox
from chain.outbox_store import MemoryOutboxStore
from chain.settings import ChainSettings
from compose.local import LocalStack
from compose.services import free_port
from storage import IPFS
from workers.roles import RoleName, worker_environment

VERIFIERS: Final = 3
ETHER: Final = 10**18
STAKE_WEI: Final = 4 * ETHER
FUNDS_WEI: Final = 10 * ETHER
MINIMUM_SHARE_WEI: Final = ETHER // 1000
SLOT_STAKE_WEI: Final = ETHER
TICK_SECONDS: Final = 0.5
EVALUATE_WORKERS: Final = 2

# The development chain's own published keys: worthless everywhere else.
DEVELOPMENT_KEYS: Final = {
    "deployer": "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "provider": "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "consumer": "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
}


@dataclass(frozen=True)
class Actor:
    """Somebody with an account who sends transactions through an outbox of their own."""

    name: str
    signer: Signer
    outbox: Outbox

    @property
    def address(self) -> str:
        """The account."""
        return self.signer.address


@dataclass(frozen=True)
class World:
    """What the demonstration acts on."""

    stack: LocalStack
    deployment: Deployment
    registry: Registry
    pool: ValidatorPool
    ipfs: IPFS
    provider: Actor
    consumer: Actor
    verifiers: tuple[str, ...]
    flower_url: str
    flower_auth: str
    builder: WorldBuilder


class WorldBuilder:
    """Builds a world step by step, so that each step can be shown."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self._settings = ChainSettings(rpc_url=stack.url("chain"))
        self.w3 = connect(self._settings)
        self._keys = stack.folder / "keys"
        self._bank = self.actor("deployer")

    def actor(self, name: str) -> Actor:
        """One of the development chain's rich accounts."""
        return self._act(name, LocalSigner.from_key(DEVELOPMENT_KEYS[name]))

    def deploy(self) -> Deployment:
        """Put both contracts on the chain, with windows short enough to watch."""
        terms = PoolTerms(
            stake_per_slot_wei=SLOT_STAKE_WEI,
            minimum_share_wei=MINIMUM_SHARE_WEI,
            withdrawal_delay_seconds=60,
            minimum_window_seconds=5,
        )
        deployment = deploy(self.w3, self.actor("deployer").signer, terms=terms)
        deployment.save(self._stack.folder / "deployment.json")
        return deployment

    def verifiers(self, deployment: Deployment) -> tuple[str, ...]:
        """Create an encrypted keyfile for each verifier, fund it, and let it stake."""
        pool = ValidatorPool(self.w3, deployment.pool)
        return tuple(self._verifier(index, pool) for index in range(1, VERIFIERS + 1))

    def verifier_signer(self, index: int) -> Signer:
        """The account of the verifier with this number (from 1), from its keyfile."""
        return next(iter(load_signers(self._keystore(index)).values()))

    def fund(self, address: str) -> None:
        """Send an account enough ether to act."""
        self._bank.outbox.send(f"fund:{address}", _transfer(address, FUNDS_WEI))

    def _verifier(self, index: int, pool: ValidatorPool) -> str:
        folder = self._keys / f"verifier-{index}"
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        password = folder / "password"
        password.write_text(secrets.token_urlsafe(24), encoding="utf-8")
        password.chmod(0o600)
        create_keystore(folder / "keystore", password.read_text(encoding="utf-8"))
        account = self.verifier_signer(index)
        self.fund(account.address)
        verifier = self._act(f"verifier {index}", account)
        verifier.outbox.send(f"minimum:{index}", pool.set_minimum_bounty_call(MINIMUM_SHARE_WEI))
        verifier.outbox.send(f"stake:{index}", pool.deposit_call(STAKE_WEI))
        return account.address

    def _keystore(self, index: int) -> ChainSettings:
        folder = self._keys / f"verifier-{index}"
        return ChainSettings(
            rpc_url=self._stack.url("chain"),
            keystore=folder / "keystore",
            keystore_password_file=folder / "password",
        )

    def _act(self, name: str, signer: Signer) -> Actor:
        return Actor(name, signer, Outbox(self.w3, signer, MemoryOutboxStore()))

    def environment(self, deployment: Deployment) -> dict[str, str]:
        """What every process of the cluster is told."""
        return {
            **self._stack.environment(),
            "FITCHAIN_REGISTRY": deployment.registry,
            "FITCHAIN_POOL": deployment.pool,
            "FITCHAIN_TICK_SECONDS": str(TICK_SECONDS),
            "FITCHAIN_COMMIT_RESERVE_SECONDS": "20",
        }

    def key_environment(self, index: int) -> dict[str, str]:
        """What the submit worker of a verifier is told besides."""
        folder = self._keys / f"verifier-{index}"
        return {
            "FITCHAIN_KEYSTORE": str(folder / "keystore"),
            "FITCHAIN_KEYSTORE_PASSWORD_FILE": str(folder / "password"),
            "FITCHAIN_JOURNAL": str(folder / "journal.sqlite"),
        }

    def start_cluster(self, deployment: Deployment, verifiers: tuple[str, ...]) -> tuple[str, str]:
        """Start workers, dispatcher and Flower; return Flower's address and its `user:password`."""
        common = self.environment(deployment)
        self.start_fetch_worker(deployment)
        for index in range(1, EVALUATE_WORKERS + 1):
            self.start_evaluate_worker(f"evaluate-{index}", deployment)
        for index in range(1, len(verifiers) + 1):
            self.start_submit_worker(index, deployment)
        self.start_dispatcher("dispatcher", deployment, verifiers)
        port, auth = free_port(), f"operator:{secrets.token_urlsafe(12)}"
        flower = {**common, "FITCHAIN_FLOWER_PORT": str(port), "FITCHAIN_FLOWER_AUTH": auth}
        self._start("flower", ["flower"], flower)
        return f"http://127.0.0.1:{port}", auth

    def start_fetch_worker(self, deployment: Deployment) -> None:
        """The worker that fetches."""
        arguments = ["worker", "fetch", "--concurrency", "2"]
        self._start("fetch", arguments, self.environment(deployment), RoleName.FETCH)

    def start_submit_worker(self, index: int, deployment: Deployment, *, processes: int = 1) -> None:
        """The worker that holds the key of the verifier with this number (from 1)."""
        name = f"submit-{index}"
        environment = {**self.environment(deployment), **self.key_environment(index)}
        arguments = ["worker", "submit", "--name", name, "--concurrency", str(processes)]
        self._start(name, arguments, environment, RoleName.SUBMIT)

    def start_evaluate_worker(self, name: str, deployment: Deployment) -> None:
        """One more worker that evaluates."""
        self._start(name, ["worker", "evaluate", "--name", name], self.environment(deployment), RoleName.EVALUATE)

    def start_dispatcher(self, name: str, deployment: Deployment, verifiers: tuple[str, ...]) -> None:
        """One more dispatcher: the first is active, the others stand by."""
        accounts = {"FITCHAIN_ACCOUNTS": ",".join(verifiers)}
        self._start(name, ["dispatcher"], {**self.environment(deployment), **accounts})

    def wait_for_workers(self) -> None:
        """Wait until every worker says that it is ready.

        Raises:
            compose.errors.ServiceFailed: one ended, or took too long; the message holds the end of its log.
        """
        names = ["fetch"]
        names += [f"evaluate-{index}" for index in range(1, EVALUATE_WORKERS + 1)]
        names += [f"submit-{index}" for index in range(1, VERIFIERS + 1)]
        for name in names:
            self._stack.wait_for(name, " ready.", seconds=120)

    def _start(
        self, name: str, arguments: list[str], environment: Mapping[str, str], role: RoleName | None = None
    ) -> None:
        if role is not None:
            environment = worker_environment(role, environment)
        self._stack.start_process(name, [sys.executable, "-m", "workers.cli", *arguments], environment)


def _transfer(to: str, wei: int) -> ContractCall:
    """A plain transfer of ether."""
    return ContractCall(to=Web3.to_checksum_address(to), data=b"", value_wei=wei, describe=f"send {wei} wei to {to}")


def private_folder(chosen: Path | None) -> Path:
    """The folder of the demonstration: the chosen one, or a new one below the user's cache folder."""
    if chosen is not None:
        return chosen.expanduser().absolute()
    base = Path("~/.cache/fitchain/demo").expanduser()
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    return base / secrets.token_hex(4)
