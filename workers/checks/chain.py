"""The chain: endpoints, contracts, and the accounts that act on them."""

from __future__ import annotations

import stat
import time
from pathlib import Path

from web3 import Web3

from chain import ChainSettings, Registry, Signer, ValidatorPool, load_signers
from chain.connection import probe_chain_id, redact, web3_for
from chain.errors import ChainError
from workers.checks.model import Check, Status, failed, ok, warning
from workers.settings import WorkersSettings

PATIENCE_SECONDS = 5.0
STALE_SECONDS = 180.0
LEAST_BALANCE_WEI = 10**16

_WEI_PER_ETHER = 10**18
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_CONTAINER_SECRETS = Path("/run/secrets")


def check_endpoints(settings: ChainSettings) -> tuple[Web3 | None, list[Check]]:
    """Every endpoint of FITCHAIN_RPC_URL; also a connection to the first that will do."""
    usable: Web3 | None = None
    checks: list[Check] = []
    for url in settings.endpoints:
        check, w3 = _check_endpoint(url, settings.chain_id)
        checks.append(check)
        usable = usable or w3
    if usable is not None:  # one that answers is enough to work with
        checks = [_softened(check) for check in checks]
    return usable, checks


def check_contracts(w3: Web3, settings: ChainSettings) -> tuple[ValidatorPool | None, list[Check]]:
    """Whether pool and registry are there and belong together."""
    if not settings.pool:
        return None, [
            failed(
                "contracts",
                "FITCHAIN_POOL is not set",
                "Set FITCHAIN_POOL and FITCHAIN_REGISTRY; `fitchain-verifier deploy` makes and prints them.",
            )
        ]
    try:
        pool = ValidatorPool(w3, settings.pool)
        registry = Registry(w3, settings.registry or pool.registry_address)
        pools, terms = registry.pools(), pool.terms()
    except ChainError as error:
        return None, [failed("contracts", str(error), "Check FITCHAIN_POOL, FITCHAIN_REGISTRY and FITCHAIN_RPC_URL.")]
    stake = terms.stake_per_slot_wei / _WEI_PER_ETHER
    checks = [ok("contracts", f"pool {pool.address}, registry {registry.address}, {stake:g} ETH of stake a slot")]
    if registry.address != pool.registry_address:
        checks.append(
            failed(
                "registry",
                f"the pool works with the registry {pool.registry_address}, not with FITCHAIN_REGISTRY",
                f"Set FITCHAIN_REGISTRY={pool.registry_address}, or choose that registry's pool.",
            )
        )
    elif pool.address not in pools:
        checks.append(
            failed(
                "registry",
                "the registry does not let this pool record results: no challenge can be created",
                "Its owner has to add the pool (Registry.addPool).",
            )
        )
    return pool, checks


def check_keys(settings: ChainSettings, w3: Web3 | None, pool: ValidatorPool | None, *, needed: bool) -> list[Check]:
    """Whether keys can be loaded and are kept well; whether their accounts have funds and stake."""
    if not settings.has_keys:
        if needed:
            return [
                failed(
                    "keys",
                    "no key is configured",
                    "Set FITCHAIN_KEYSTORE and FITCHAIN_KEYSTORE_PASSWORD_FILE;"
                    " `fitchain-verifier keystore new` makes a keyfile.",
                )
            ]
        return [ok("keys", "none here (only submit workers need them)")]
    try:
        signers = load_signers(settings)
    except ChainError as error:
        return [failed("keys", str(error), "")]
    checks = [ok("keys", ", ".join(signers)), *_check_files(settings)]
    if settings.private_key is not None:
        checks.append(
            warning(
                "key in the environment",
                "FITCHAIN_PRIVATE_KEY is for development: other programs of this user can read it",
                "Use an encrypted keyfile and a password file instead.",
            )
        )
    if w3 is not None:
        for signer in signers.values():
            checks += _check_account(w3, pool, signer)
    return checks


