"""The commands `doctor`, `health` and `version`: is everything there that a process of this project needs?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.exits import ExitCode
from workers.cli.options import AsJson

if TYPE_CHECKING:
    from workers.checks import Check

_ROLES = ("fetch", "evaluate", "submit", "dispatcher", "flower")

RoleArgument = Annotated[str, typer.Argument(metavar="ROLE", help="One of " + ", ".join(_ROLES) + ".")]


def doctor(
    role: Annotated[
        str | None,
        typer.Option("--role", metavar="ROLE", help="Only what one role needs: " + ", ".join(_ROLES) + "."),
    ] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="A GPU has to be there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check Redis, chain, contracts, IPFS, keys, sandbox, GPU and versions, and say what to do about each
    failure.

    Exit code 1: something failed.
    """
    if role is not None and role not in _ROLES:
        raise typer.BadParameter(f"there is no role {role!r}; there are {', '.join(_ROLES)}", param_hint="--role")
    from workers.checks.run import Part, checks_of, healthy
    from workers.cli.output import emit, jsonable, stages

    found: list[Check] = []
    with stages("Checking"):
        for check in checks_of(Part(role) if role else None, gpu=gpu):
            found.append(check)
            if not as_json:
                _show(check)
    good = healthy(found)
    if as_json:
        emit({"healthy": good, "checks": [jsonable(check) for check in found]})
    raise typer.Exit(ExitCode.OK if good else ExitCode.NEGATIVE)


def health(
    role: RoleArgument,
    name: Annotated[str | None, typer.Option("--name", help="The worker's name, if it was started with one.")] = None,
) -> None:
    """Ask quickly whether this host's process of a role is alive: for health checks of containers."""
    if role not in _ROLES:
        raise typer.BadParameter(f"there is no role {role!r}; there are {', '.join(_ROLES)}", param_hint="ROLE")
    from workers.checks.health import health_of
    from workers.checks.model import Status

    check = health_of(role, name=name)
    typer.echo(f"{'ok' if check.status is Status.OK else 'unhealthy'}: {check.detail}")
    raise typer.Exit(ExitCode.OK if check.status is Status.OK else ExitCode.NEGATIVE)


def version(as_json: AsJson = False) -> None:
    """Show the versions of this program and of what it stands on."""
    from workers.checks.host import versions
    from workers.cli.output import emit, facts_table, out

    found = versions()
    if as_json:
        emit(found)
    else:
        out().print(facts_table(found))


def _show(check: Check) -> None:
    """One line a check: what it is, how it is; and below it what to do."""
    from rich.markup import escape

    from workers.checks.model import Status
    from workers.cli.output import out

    mark = {
        Status.OK: "[green]✓[/green]",
        Status.WARNING: "[yellow]![/yellow]",
        Status.FAILED: "[red]✗[/red]",
    }
    out().print(f"{mark[check.status]} [bold]{escape(check.name)}[/bold]  {escape(check.detail)}")
    if check.advice:
        out().print(f"    [dim]→ {escape(check.advice)}[/dim]")
