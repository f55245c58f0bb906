"""Cells into arrays: features as a model takes them, labels as the metrics take them.

Here lives the encoding of one batch after another by a plan, with the checks that only the values can tell:
indices within their range, classes within the model's, one-hot rows with a single one. Which encoding it is
was decided by `tasks.evaluation.data.planning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.errors import InvalidContent
from tasks.evaluation.data.planning import Plan
from tasks.evaluation.data.tables import PLACE, Column, cell, name_at

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tasks.evaluation.data.tables import Matrix


class Encoder:
    """Encodes the batches of one data set.

    `dtype` is the number type of the model's input, `tokens` the size of the embedding that it feeds, if any.
    """

    def __init__(self, plan: Plan, columns: Sequence[Column], *, dtype: str, tokens: int | None) -> None:
        self._plan = plan
        self._features = [columns[position] for position in plan.features]
        self._labels = [columns[position] for position in plan.labels]
        self._dtype = dtype
        self._tokens = tokens

    def features(self, cells: Matrix, first_row: int) -> NDArray[Any]:
        """Inputs of shape (rows, *shape of one input). Raises InvalidContent for values out of range."""
        import numpy as np

        shape = (len(cells), *self._plan.shape)
        if self._plan.feature_encoding == "multi_hot":
            vectors: NDArray[Any] = self._multi_hot(cells, first_row).reshape(shape)
            return vectors
        values = cells if self._plan.scale is None else cells / self._plan.scale
        if self._tokens is not None:
            self._check_range(values, first_row, self._tokens, "the embedding of the model")
        kind = np.dtype(self._dtype)
        if kind.kind in "iu":
            limits = np.iinfo(kind)
            self._check_whole(values, first_row, int(limits.min), int(limits.max), f"the {kind} input")
        with np.errstate(over="ignore"):
            inputs: NDArray[Any] = values.astype(kind).reshape(shape)
        return inputs

    def labels(self, cells: Matrix, first_row: int) -> NDArray[Any]:
        """Class indices as int64 of shape (rows,), or values as float64 of shape (rows, outputs)."""
        import numpy as np

        encoding = self._plan.label_encoding
        if encoding == "value":
            return cells
        if encoding == "one_hot":
            right = ((cells == 0) | (cells == 1)).all(axis=1) & (cells.sum(axis=1) == 1)
            if not right.all():
                row = first_row + int((~right).argmax())
                raise InvalidContent("label-encoding", f"{PLACE}: row {row}", "the labels are not one-hot")
            indices: NDArray[np.int64] = cells.argmax(axis=1).astype(np.int64)
            return indices
        classes = self._plan.classes or 2
        column = cells[:, 0]
        good = (column == np.floor(column)) & (column >= 0) & (column < classes)
        if not good.all():
            bad = int((~good).argmax())
            raise InvalidContent(
                "label-out-of-range",
                cell(first_row + bad, self._labels[0].name),
                f"the label {column[bad]:g} is none of the {classes} classes (0 to {classes - 1})",
            )
        return column.astype(np.int64)

    def _multi_hot(self, cells: Matrix, first_row: int) -> NDArray[np.float32]:
        import numpy as np

        size = self._plan.shape[0]
        self._check_range(cells, first_row, size, f"a binary vector of length {size}")
        vectors = np.zeros((len(cells), size), dtype=np.float32)
        vectors[np.arange(len(cells))[:, None], cells.astype(np.int64)] = 1.0
        return vectors

    def _check_range(self, values: Matrix, first_row: int, size: int, what: str) -> None:
        self._check_whole(values, first_row, 0, size - 1, what)

    def _check_whole(self, values: Matrix, first_row: int, lowest: int, highest: int, what: str) -> None:
        import numpy as np

        good = (values == np.floor(values)) & (values >= lowest) & (values <= highest)
        if good.all():
            return
        row, position = (int(where) for where in np.argwhere(~good)[0])
        raise InvalidContent(
            "input-misfit",
            cell(first_row + row, name_at(self._features, position)),
            f"{values[row, position]:g} does not fit {what}, which takes whole numbers from {lowest} to {highest}",
        )
