"""`python -m compose {start,status,stop} FOLDER`: the local stack by hand.

`start` leaves it running and prints the variables to export; `stop` ends a stack that was kept, by `start`
or by `make demo KEEP=1`.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from compose.errors import StackError
from compose.local import LocalStack
from compose.record import StackRecord
from compose.services import PARTS, Mining
from compose.settings import StackSettings


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 it failed, 3 nothing runs in that folder."""
    options = _parser().parse_args(arguments)
    folder: Path = options.folder.expanduser().absolute()
    try:
        if options.command == "start":
            return _start(folder, options.parts.split(","), options.block_time)
        record = StackRecord.load(folder)
        if record is None or not record.living():
            print(f"Nothing runs in {folder}.", file=sys.stderr)
            return 3
        if options.command == "status":
            _show(record)
        else:
            stopped = record.stop(folder, StackSettings().stack_stop_seconds)
            print(f"Stopped {', '.join(entry.name for entry in stopped)}.")
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _start(folder: Path, parts: list[str], block_time: float | None) -> int:
    with LocalStack(folder, parts=parts, mining=Mining(block_time), keep=True):
        pass
    record = StackRecord.load(folder)
    if record is not None:
        _show(record)
    return 0


def _show(record: StackRecord) -> None:
    """Print the addresses as comments and the variables as lines that a shell can evaluate."""
    for entry in record.processes:
        print(f"# {entry.title:24} {entry.url:32} pid {entry.pid}  {entry.log}")
    for name, value in record.environment.items():
        print(f"export {name}={shlex.quote(value)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m compose", description="The local stack by hand.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("start", "start a stack and leave it running"),
        ("status", "show what runs"),
        ("stop", "stop what runs"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("folder", type=Path, help="the stack's folder")
        if name == "start":
            command.add_argument("--parts", default=",".join(PARTS), help="which parts (default: %(default)s)")
            command.add_argument(
                "--block-time", type=float, metavar="SECONDS", help="mine every SECONDS as well as at once"
            )
    return parser


if __name__ == "__main__":
    sys.exit(main())
