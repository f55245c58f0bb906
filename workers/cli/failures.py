"""From an exception to one sentence, one hint and one exit code.

Errors are found by the names of their classes along the inheritance, so that nothing needs to be imported to
explain what went wrong: an exception that was raised has its module loaded already, and those that were not
raised cost nothing. The table is complete for the errors of this project (a test holds it to that).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.cli.errors import CommandError
from workers.cli.exits import ExitCode

MOST_CHARACTERS = 2_000

_DOCTOR = "`fitchain-verifier doctor` checks every part and says what to do."
_REDIS = f"Is Redis running at FITCHAIN_BROKER_URL? {_DOCTOR}"
_CHAIN = f"Is FITCHAIN_RPC_URL right, and the node up? {_DOCTOR}"
_IPFS = f"Is the IPFS node of FITCHAIN_IPFS_API up? {_DOCTOR}"

_BAD, _DOWN, _LATE = ExitCode.BAD_INPUT, ExitCode.UNREACHABLE, ExitCode.TIMEOUT
_CHAIN_NO, _SETUP, _DEFECT = ExitCode.CHAIN_REFUSED, ExitCode.CONFIGURATION, ExitCode.INTERNAL

# By module and class: the exit code and, where the error's own sentence does not say it, what to do.
_KNOWN: Mapping[str, tuple[ExitCode, str]] = {
    "chain.errors.ChainError": (_CHAIN_NO, ""),
    "chain.errors.SettingsError": (_SETUP, ""),
    "chain.errors.KeystoreError": (_SETUP, ""),
    "chain.errors.UnknownAccount": (_SETUP, ""),
    "chain.errors.EndpointUnavailable": (_DOWN, _CHAIN),
    "chain.errors.WrongChain": (_SETUP, ""),
    "chain.errors.ContractMissing": (_SETUP, "`fitchain-verifier deploy` puts the contracts on a chain."),
    "chain.errors.NotFound": (_BAD, ""),
    "chain.errors.JournalError": (_SETUP, ""),
    "chain.errors.SignatureInvalid": (_BAD, ""),
    "chain.errors.StepExpired": (_LATE, ""),
    "chain.errors.NotMined": (_LATE, "Do not send it again: look for its transaction first."),
    "chain.errors.OutboxBusy": (_LATE, ""),
    "chain.errors.OutboxStoreError": (_DOWN, _REDIS),
    "storage.errors.StorageError": (_BAD, ""),
    "storage.errors.ContentNotFound": (
        _BAD,
        "Add it to an IPFS node that this host reaches (`fitchain-verifier publish FILE`), or check the CID.",
    ),
    "storage.errors.SourceUnavailable": (_DOWN, _IPFS),
    "storage.errors.StoreFull": (_SETUP, "Make room in FITCHAIN_STORE_DIR, or point it to another disk."),
    "tasks.errors.TasksError": (_BAD, ""),
    "tasks.errors.SandboxTimeout": (_LATE, "FITCHAIN_EVALUATION_SECONDS is how long an evaluation may take."),
    "tasks.errors.SandboxOutOfMemory": (
        _BAD,
        "FITCHAIN_EVALUATION_MEMORY_BYTES is how much an evaluation may use.",
    ),
    "tasks.errors.SandboxRefused": (_SETUP, _DOCTOR),
    "tasks.errors.EvaluationError": (_SETUP, ""),
    "workers.errors.WorkersError": (_SETUP, ""),
    "workers.errors.BrokerUnavailable": (_DOWN, _REDIS),
    "workers.errors.DemoFailed": (ExitCode.NEGATIVE, ""),
    "compose.errors.StackError": (_SETUP, ""),
    "redis.exceptions.AuthenticationError": (
        _SETUP,
        "Check the user and the password in FITCHAIN_BROKER_URL.",
    ),
    "redis.exceptions.RedisError": (_DOWN, _REDIS),
    "kombu.exceptions.OperationalError": (_DOWN, _REDIS),
    "celery.exceptions.TimeoutError": (_LATE, ""),
    "requests.exceptions.RequestException": (_DOWN, _CHAIN),
    "web3.exceptions.Web3Exception": (_DOWN, _CHAIN),
    "httpx.TransportError": (_DOWN, ""),
    "pydantic_settings.exceptions.SettingsError": (_SETUP, ""),
    "json.decoder.JSONDecodeError": (_BAD, ""),
    "builtins.UnicodeDecodeError": (_BAD, ""),
    "builtins.ConnectionError": (_DOWN, _DOCTOR),
    "builtins.TimeoutError": (_LATE, ""),
}

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")


@dataclass(frozen=True)
class Failure:
    """What is shown of an error: a sentence, what to do, and the exit code. `known` is False for a defect."""

    code: ExitCode
    sentence: str
    hint: str = ""
    known: bool = True


def failure_of(error: BaseException) -> Failure:
    """Explain an exception."""
    if isinstance(error, CommandError):
        return Failure(error.code, clean(str(error)), clean(error.hint))
    if _name(type(error)) == "pydantic_core._pydantic_core.ValidationError":
        return Failure(ExitCode.CONFIGURATION, settings_problem(error), _DOCTOR)
    for kind in type(error).__mro__:
        found = _KNOWN.get(_name(kind))
        if found is not None:
            return Failure(found[0], clean(str(error)) or kind.__name__, found[1])
    if isinstance(error, OSError):
        return _of_system(error)
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Failure(
        ExitCode.INTERNAL,
        f"This is a defect of fitchain-verifier, not of your input: {clean(words)}",
        "Run it again with --debug for the traceback, and report it.",
        known=False,
    )


def settings_problem(error: BaseException) -> str:
    """About settings that pydantic refused: names and reasons, never values, which may be secrets."""
    read: Any = error
    details = read.errors(include_input=False, include_url=False, include_context=False)
    title = str(getattr(error, "title", ""))
    prefix = "FITCHAIN_" if title.endswith("Settings") else ""
    parts = []
    for item in details:
        place = ".".join(str(part) for part in item["loc"])
        reason = str(item["msg"]).removeprefix("Value error, ")
        parts.append(f"{prefix}{place.upper() if prefix else place}: {reason}")
    what = "Settings that cannot be used" if prefix else f"This is no valid {title}"
    return clean(f"{what}. {'; '.join(parts)}")


def clean(text: str) -> str:
    """Text fit to be shown: one paragraph, without credentials in URLs."""
    text = _CREDENTIALS.sub("…@", " ".join(text.split()))
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _of_system(error: OSError) -> Failure:
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return Failure(ExitCode.UNREACHABLE, clean(reason), _DOCTOR)
    return Failure(ExitCode.BAD_INPUT, clean(f"{error.filename}: {reason}"), "Check the path and its permissions.")


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
