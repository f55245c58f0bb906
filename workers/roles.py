"""The roles of a worker: which queues each serves, with how many processes, and what it must not hold.

A role becomes a Celery worker by `worker_command`; `fitchain-verifier worker ROLE` replaces itself with that command.
The checks run inside every worker of this app, however it was started, before it takes its first message. What the
tasks do is in `tasks`; the options of the app are in `workers.app`.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from celery import current_app
from celery.signals import celeryd_after_setup, worker_process_init, worker_process_shutdown

from chain.settings import ChainSettings
from tasks import runtime
from tasks.errors import TasksError
from tasks.wire import EVALUATE_CPU_QUEUE, EVALUATE_GPU_QUEUE, FETCH_QUEUE, submit_queue
from workers.errors import RoleMisconfigured, UnsafeEnvironment, WorkersError

logger = logging.getLogger(__name__)

KEY_VARIABLES = ("FITCHAIN_PRIVATE_KEY", "FITCHAIN_KEYSTORE", "FITCHAIN_KEYSTORE_PASSWORD_FILE")


class RoleName(StrEnum):
    """The kinds of worker."""

    FETCH = "fetch"
    EVALUATE = "evaluate"
    SUBMIT = "submit"


@dataclass(frozen=True)
class Role:
    """How a kind of worker runs. `concurrency` is the default number of pool processes."""

    name: RoleName
    concurrency: int
    holds_keys: bool


ROLES: Mapping[RoleName, Role] = {
    # Fetching waits for the network most of the time.
    RoleName.FETCH: Role(RoleName.FETCH, concurrency=4, holds_keys=False),
    # One process per GPU or per core that is given to it: more of them are more workers (`--scale evaluate=N`).
    RoleName.EVALUATE: Role(RoleName.EVALUATE, concurrency=1, holds_keys=False),
    # A step waits for its block: with one process an account does one step a block, however many are owed.
    RoleName.SUBMIT: Role(RoleName.SUBMIT, concurrency=4, holds_keys=True),
}


def queues_of(role: RoleName, *, accounts: Iterable[str] = (), gpu: bool = False) -> tuple[str, ...]:
    """The queues of a role. A GPU worker also takes what any CPU could do; submit serves the accounts it has keys for.

    Raises:
        RoleMisconfigured: a submit worker without an account.
    """
    match role:
        case RoleName.FETCH:
            return (FETCH_QUEUE,)
        case RoleName.EVALUATE:
            return (EVALUATE_GPU_QUEUE, EVALUATE_CPU_QUEUE) if gpu else (EVALUATE_CPU_QUEUE,)
        case RoleName.SUBMIT:
            queues = tuple(sorted(submit_queue(account) for account in accounts))
            if not queues:
                raise RoleMisconfigured(
                    "a submit worker needs a key: set FITCHAIN_KEYSTORE (an encrypted keyfile or a folder of them) and"
                    " FITCHAIN_KEYSTORE_PASSWORD_FILE"
                )
            return queues


def worker_command(
    role: RoleName,
    queues: Iterable[str],
    *,
    concurrency: int | None = None,
    name: str | None = None,
    log_level: str = "INFO",
) -> list[str]:
    """The command line of a Celery worker in a role."""
    return [
        sys.executable, "-m", "celery", "--app", "workers.app", "worker",
        "--queues", ",".join(queues),
        "--hostname", f"{name or role.value}@%h",
        "--concurrency", str(concurrency or ROLES[role].concurrency),
        "--pool", "prefork",
        "--loglevel", log_level,
        # Workers need not know each other: what binds them is in Redis and on chain.
        "--without-gossip", "--without-mingle",
    ]  # fmt: skip


def worker_environment(role: RoleName, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker: SIGTERM gives the running task back, and only a submit worker sees keys."""
    environment = {**environ, "REMAP_SIGTERM": "SIGQUIT"}
    if not ROLES[role].holds_keys:
        for variable in KEY_VARIABLES:
            environment.pop(variable, None)
    return environment


def role_of_queues(queues: Iterable[str]) -> set[RoleName]:
    """The roles that a set of queues amounts to."""
    return {RoleName(queue.split(".", 1)[0]) for queue in queues}


def check_worker(queues: Iterable[str], *, concurrency: int, chain: ChainSettings) -> None:
    """Whether a worker on these queues may start.

    Raises:
        UnsafeEnvironment: it would meet strangers' files with a signing key in its environment.
        RoleMisconfigured: the queues are not of this project, or evaluations would share a process' device.
    """
    try:
        roles = role_of_queues(queues)
    except ValueError as error:
        raise RoleMisconfigured(
            f"a worker of this project serves fetch, evaluate.cpu, evaluate.gpu and submit.<account>: {error}"
        ) from error
    strangers = roles - {RoleName.SUBMIT}
    if strangers and chain.has_keys:
        raise UnsafeEnvironment(
            f"a {' and '.join(sorted(strangers))} worker handles strangers' files and refuses to start with a signing"
            f" key: unset {', '.join(KEY_VARIABLES)} for it; only submit workers get them"
        )
    if RoleName.EVALUATE in roles and EVALUATE_GPU_QUEUE in queues and concurrency != 1:
        raise RoleMisconfigured(f"a GPU worker runs one evaluation at a time, not {concurrency}: start one per GPU")


@celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def _check_before_first_message(sender: str, instance: Any, **_: object) -> None:
    try:
        check_worker(
            list(instance.app.amqp.queues.consume_from),
            concurrency=instance.concurrency,
            chain=ChainSettings.load(),
        )
    except WorkersError as error:
        logger.critical("%s does not start: %s", sender, error)
        raise SystemExit(78) from error


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _start_afresh(**_: object) -> None:
    """Connections must not be shared with the parent after the fork; a sandbox is warm before its first job comes."""
    runtime.forget()
    if RoleName.EVALUATE in role_of_queues(current_app.amqp.queues.consume_from):
        # In a thread: Celery kills a process that is not up after 4 s, and warming up takes about as long.
        threading.Thread(target=_warm_up, name="warm-sandbox", daemon=True).start()


def _warm_up() -> None:
    try:
        confinement = runtime.sandbox().start()
    except TasksError as error:
        logger.error("no sandbox, evaluations will be tried again elsewhere: %s", error)
    else:
        logger.info("sandbox warm: %s", confinement)


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _stop_sandbox(**_: object) -> None:
    runtime.close()
