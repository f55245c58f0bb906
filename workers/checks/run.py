"""Which checks a role needs, and running them in order.

Without a role everything is looked at, and what only some roles need (keys, accounts to serve) is no failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum

from chain import ChainSettings
from chain.errors import ChainError
from storage import StorageSettings
from tasks.settings import TasksSettings
from workers.checks import broker, chain, host
from workers.checks.model import Check, Status, failed
from workers.settings import WorkersSettings


class Part(StrEnum):
    """What `--role` may name: a kind of process of this project."""

    FETCH = "fetch"
    EVALUATE = "evaluate"
    SUBMIT = "submit"
    DISPATCHER = "dispatcher"
    FLOWER = "flower"


def checks_of(role: Part | None, *, gpu: bool = False) -> Iterator[Check]:
    """Run the checks of a role (None: all), one after the other."""
    tasks, storage, workers = TasksSettings(), StorageSettings(), WorkersSettings()
    wants = _wants(role)
    yield from host.check_versions()
    files = wants(Part.FETCH, Part.EVALUATE)
    yield from broker.check_redis(tasks, storage) if files else broker.check_broker(tasks)
    if wants(Part.FETCH, Part.EVALUATE, Part.SUBMIT):
        yield from host.check_content(storage)
    if wants(Part.SUBMIT, Part.DISPATCHER):
        yield from _chain(role, workers)
    if wants(Part.EVALUATE):
        yield from host.check_sandbox(tasks)
        yield from host.check_gpu(needed=gpu)
    if role is Part.FLOWER:
        yield from host.check_flower(workers)


def healthy(checks: list[Check]) -> bool:
    """Whether nothing failed."""
    return all(check.status is not Status.FAILED for check in checks)


def _wants(role: Part | None) -> Callable[..., bool]:
    return lambda *parts: role is None or role in parts


def _chain(role: Part | None, workers: WorkersSettings) -> Iterator[Check]:
    try:
        settings = ChainSettings.load()
    except ChainError as error:
        yield failed("chain", str(error), "Correct the setting.")
        return
    w3, checks = chain.check_endpoints(settings)
    yield from checks
    pool = None
    if w3 is not None:
        pool, checks = chain.check_contracts(w3, settings)
        yield from checks
    if role is not Part.DISPATCHER:
        yield from chain.check_keys(settings, w3, pool, needed=role is Part.SUBMIT)
        yield from host.check_journal(settings)
    if role is not Part.SUBMIT:
        yield from chain.check_accounts(workers, needed=role is Part.DISPATCHER)
