"""The group `keystore`: encrypted keyfiles for the accounts that sign."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from workers.cli.errors import bad_input
from workers.cli.options import AsJson, examples

group = typer.Typer(name="keystore", no_args_is_help=True, help="Encrypted keyfiles of the accounts that sign.")


@group.callback()
def _keystore() -> None:
    """Encrypted keyfiles of the accounts that sign."""


@group.command(
    epilog=examples(
        "fitchain-verifier keystore new keys/verifier.json",
        "fitchain-verifier keystore new keys/ --password-file /run/secrets/keystore_password",
    )
)
def new(
    path: Annotated[Path, typer.Argument(help="The keyfile to write (never overwritten), or a folder to put it into.")],
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file", exists=True, dir_okay=False, help="Where the password is. Default: ask for it."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create an account with a new key, in a keyfile encrypted by a password (mode 0600)."""
    from chain import create_keystore
    from workers.cli.output import emit, note, stages

    password = _password(password_file)
    path = path.expanduser()
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with stages("Encrypting"):
        address = create_keystore(path, password)
    if as_json:
        emit({"address": address, "path": str(path)})
        return
    typer.echo(address)
    note(f"Keyfile: {path}. Keep a copy of it and of its password: nobody can restore them.")
    note(f"Use it: export FITCHAIN_KEYSTORE={path} FITCHAIN_KEYSTORE_PASSWORD_FILE={password_file or '…'}")


def _password(file: Path | None) -> str:
    if file is not None:
        password = file.read_text(encoding="utf-8").rstrip("\r\n")
        if not password:
            raise bad_input(f"The password file {file} is empty.")
        return password
    if not sys.stdin.isatty():
        raise bad_input(
            "There is no terminal to ask for a password.",
            "Write it to a file (mode 600) and give --password-file.",
        )
    answer: str = typer.prompt("Password of the keyfile", hide_input=True, confirmation_prompt=True, err=True)
    return answer
