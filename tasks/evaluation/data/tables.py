"""What a table is to the rest of the evaluation, and how one is opened.

Here live the interface that CSV and Parquet share, and the recognition of the format by content. A table has
columns and gives its numbers as float64 matrices, block by block, so that memory does not grow with the file.
What the columns mean is decided by `tasks.evaluation.data.encodings`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tasks.errors import InvalidContent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

PLACE = "data"
BLOCK_BYTES = 2**20
PARQUET_MAGIC = b"PAR1"
_HEAD_BYTES = 65_536
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\b\x0b\x1b")


@dataclass(frozen=True)
class Column:
    """A column: its name, and how many numbers one row holds in it (more than one for lists)."""

    name: str
    width: int = 1


class Table(Protocol):
    """Numbers in rows and columns.

    `named` is false where the names were made up (``0``, ``1``, …), `notes` says what was inferred about the
    file, `format` is its format.
    """

    format: str
    columns: Sequence[Column]
    named: bool
    notes: Sequence[str]

    def blocks(self, selected: Sequence[int]) -> Iterator[Matrix]:
        """The selected columns (by position), as float64 matrices of some rows each, in file order.

        Raises InvalidContent, naming row and column, for a cell that is missing or is no number.
        """
        ...


def open_table(path: Path, *, max_columns: int, declared: str | None, label: str | int | None) -> Table:
    """Open a data file by its content.

    `declared` is the format that the schema names, `label` its label column (which helps to tell a header
    from a row).

    Raises InvalidContent for an empty file and for formats that are not read.
    """
    from tasks.evaluation.data.csv_table import CsvTable
    from tasks.evaluation.data.parquet_table import ParquetTable

    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.strip():
        raise InvalidContent("empty-data", PLACE, "the data file is empty")
    table: Table
    if head.startswith(PARQUET_MAGIC):
        table = ParquetTable(path, max_columns=max_columns)
    elif _is_text(head):
        table = CsvTable(path, head, max_columns=max_columns, label=label)
    else:
        raise InvalidContent(
            "unknown-data-format",
            PLACE,
            f"the file begins with {head[:8]!r}; expected is CSV (UTF-8) or Parquet",
        )
    if declared is not None and declared != table.format:
        table.notes = [
            *table.notes,
            f"The schema says {declared[:40]!r}; by its content the data file is {table.format}.",
        ]
    return table


def cell(row: int, column: str) -> str:
    """The place of a cell for a refusal; rows count from 1, without the header."""
    return f"{PLACE}: row {row}, column {column[:80]!r}"


def check_finite(block: Matrix, first_row: int, columns: Sequence[Column]) -> None:
    """Raise InvalidContent for the first cell of a block that is not a finite number."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        total = block.sum()  # one pass and no second matrix, where all is well
    if np.isfinite(total) or np.isfinite(block).all():
        return
    row, position = (int(where) for where in np.argwhere(~np.isfinite(block))[0])
    name = name_at(columns, position)
    raise InvalidContent("not-finite", cell(first_row + row, name), "the cell is missing, not a number or infinite")


def name_at(columns: Sequence[Column], position: int) -> str:
    """The name of the column that holds the number at a position of a row."""
    for column in columns:
        if position < column.width:
            return column.name if column.width == 1 else f"{column.name}[{position}]"
        position -= column.width
    return str(position)


def _is_text(head: bytes) -> bool:
    cut = head.rfind(b"\n") + 1 if len(head) == _HEAD_BYTES else len(head)
    try:
        head[: cut or len(head)].decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return False
    return not any(byte < 32 and byte not in _TEXT_CONTROLS for byte in head)
