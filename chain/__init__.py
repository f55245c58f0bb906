"""Ethereum: contracts, accounts, challenges, votes and transactions.

A library that knows neither Celery nor content; usable from a notebook (`from chain import Registry,
ValidatorPool`). The names below are loaded when they are first used, because web3 takes a second to import
and settings or errors alone should not cost it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chain.accounts import LocalSigner, Signer, create_keystore, load_signers
    from chain.calls import ContractCall
    from chain.challenges import (
        Assignment,
        Ballot,
        Challenge,
        ChallengeRef,
        Model,
        Phase,
        PoolTerms,
        Result,
        Terms,
        Verdict,
        VerifierAccount,
        VoteView,
    )
    from chain.connection import connect
    from chain.deployment import Deployment, deploy
    from chain.errors import ChainError
    from chain.history import ChallengeEvent, challenge_events
    from chain.journal import Journal
    from chain.outbox import MemoryOutboxStore, Outbox, Receipt, RedisOutboxStore
    from chain.owed import Step, owed_step
    from chain.pool import ValidatorPool
    from chain.registry import Registry
    from chain.reverts import decode_revert
    from chain.settings import ChainSettings
    from chain.votes import Vote, commitment, derive_salt, recover_vote

_HOME = {
    "accounts": ("LocalSigner", "Signer", "create_keystore", "load_signers"),
    "calls": ("ContractCall",),
    "challenges": (
        "Assignment",
        "Ballot",
        "Challenge",
        "ChallengeRef",
        "Model",
        "Phase",
        "PoolTerms",
        "Result",
        "Terms",
        "Verdict",
        "VerifierAccount",
        "VoteView",
    ),
    "connection": ("connect",),
    "deployment": ("Deployment", "deploy"),
    "errors": ("ChainError",),
    "history": ("ChallengeEvent", "challenge_events"),
    "journal": ("Journal",),
    "outbox": ("MemoryOutboxStore", "Outbox", "Receipt", "RedisOutboxStore"),
    "owed": ("Step", "owed_step"),
    "pool": ("ValidatorPool",),
    "registry": ("Registry",),
    "reverts": ("decode_revert",),
    "settings": ("ChainSettings",),
    "votes": ("Vote", "commitment", "derive_salt", "recover_vote"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Assignment",
    "Ballot",
    "ChainError",
    "ChainSettings",
    "Challenge",
    "ChallengeEvent",
    "ChallengeRef",
    "ContractCall",
    "Deployment",
    "Journal",
    "LocalSigner",
    "MemoryOutboxStore",
    "Model",
    "Outbox",
    "Phase",
    "PoolTerms",
    "Receipt",
    "RedisOutboxStore",
    "Registry",
    "Result",
    "Signer",
    "Step",
    "Terms",
    "ValidatorPool",
    "Verdict",
    "VerifierAccount",
    "Vote",
    "VoteView",
    "challenge_events",
    "commitment",
    "connect",
    "create_keystore",
    "decode_revert",
    "deploy",
    "derive_salt",
    "load_signers",
    "owed_step",
    "recover_vote",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'chain' has no attribute {name!r}")
    return getattr(import_module(f"chain.{module}"), name)


def __dir__() -> list[str]:
    return __all__
