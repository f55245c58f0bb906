"""The commands `worker`, `dispatcher` and `flower`: the processes of a cluster."""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.errors import misconfigured
from workers.cli.options import AsJson

if TYPE_CHECKING:
    from workers.dispatcher import Dispatcher, TickReport
    from workers.roles import RoleName
    from workers.settings import WorkersSettings
    from workers.supervisor import Child

ALL = "all"
KILL_MARGIN_SECONDS = 10.0
LOG_FORMAT = "[%(asctime)s: %(levelname)s/%(name)s] %(message)s"

_ROLES = ("fetch", "evaluate", "submit", ALL)


def worker(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="One of " + ", ".join(_ROLES) + ".")],
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", "-c", min=1, help="Pool processes. Default: what suits the role."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the worker before the @ (several on one host need several)."),
    ] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="An evaluate worker takes GPU work too.")] = False,
) -> None:
    """Run a worker: `fetch`, `evaluate` or `submit`, or one of each under one supervisor (`all`).

    Only submit workers get the signing keys; the others do not even see them.
    """
    if role not in _ROLES:
        raise typer.BadParameter(f"there is no role {role!r}; there are {', '.join(_ROLES)}", param_hint="ROLE")
    from workers.roles import RoleName
    from workers.settings import WorkersSettings
    from workers.supervisor import Supervisor

    settings = WorkersSettings()
    _say_if_the_broker_is_away()
    if role == ALL:
        if name is not None or concurrency is not None:
            raise typer.BadParameter("--name and --concurrency are for a single role", param_hint="ROLE")
        _log(settings)
        children = [_child(one, settings, gpu=gpu and one is RoleName.EVALUATE) for one in RoleName]
        grace_seconds = settings.soft_shutdown_seconds + KILL_MARGIN_SECONDS
        raise typer.Exit(Supervisor(children, grace_seconds=grace_seconds).run())
    child = _child(RoleName(role), settings, concurrency=concurrency, name=name, gpu=gpu)
    _become(list(child.argv), dict(child.environment))