def check_accounts(workers: WorkersSettings, *, needed: bool) -> list[Check]:
    """The accounts that a dispatcher serves."""
    wrong = [account for account in workers.accounts if not Web3.is_address(account)]
    if wrong:
        return [failed("accounts", f"FITCHAIN_ACCOUNTS holds {wrong[0]!r}, which is no address", "Correct it.")]
    if not workers.accounts:
        detail, advice = (
            "FITCHAIN_ACCOUNTS is empty",
            "The dispatcher needs the addresses of your verifier accounts.",
        )
        return [failed("accounts", detail, advice) if needed else warning("accounts", detail, advice)]
    return [ok("accounts", ", ".join(workers.accounts))]


def _check_endpoint(url: str, expected: int | None) -> tuple[Check, Web3 | None]:
    name = "chain"
    advice = "Start the node, or correct FITCHAIN_RPC_URL."
    try:
        served = probe_chain_id(url, PATIENCE_SECONDS)
    except ChainError as error:
        return failed(name, str(error), advice), None
    if expected is not None and served != expected:
        return failed(
            name,
            f"{redact(url)} serves chain {served}, but FITCHAIN_CHAIN_ID is {expected}",
            "Correct one of the two.",
        ), None
    w3 = web3_for(url, PATIENCE_SECONDS)
    block = w3.eth.get_block("latest")
    age = max(0.0, time.time() - block["timestamp"])
    where = f"{redact(url)}, chain {served}, block {block['number']}, {age:.0f} s old"
    if age > STALE_SECONDS:
        return warning(
            name,
            where,
            "Is the node in sync? (A development chain that mines on demand is quiet between transactions.)",
        ), w3
    return ok(name, where), w3


def _softened(check: Check) -> Check:
    if check.status is not Status.FAILED:
        return check
    return warning(check.name, check.detail, check.advice + " (Another endpoint answers.)")


def _check_files(settings: ChainSettings) -> list[Check]:
    """Secrets that others may read. Orchestrators' secrets in a container of their own are left alone."""
    checks = []
    for path in (settings.keystore, settings.keystore_password_file):
        if path is None or not path.exists() or _CONTAINER_SECRETS in path.absolute().parents:
            continue
        mode = path.stat().st_mode
        if mode & _OTHERS & ~(stat.S_IXGRP | stat.S_IXOTH) and not (path.is_dir() and not mode & stat.S_IROTH):
            checks.append(
                warning(
                    "key files",
                    f"{path} can be read by others (mode {stat.S_IMODE(mode):o})",
                    f"chmod {'700' if path.is_dir() else '600'} {path}",
                )
            )
    return checks


def _check_account(w3: Web3, pool: ValidatorPool | None, signer: Signer) -> list[Check]:
    name = f"account {signer.address[:8]}…"
    try:
        balance = int(w3.eth.get_balance(Web3.to_checksum_address(signer.address)))
        account = pool.verifier(signer.address) if pool is not None else None
    except (ChainError, OSError) as error:
        return [failed(name, f"cannot be read: {error}", "Check the chain first.")]
    checks = []
    if balance < LEAST_BALANCE_WEI:
        text = f"has {balance / _WEI_PER_ETHER:g} ETH: not enough for gas"
        checks.append(failed(name, text, f"Send some ether to {signer.address}."))
    if account is None:
        return checks or [ok(name, f"{balance / _WEI_PER_ETHER:g} ETH")]
    if account.stake_wei == 0:
        checks.append(warning(name, "has no stake, so it is never drawn", "fitchain-verifier stake deposit AMOUNT"))
    elif account.slots == 0 and account.active == 0:
        checks.append(warning(name, "has less stake than one slot needs, so it is never drawn", "Deposit more stake."))
    if checks:
        return checks
    return [
        ok(
            name,
            f"{balance / _WEI_PER_ETHER:g} ETH, stake {account.stake_wei / _WEI_PER_ETHER:g} ETH, "
            f"{account.slots} free slots, {account.active} open, "
            f"minimum bounty {account.minimum_bounty_wei / _WEI_PER_ETHER:g} ETH",
        )
    ]
