"""The command `status`: what the cluster is doing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from workers.cli.options import AsJson, WatchOption
from workers.cli.values import format_amount, format_duration, short_address

if TYPE_CHECKING:
    from rich.console import Group

    from workers.overview import Observer, Overview

MOST_TASKS = 30
MOST_ASSIGNMENTS = 50


def status(watch: WatchOption = None, as_json: AsJson = False) -> None:
    """Show queues, workers, running tasks, the active dispatcher, and your accounts' open assignments."""
    from workers.cli.output import emit, jsonable, out, stages

    with stages("Asking the cluster"):
        observer = _observer()
        overview = observer.read()
    if watch is not None:
        _watch(observer, overview, watch, as_json=as_json)
    elif as_json:
        emit(jsonable(overview))
    else:
        out().print(render(overview))


def render(overview: Overview) -> Group:
    """The overview as tables."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [_queues(overview), _workers(overview)]
    if overview.running:
        parts.append(_running(overview))
    if overview.assignments:
        parts.append(_assignments(overview))
    leaders = ", ".join(f"{one.name} (for {format_duration(one.seconds_left)} more)" for one in overview.leaders)
    parts.append(Text(f"Dispatcher: {leaders or 'none is active'}", style="" if leaders else "yellow"))
    parts += [Text(note, style="dim") for note in overview.notes]
    return Group(*parts)


def _watch(observer: Observer, first: Overview, seconds: float, *, as_json: bool) -> None:
    """Show it again and again until Ctrl-C; with JSON, one document after the other."""
    from rich.live import Live

    from workers.cli.output import emit, jsonable, out

    if as_json:
        emit(jsonable(first))
        while True:
            time.sleep(seconds)
            emit(jsonable(observer.read()))
    with Live(render(first), console=out(), auto_refresh=False, screen=out().is_terminal) as live:
        while True:
            time.sleep(seconds)
            live.update(render(observer.read()), refresh=True)


def _observer() -> Observer:
    from celery import Celery

    from chain.settings import ChainSettings
    from tasks.settings import TasksSettings
    from tasks.wire import wire_options
    from workers.checks.broker import require_broker
    from workers.overview import Observer
    from workers.service import broker_client
    from workers.settings import WorkersSettings

    tasks, chain = TasksSettings(), ChainSettings.load()
    require_broker(tasks)
    app = Celery("status", set_as_current=False)
    app.conf.update(wire_options(tasks))
    return Observer(app, broker_client(tasks), chain, _accounts(WorkersSettings().accounts, chain))


def _accounts(configured: tuple[str, ...], chain: Any) -> tuple[str, ...]:
    """Our accounts: those configured, else those with a key here."""
    if configured or not chain.has_keys:
        return configured
    from chain import load_signers

    return tuple(load_signers(chain))


def _queues(overview: Overview) -> Any:
    from workers.cli.output import plain_table

    table = plain_table("queue", "waiting>", "urgent>", "ad hoc>", "normal>", "patient>", "served by")
    for queue in overview.queues:
        served = ", ".join(queue.workers) or ("[yellow]nobody[/yellow]" if queue.waiting else "")
        table.add_row(
            queue.name,
            str(queue.waiting),
            *(str(count) for _, count in sorted(queue.by_priority.items())),
            served,
        )
    table.caption = f"{overview.in_hand} more in workers' hands"
    table.caption_justify = "left"
    return table


def _workers(overview: Overview) -> Any:
    from workers.cli.output import plain_table

    table = plain_table("worker", "processes>", "tasks begun>", "queues")
    for worker in overview.workers:
        table.add_row(worker.name, str(worker.processes), str(worker.tasks), ", ".join(worker.queues))
    if not overview.workers:
        table.add_row("[yellow]no worker answers[/yellow]", "", "", "")
    return table


def _running(overview: Overview) -> Any:
    from rich.markup import escape

    from workers.cli.output import plain_table

    table = plain_table("task", "since>", "worker", "what")
    for task in overview.running[:MOST_TASKS]:
        since = "reserved" if task.seconds is None else format_duration(task.seconds)
        table.add_row(task.name, since, task.worker, escape(task.arguments))
    return table


def _assignments(overview: Overview) -> Any:
    from workers.cli.output import plain_table

    table = plain_table("challenge>", "model>", "account", "phase", "owes", "left>", "share>")
    for one in overview.assignments[:MOST_ASSIGNMENTS]:
        left = "" if one.seconds_left is None else format_duration(one.seconds_left)
        share = format_amount(one.share_wei)
        table.add_row(
            str(one.challenge_id),
            str(one.model_id),
            short_address(one.account),
            one.phase,
            one.owes or "",
            left,
            share,
        )
    if len(overview.assignments) > MOST_ASSIGNMENTS:
        table.caption = f"and {len(overview.assignments) - MOST_ASSIGNMENTS} more"
    return table
