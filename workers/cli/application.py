"""The command line as a whole: its groups, its global options, and how it ends.

`run` is the only place where an exception becomes an exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from workers.cli import (
    challenges,
    deploying,
    diagnosis,
    keys,
    publishing,
    reports,
    running,
    stakes,
    state,
    verifying,
)
from workers.cli.exits import ExitCode
from workers.cli.options import examples

PROGRAM = "fitchain-verifier"

_USE = "Use"
_RUN = "Run"
_CHAIN = "Chain"
_LOOK = "Look"


@dataclass
class Invocation:
    """What holds for one run of the command."""

    debug: bool = False


def build() -> typer.Typer:
    """Put the command together."""
    app = typer.Typer(
        name=PROGRAM,
        rich_markup_mode="rich",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        help="Verify machine-learning models that are challenged on chain: run a cluster, use it, watch it.",
        epilog="Settings are FITCHAIN_… environment variables; `fitchain-verifier doctor` checks them."
        " Exit codes: 0 done, 1 the answer is no, 2 usage, 3 bad input, 4 service unreachable, 5 timeout,"
        " 6 refused by the chain, 7 configuration or keys, 70 defect.",
    )
    app.callback()(_global_options)
    _add(app, _USE, verifying.verify, verifying.enqueue, verifying.result, publishing.publish)
    _add(app, _LOOK, state.status, diagnosis.doctor, diagnosis.health, diagnosis.version)
    _add(app, _RUN, demo, running.worker, running.dispatcher, running.flower)
    _add(app, _CHAIN, deploying.deploy)
    for group in (challenges.group, stakes.group, keys.group):
        app.add_typer(group, rich_help_panel=_CHAIN)
    app.add_typer(reports.group, rich_help_panel=_USE)
    return app


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; failures are shown on standard error."""
    invocation = Invocation()
    try:
        build()(args=None if arguments is None else list(arguments), prog_name=PROGRAM, obj=invocation)
    except SystemExit as end:
        return _code(end)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the end of the process: whatever happened is explained here
        return _fail(error, debug=invocation.debug)
    return ExitCode.OK


def demo(
    folder: Annotated[
        str | None,
        typer.Option("--folder", metavar="PATH", help="Where the demo keeps its files. Default: a new folder."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running and say where it listens.")] = False,
) -> None:
    """Show the whole road on this machine: services, contracts, three challenges, workers, results."""
    import tempfile
    from pathlib import Path

    from workers.cli.output import err
    from workers.demo.run import run_demo

    place = Path(folder).expanduser() if folder else Path(tempfile.mkdtemp(prefix="fitchain-demo-"))
    raise typer.Exit(run_demo(place, keep, err()))


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version(PROGRAM))
        raise typer.Exit


def _global_options(
    ctx: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of a failure (also: FITCHAIN_DEBUG=1).")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    ctx.ensure_object(Invocation).debug = debug


def _add(app: typer.Typer, panel: str, *commands: Callable[..., Any]) -> None:
    for command in commands:
        epilog = _EXAMPLES.get(command.__name__)
        app.command(command.__name__, rich_help_panel=panel, epilog=epilog)(command)


def _code(end: SystemExit) -> int:
    if end.code is None:
        return ExitCode.OK
    return end.code if isinstance(end.code, int) else ExitCode.NEGATIVE


def _fail(error: Exception, *, debug: bool) -> int:
    from workers.cli.failures import failure_of
    from workers.cli.output import show_failure

    if debug or _debug_is_set():
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    failure = failure_of(error)
    show_failure(failure)
    return failure.code


def _debug_is_set() -> bool:
    """FITCHAIN_DEBUG, read only when something has failed; settings that cannot be read are the failure
    itself.
    """
    from pydantic import ValidationError

    from workers.settings import WorkersSettings

    try:
        return WorkersSettings().debug
    except ValidationError:
        return False


_EXAMPLES = {
    "verify": examples(
        "fitchain-verifier verify --model model_schema.json --data data_schema.json",
        "fitchain-verifier verify --model model_schema.json --data data_schema.json --html report.html",
        "fitchain-verifier verify --model QmModelSchema --data QmDataSchema --json | jq .score",
    ),
    "enqueue": examples(
        "fitchain-verifier enqueue --model model_schema.json --data data_schema.json --wait",
        "fitchain-verifier enqueue --model model_schema.json --data data_schema.json --json | jq -r .id",
    ),
    "result": examples("fitchain-verifier result 0f9c7f6e-… --wait --timeout 60"),
    "publish": examples(
        "fitchain-verifier publish model.h5 test.csv",
        "fitchain-verifier publish --model model.keras --signature digits-64 --register",
        "fitchain-verifier publish --data test.csv --signature digits-64 --label class --classes 10",
        "fitchain-verifier publish --model model.h5 --data test.csv --check",
    ),
    "status": examples(
        "fitchain-verifier status", "fitchain-verifier status --watch 2", "fitchain-verifier status --json"
    ),
    "doctor": examples("fitchain-verifier doctor", "fitchain-verifier doctor --role submit --json"),
    "health": examples("fitchain-verifier health evaluate"),
    "version": examples("fitchain-verifier version --json"),
    "demo": examples("fitchain-verifier demo", "fitchain-verifier demo --keep --folder /tmp/demo"),
    "worker": examples(
        "fitchain-verifier worker fetch",
        "fitchain-verifier worker evaluate --gpu --name gpu0",
        "fitchain-verifier worker submit --concurrency 1",
        "fitchain-verifier worker all",
    ),
    "dispatcher": examples("fitchain-verifier dispatcher", "fitchain-verifier dispatcher --once"),
    "flower": examples("FITCHAIN_FLOWER_AUTH=operator:secret fitchain-verifier flower"),
    "deploy": examples("fitchain-verifier deploy --out deployment.json", "fitchain-verifier deploy --json"),
}
