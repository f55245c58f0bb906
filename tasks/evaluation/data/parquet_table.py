"""Parquet files as tables of numbers, read by pyarrow some rows at a time.

Here live the choice of numeric columns (plain numbers, truth values, decimals, and lists of equal length) and
their conversion. Format: Apache Parquet, magic ``PAR1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import EvaluationUnavailable, InvalidContent
from tasks.evaluation.data.tables import BLOCK_BYTES, PLACE, Column, cell, check_finite

if TYPE_CHECKING:
    from tasks.evaluation.data.tables import Matrix

_MAX_LIST = 10_000_000
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


class ParquetTable:
    """A Parquet file. Opening it reads the footer, and the first row where a list has no fixed length."""

    format = "parquet"
    named = True

    def __init__(self, path: Path, *, max_columns: int) -> None:
        self._path = path
        self.notes: Sequence[str] = []
        with _errors_as_verdicts():
            file = self._open()
            names = list(file.schema_arrow.names)
            if len(names) > max_columns:
                raise InvalidContent("too-many-columns", PLACE, f"{len(names)} columns; at most {max_columns}")
            if len(set(names)) != len(names):
                raise InvalidContent("duplicate-column", PLACE, "two columns have the same name")
            if file.metadata.num_rows == 0:
                raise InvalidContent("empty-data", PLACE, "the data file has no rows")
            self._fields = [field for field in file.schema_arrow if not _PANDAS_INDEX.fullmatch(field.name)]
            if len(self._fields) < len(names):
                self.notes = ["The index that pandas has written into the Parquet file is no column of the data."]
            self.columns: Sequence[Column] = [Column(field.name, self._width(file, field)) for field in self._fields]

    def blocks(self, selected: Sequence[int]) -> Iterator[Matrix]:
        """See `Table.blocks`."""
        fields = [self._fields[position] for position in selected]
        columns = [self.columns[position] for position in selected]
        for field in fields:
            if not _is_numeric(_item_type(field.type)):
                raise InvalidContent(
                    "not-a-number", cell(1, field.name), f"the column holds {field.type!s:.60}, not numbers"
                )
        width = sum(column.width for column in columns)
        rows = max(1, BLOCK_BYTES // (8 * max(1, width)))
        row = 1
        with _errors_as_verdicts():
            names = [field.name for field in fields]
            for batch in self._open().iter_batches(batch_size=rows, columns=names, use_threads=False):
                block = _matrix([batch.column(name) for name in names], columns, row)
                check_finite(block, row, columns)
                yield block
                row += batch.num_rows

    def _open(self) -> Any:
        from pyarrow import parquet

        return parquet.ParquetFile(self._path, memory_map=False, pre_buffer=False, buffer_size=BLOCK_BYTES)

    @staticmethod
    def _width(file: Any, field: Any) -> int:
        import pyarrow as pa

        if pa.types.is_fixed_size_list(field.type):
            width = int(field.type.list_size)
        elif pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
            first = next(file.iter_batches(batch_size=1, columns=[field.name], use_threads=False))
            value = first.column(0)[0].as_py()
            width = len(value) if value else 0
        else:
            return 1
        if not 0 < width <= _MAX_LIST:
            raise InvalidContent("ragged-row", cell(1, field.name), f"a list of {width} values")
        return width


class _errors_as_verdicts:  # noqa: N801 - used as a with statement
    """pyarrow's complaints about the content become InvalidContent; lack of memory does not."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import pyarrow as pa

        if isinstance(error, pa.ArrowMemoryError | MemoryError):
            raise EvaluationUnavailable(f"not enough memory to read the data set: {error}") from error
        if isinstance(error, pa.ArrowException | OSError | UnicodeDecodeError):
            raise InvalidContent("parquet-damaged", PLACE, f"cannot be read: {error!s:.300}") from error


def _item_type(kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return kind.value_type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_numeric(kind: Any) -> bool:
    import pyarrow as pa

    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(check(kind) for check in checks)


def _matrix(arrays: Sequence[Any], columns: Sequence[Column], first_row: int) -> Matrix:
    import numpy as np
    import pyarrow as pa

    rows = len(arrays[0])
    block = np.empty((rows, sum(column.width for column in columns)), dtype=np.float64)
    position = 0
    for array, column in zip(arrays, columns, strict=True):
        values = array
        if not pa.types.is_primitive(array.type) and not pa.types.is_dictionary(array.type):
            values = _flat(array, column, first_row)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        block[:, position : position + column.width] = numbers.reshape(rows, column.width)
        position += column.width
    return block


def _flat(array: Any, column: Column, first_row: int) -> Any:
    """The items of a column of lists, row after row; every list must have the length of the first."""
    import pyarrow as pa

    if pa.types.is_decimal(array.type):
        return array
    if array.null_count:
        raise InvalidContent("not-finite", cell(first_row, column.name), "a list is missing near this row")
    items = array.flatten()
    lengths = None if pa.types.is_fixed_size_list(array.type) else array.value_lengths().to_numpy(False)
    if lengths is not None and (lengths != column.width).any():
        bad = int((lengths != column.width).argmax())
        raise InvalidContent(
            "ragged-row",
            cell(first_row + bad, column.name),
            f"a list of {int(lengths[bad])} values, the first row has {column.width}",
        )
    return items
