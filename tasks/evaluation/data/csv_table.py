"""CSV files as tables of numbers, read by pyarrow block by block.

Here live the reading of the first line (delimiter, header or not) and the translation of pyarrow's errors
into a row, a column and a sentence. Format: RFC 4180 with comma, semicolon or tab; UTF-8, with or without
BOM.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import EvaluationUnavailable, InvalidContent
from tasks.evaluation.data.tables import BLOCK_BYTES, PLACE, Column, cell, check_finite

if TYPE_CHECKING:
    from tasks.evaluation.data.tables import Matrix

MAX_LINE_BYTES = 16 * 2**20
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_BOM = b"\xef\xbb\xbf"
_MISSING = ["", " ", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "NULL", "null", "None", "#N/A", "?"]
_BAD_CELL = re.compile(r"column #(\d+): (?:Row #(\d+): )?.*?invalid value '(.*)'", re.DOTALL)
_BAD_ROW = re.compile(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)")
_COUNTED_HEADER_MINIMUM = 8


class CsvTable:
    """A CSV file. Opening it reads the first lines only."""

    format = "csv"

    def __init__(self, path: Path, head: bytes, *, max_columns: int, label: str | int | None) -> None:
        self._path = path
        first, second = _first_lines(path, head)
        self._delimiter = _delimiter(first)
        cells = _cells(first, self._delimiter)
        if len(cells) > max_columns:
            raise InvalidContent("too-many-columns", PLACE, f"{len(cells)} columns; at most {max_columns}")
        self.notes: Sequence[str] = []
        if self._delimiter != ",":
            self.notes = [f"The cells of the CSV file are separated by {_DELIMITERS[self._delimiter]}."]
        self.named, why = is_header(cells, _cells(second, self._delimiter), label)
        self.notes = [*self.notes, why]
        names = cells if self.named else [str(position) for position in range(len(cells))]
        self.columns: Sequence[Column] = [Column(name) for name in names]
        # A block must hold whole lines, however wide.
        self._block_bytes = max(BLOCK_BYTES, 4 * max(len(first), len(second)))

    def blocks(self, selected: Sequence[int]) -> Iterator[Matrix]:
        """See `Table.blocks`."""
        import pyarrow as pa

        columns = [self.columns[position] for position in selected]
        row = 1
        try:
            for batch in self._reader(selected):
                if batch.num_rows == 0:
                    continue
                block = _matrix(batch)
                check_finite(block, row, columns)
                yield block
                row += batch.num_rows
        except pa.ArrowMemoryError as error:
            raise EvaluationUnavailable(f"not enough memory to read the data set: {error}") from error
        except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError) as error:
            raise self._explain(error, row) from error

    def _reader(self, selected: Sequence[int]) -> Any:
        """pyarrow's streaming reader. Columns go by made-up names, as those of the file may repeat."""
        import pyarrow as pa
        from pyarrow import csv as pa_csv

        names = [f"c{position}" for position in range(len(self.columns))]
        wanted = [names[position] for position in selected]
        return pa_csv.open_csv(
            self._path,
            read_options=pa_csv.ReadOptions(
                use_threads=False,
                block_size=self._block_bytes,
                column_names=names,
                skip_rows=1 if self.named else 0,
            ),
            parse_options=pa_csv.ParseOptions(delimiter=self._delimiter, ignore_empty_lines=True),
            convert_options=pa_csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(wanted, pa.float64()),
                include_columns=wanted,
                null_values=_MISSING,
                strings_can_be_null=True,
            ),
        )

    def _explain(self, error: Exception, row: int) -> InvalidContent:
        message = str(error)
        if found := _BAD_CELL.search(message):
            name = self.columns[int(found.group(1))].name
            where = cell(self._row_of(found.group(2), row), name)
            return InvalidContent("not-a-number", where, f"{found.group(3)[:80]!r} is no number")
        if found := _BAD_ROW.search(message):
            return InvalidContent(
                "ragged-row",
                f"{PLACE}: row {self._row_of(found.group(1), row)}",
                f"has {found.group(3)} cells, the first line has {found.group(2)}",
            )
        if "Empty CSV" in message or "Could not skip" in message:
            return InvalidContent("empty-data", PLACE, "the data file has no rows")
        return InvalidContent("csv-damaged", PLACE, f"cannot be read from row {row} on: {message:.300}")

    def _row_of(self, line: str | None, row: int) -> int:
        """pyarrow counts lines of the file from 1, the header among them."""
        return int(line) - (1 if self.named else 0) if line else row


def is_header(first: Sequence[str], second: Sequence[str], label: str | int | None) -> tuple[bool, str]:
    """Whether the first line of a CSV file names its columns, and a sentence that says why."""
    if isinstance(label, str) and label in first:
        return (
            True,
            f"The first line of the CSV file is its header: it names the label column {label[:80]!r}.",
        )
    words = [text for text in first if not _is_number(text)]
    if words:
        return True, f"The first line of the CSV file is its header: {words[0][:40]!r} is no number."
    counted = [str(position) for position in range(len(first))]
    if list(first) == counted and (len(first) >= _COUNTED_HEADER_MINIMUM or any("." in text for text in second)):
        return True, "The first line of the CSV file is its header: it counts the columns from 0."
    return False, "The CSV file has no header: its first line holds numbers that do not count the columns."


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False


def _first_lines(path: Path, head: bytes) -> tuple[str, str]:
    if head.count(b"\n") < 2:
        with path.open("rb") as file:
            head = file.readline(MAX_LINE_BYTES) + file.readline(MAX_LINE_BYTES)
    if len(head) >= MAX_LINE_BYTES:
        raise InvalidContent("line-too-long", PLACE, f"a line of more than {MAX_LINE_BYTES:,} bytes")
    lines = head.removeprefix(_BOM).decode("utf-8", "replace").splitlines()
    filled = [line for line in lines[:10] if line.strip()] or [""]
    return filled[0], filled[1] if len(filled) > 1 else ""


def _delimiter(line: str) -> str:
    counts = {delimiter: line.count(delimiter) for delimiter in _DELIMITERS}
    return "," if counts[","] else max(counts, key=lambda delimiter: (counts[delimiter], delimiter == ","))


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [text.strip() for text in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error as error:
        raise InvalidContent("csv-damaged", f"{PLACE}: row 1", f"cannot be read: {error}") from error


def _matrix(batch: Any) -> Matrix:
    import numpy as np

    block = np.empty((batch.num_rows, batch.num_columns), dtype=np.float64)
    for position, column in enumerate(batch.columns):
        block[:, position] = column.to_numpy(zero_copy_only=False)  # a missing cell becomes NaN
    return block
