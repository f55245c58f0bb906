"""The table of all settings, made from the settings classes of each package.

    python -m workers.settings_table                      prints it, as Markdown
    python -m workers.settings_table --write README.md    puts it between the marks of that file

Each package owns its settings; this module only shows them, and knows no field by name.
"""

from __future__ import annotations

import argparse
import enum
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import AliasChoices, ByteSize
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from chain.settings import ChainSettings
from compose.settings import StackSettings
from storage.settings import StorageSettings
from tasks.settings import TasksSettings
from workers.settings import WorkersSettings

BEGIN = "<!-- settings: made by `python -m workers.settings_table --write README.md` -->"
END = "<!-- end of settings -->"

SECTIONS: tuple[tuple[str, type[BaseSettings]], ...] = (
    ("Chain and accounts (`chain`)", ChainSettings),
    ("Content (`storage`)", StorageSettings),
    ("Tasks and evaluation (`tasks`)", TasksSettings),
    ("Processes (`workers`)", WorkersSettings),
    ("Local stack (`compose`)", StackSettings),
)


def markdown(sections: Iterable[tuple[str, type[BaseSettings]]] = SECTIONS) -> str:
    """Return one Markdown table for each settings class: variable, default, description."""
    parts = []
    for title, settings in sections:
        rows = [_row(name, field, settings) for name, field in settings.model_fields.items()]
        parts.append("\n".join([f"**{title}**", "", "| variable | default | what it is |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def inserted(text: str, table: str) -> str:
    """Return `text` with `table` between its marks. Raises ValueError if they are not there, in this order."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no place for the table: put the lines {BEGIN!r} and {END!r} where it belongs")
    return f"{head}{BEGIN}\n\n{table}\n{END}{tail}"


def _row(name: str, field: FieldInfo, settings: type[BaseSettings]) -> str:
    if not field.description:
        raise ValueError(f"{settings.__name__}.{name} has no description")
    prefix = settings.model_config.get("env_prefix", "")
    alias = field.validation_alias
    variable = str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"{prefix}{name}".upper()
    text = _sentence(" ".join(field.description.split())) + _choices(field)
    return f"| `{variable}` | {_shown(field)} | {text.replace('|', '&#124;').replace('<', '&lt;')} |"


def _choices(field: FieldInfo) -> str:
    """Name the allowed values where there are a few."""
    if get_origin(field.annotation) is not Literal:
        return ""
    return " One of " + ", ".join(f"`{value}`" for value in get_args(field.annotation)) + "."


def _sentence(text: str) -> str:
    """Begin with a capital and end with a full stop, whatever the habit of the package."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _shown(field: FieldInfo) -> str:
    if field.is_required():
        return "(required)"
    value = field.get_default(call_default_factory=True)
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None or value == "" or value in ((), frozenset()):
        return "–"
    if isinstance(value, ByteSize):
        return f"`{value.human_readable(separator=' ').replace('.0 ', ' ')}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`"


def main(arguments: list[str] | None = None) -> int:
    """Print or write the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m workers.settings_table", description="The table of all settings.")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put it between the marks of FILE")
    options = parser.parse_args(arguments)
    if options.write is None:
        sys.stdout.write(markdown())
        return 0
    try:
        options.write.write_text(inserted(options.write.read_text(encoding="utf-8"), markdown()), encoding="utf-8")
    except ValueError as error:
        sys.stderr.write(f"{options.write}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