def dispatcher(
    once: Annotated[bool, typer.Option("--once", help="One tick: enqueue what is owed now, and end.")] = False,
    account: Annotated[
        list[str] | None,
        typer.Option("--account", metavar="ADDRESS", help="Whom to serve (repeat it). Default: FITCHAIN_ACCOUNTS."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the dispatcher: read what your accounts owe to the chain, and enqueue it.

    Several may run; one is active, the others stand by. SIGTERM ends it and hands over at once.
    """
    from chain import ChainSettings
    from tasks.settings import TasksSettings
    from workers.cli.output import emit, out
    from workers.service import DispatcherService, broker_client, build_dispatcher, served_accounts
    from workers.settings import WorkersSettings

    settings, tasks, chain = WorkersSettings(), TasksSettings(), ChainSettings.load()
    accounts = served_accounts(account or (), settings)
    _log(settings)

    def build() -> Dispatcher:
        return build_dispatcher(chain, tasks, settings, accounts=accounts)

    if once:
        built = build()
        report = built.tick()
        built.resign()
        if as_json:
            emit(tick_document(report))
        else:
            out().print(tick_line(report), markup=False)
        return
    _say_if_the_broker_is_away()
    logging.getLogger(__name__).info("dispatching for accounts=%s", ",".join(accounts))
    DispatcherService(build, broker=broker_client(tasks), tick_seconds=settings.tick_seconds, on_tick=log_tick).run()


def flower(
    no_auth: Annotated[
        bool,
        typer.Option("--no-auth", help="Without a password; only where nobody else can reach it (loopback)."),
    ] = False,
) -> None:
    """Run Flower: pages and an HTTP API about workers and tasks, behind a password.

    Address, port and password come from FITCHAIN_FLOWER_ADDRESS, FITCHAIN_FLOWER_PORT and
    FITCHAIN_FLOWER_AUTH.
    """
    from workers.settings import WorkersSettings, inherited_environment

    settings = WorkersSettings()
    environment = flower_environment(settings, inherited_environment(), no_auth=no_auth)
    _say_if_the_broker_is_away()
    _become([sys.executable, "-m", "celery", "--app", "workers.app", "flower"], environment)


def flower_environment(settings: WorkersSettings, environ: dict[str, str], *, no_auth: bool) -> dict[str, str]:
    """Flower's options as environment variables: a password in the arguments would be readable by every user.

    Keys are taken out: Flower shows what strangers send.

    Raises:
        CommandError: there is no password, or one that Flower cannot read.
    """
    from workers.roles import KEY_VARIABLES

    environment = {name: value for name, value in environ.items() if name not in KEY_VARIABLES}
    environment["FLOWER_ADDRESS"] = settings.flower_address
    environment["FLOWER_PORT"] = str(settings.flower_port)
    environment.pop("FLOWER_BASIC_AUTH", None)
    environment.pop("FLOWER_UNAUTHENTICATED_API", None)
    auth = settings.flower_auth.get_secret_value() if settings.flower_auth else ""
    if no_auth:
        if not _is_loopback(settings.flower_address):
            raise misconfigured(
                f"Flower without a password may not listen on {settings.flower_address}.",
                "Set FITCHAIN_FLOWER_ADDRESS=127.0.0.1, or FITCHAIN_FLOWER_AUTH and leave --no-auth away.",
            )
        environment["FLOWER_UNAUTHENTICATED_API"] = "true"
        return environment
    user, _, password = auth.partition(":")
    if not user or not password:
        raise misconfigured(
            "Flower needs a password: whoever reaches it can enqueue work and stop workers.",
            "Set FITCHAIN_FLOWER_AUTH=user:password (or, on a machine of your own, use --no-auth).",
        )
    if "," in auth:
        raise misconfigured("FITCHAIN_FLOWER_AUTH must not hold a comma: Flower would take it for a second user.")
    environment["FLOWER_BASIC_AUTH"] = auth
    return environment


def log_tick(report: TickReport) -> None:
    """One line for a tick that did something; silence for the others."""
    if report.enqueued or report.failures:
        logging.getLogger("workers.dispatcher").info("%s", tick_line(report))


def tick_line(report: TickReport) -> str:
    """A tick in one line."""
    if not report.active:
        return "standing by: another dispatcher is active"
    steps: dict[str, int] = {}
    for step in report.enqueued:
        steps[step.action.value] = steps.get(step.action.value, 0) + 1
    enqueued = " ".join(f"{action}={count}" for action, count in sorted(steps.items())) or "nothing"
    failures = f" failures={len(report.failures)}" if report.failures else ""
    return (
        f"tick assignments={report.assignments} owed={report.owed} enqueued: {enqueued}{failures}"
        f" seconds={report.seconds:.3f}"
    )


def tick_document(report: TickReport) -> dict[str, Any]:
    """A tick as the JSON document of `--json`. Deadlines are Unix seconds."""
    return {
        "active": report.active,
        "assignments": report.assignments,
        "owed": report.owed,
        "enqueued": [
            {
                "action": step.action.value,
                "challenge_id": step.ref.challenge_id,
                "account": step.ref.account,
                "deadline": step.deadline,
            }
            for step in report.enqueued
        ],
        "nearest_deadline": report.nearest_deadline,
        "failures": list(report.failures),
        "seconds": report.seconds,
    }


def _child(
    role: RoleName,
    settings: WorkersSettings,
    *,
    concurrency: int | None = None,
    name: str | None = None,
    gpu: bool = False,
) -> Child:
    """The process of a role: command line, and the environment without what it must not see."""
    from workers.roles import RoleName, queues_of, worker_command, worker_environment
    from workers.settings import inherited_environment
    from workers.supervisor import Child

    accounts: tuple[str, ...] = ()
    if role is RoleName.SUBMIT:
        from chain import ChainSettings, load_signers

        accounts = tuple(load_signers(ChainSettings.load()))
    queues = queues_of(role, accounts=accounts, gpu=gpu)
    argv = worker_command(role, queues, concurrency=concurrency, name=name, log_level=settings.log_level)
    return Child(role.value, argv, worker_environment(role, inherited_environment()))


def _become(argv: list[str], environment: dict[str, str]) -> None:
    """Replace this process, so that signals and exit code are those of what runs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(argv[0], argv, environment)  # noqa: S606 - no shell is wanted


def _say_if_the_broker_is_away() -> None:
    from redis.exceptions import RedisError

    from tasks.settings import TasksSettings
    from workers.checks.broker import require_broker
    from workers.cli.output import warn
    from workers.errors import BrokerUnavailable

    try:
        require_broker(TasksSettings())
    except (BrokerUnavailable, RedisError) as error:
        warn(f"{error}. It is tried again until it answers.")


def _log(settings: WorkersSettings) -> None:
    logging.basicConfig(level=settings.log_level, format=LOG_FORMAT)
    for noisy in ("urllib3", "web3", "kombu", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
