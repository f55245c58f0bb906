"""The parts that a task needs, built once per process from the settings, at first use.

A `fetch` worker thereby never builds a sandbox and an `evaluate` worker never looks for a key. Tests replace a part by
replacing its function here. What the parts do is said where they live; no decisions are made in this module.
"""

from __future__ import annotations

import functools
import threading

import redis
from web3 import Web3

from chain import ValidatorPool
from chain.accounts import Signer, load_signers
from chain.connection import connect
from chain.errors import UnknownAccount
from chain.journal import Journal
from chain.outbox import Outbox, OutboxPolicy
from chain.outbox_store import RedisOutboxStore
from chain.settings import ChainSettings
from storage import IPFS, Content, StorageSettings
from tasks.leases import Leases
from tasks.sandbox import Sandbox
from tasks.settings import TasksSettings

_building = threading.RLock()


@functools.cache
def settings() -> TasksSettings:
    """The settings of this package."""
    return TasksSettings()


@functools.cache
def broker() -> redis.Redis:
    """A client of the broker's Redis, for leases and for keeping deliveries alive."""
    return redis.Redis.from_url(
        settings().broker_url.get_secret_value(),
        socket_timeout=10,
        socket_connect_timeout=10,
        health_check_interval=25,
    )


@functools.cache
def leases() -> Leases:
    """The leases of this cluster."""
    return Leases(broker())


@functools.cache
def content() -> Content:
    """The lookup road of this host: disk, shared cache, IPFS."""
    return Content.from_settings(StorageSettings())


@functools.cache
def ipfs() -> IPFS:
    """The node through which reports are published."""
    return IPFS()


@functools.cache
def sandbox() -> Sandbox:
    """The fork server of this process; dies with it."""
    with _building:
        return Sandbox.from_settings(settings())


@functools.cache
def chain_settings() -> ChainSettings:
    """Settings of the chain package."""
    return ChainSettings()


@functools.cache
def web3() -> Web3:
    """A connection to the first healthy endpoint."""
    return connect(chain_settings())


@functools.cache
def pool(address: str) -> ValidatorPool:
    """The validator pool at an address."""
    return ValidatorPool(web3(), address)


@functools.cache
def signers() -> dict[str, Signer]:
    """The accounts whose keys this process holds, by lower-case address."""
    return {address.lower(): signer for address, signer in load_signers(chain_settings()).items()}


def signer(account: str) -> Signer:
    """The signer of an account.

    Raises:
        UnknownAccount: this worker holds no key for it.
    """
    try:
        return signers()[account.lower()]
    except KeyError:
        known = ", ".join(sorted(signers())) or "none"
        raise UnknownAccount(
            f"this worker holds no key for {account} (it holds: {known}); add the keyfile to FITCHAIN_KEYSTORE"
        ) from None


@functools.cache
def outbox(account: str) -> Outbox:
    """The outbox of an account, shared with every other submit worker through the broker's Redis."""
    chain = chain_settings()
    store = RedisOutboxStore(chain.outbox_url or settings().broker_url.get_secret_value())
    return Outbox(web3(), signer(account), store, policy=OutboxPolicy.from_settings(chain))


@functools.cache
def journal() -> Journal:
    """This host's journal of votes."""
    return Journal(chain_settings().journal)


def forget() -> None:
    """Drop every part, so that the next use builds it anew (after a fork, or between tests)."""
    for part in (
        settings,
        broker,
        leases,
        content,
        ipfs,
        sandbox,
        chain_settings,
        web3,
        pool,
        signers,
        outbox,
        journal,
    ):
        part.cache_clear()


def close() -> None:
    """Stop what this process has started (the sandbox's fork server)."""
    if sandbox.cache_info().currsize:
        sandbox().close()
        sandbox.cache_clear()
