"""Area under the ROC curve in one pass: exact while the scores are few, with a known bound afterwards.

Here lives the accumulator. Scores are kept as a sorted table of distinct values with the number of positives
and negatives at each, so memory grows with distinct values, not with rows. When there are too many, the
table becomes bins of equal weight; a pair of rows within a bin then counts one half, whatever its true
order, which bounds the error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_DISTINCT = 4_000_000
BINS = 2**20
_PENDING_ROWS = 2**20


class AucAccumulator:
    """Accumulates scores of a binary classification."""

    def __init__(self, *, max_distinct: int = MAX_DISTINCT, bins: int = BINS) -> None:
        import numpy as np

        self._max_distinct = max_distinct
        self._bins = bins
        self._scores = np.empty(0)
        self._counts = np.empty((2, 0), dtype=np.int64)  # negatives, positives
        self._pending: list[tuple[NDArray[np.float64], NDArray[np.bool_]]] = []
        self._pending_rows = 0
        self._binned = False

    def update(self, scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> None:
        """Add a batch of scores and whether each row is of class 1."""
        self._pending.append((scores.copy(), positive))
        self._pending_rows += len(scores)
        if self._pending_rows >= _PENDING_ROWS:
            self._merge()

    def value(self) -> float | None:
        """The area, or None if only one class occurs."""
        self._merge()
        negatives, positives = self._counts
        pairs = float(negatives.sum()) * float(positives.sum())
        if pairs == 0:
            return None
        below = negatives.cumsum() - negatives
        return float((positives * (below + 0.5 * negatives)).sum()) / pairs

    def error(self) -> float:
        """The most by which `value` may be wrong; 0.0 while it is exact."""
        self._merge()
        negatives, positives = self._counts
        pairs = float(negatives.sum()) * float(positives.sum())
        if not self._binned or pairs == 0:
            return 0.0
        return 0.5 * float((negatives.astype(float) * positives).sum()) / pairs

    def notes(self) -> list[str]:
        """A sentence if the value is not exact."""
        error = self.error()
        return [f"The AUC was computed in {self._bins} bins; it is right within {error:.2g}."] if error else []

    def _merge(self) -> None:
        import numpy as np

        if not self._pending:
            return
        scores = np.concatenate([batch for batch, _ in self._pending])
        positive = np.concatenate([batch for _, batch in self._pending])
        self._pending, self._pending_rows = [], 0
        if self._binned:
            places = np.searchsorted(self._scores, scores, side="right") - 1
            self._add(np.maximum(places, 0), positive, len(self._scores))
            return
        distinct, places = np.unique(np.concatenate([self._scores, scores]), return_inverse=True)
        known = places[: len(self._scores)]
        counts = np.zeros((2, len(distinct)), dtype=np.int64)
        counts[:, known] = self._counts
        self._scores, self._counts = distinct, counts
        self._add(places[len(known) :], positive, len(distinct))
        if len(distinct) > self._max_distinct:
            self._bin()

    def _add(self, places: NDArray[np.intp], positive: NDArray[np.bool_], length: int) -> None:
        import numpy as np

        self._counts[0] += np.bincount(places[~positive], minlength=length)
        self._counts[1] += np.bincount(places[positive], minlength=length)

    def _bin(self) -> None:
        """Join neighbours into bins of about equal weight; the lowest score of a bin becomes its edge."""
        import numpy as np

        weights = self._counts.sum(axis=0)
        wanted = ((weights.cumsum() - weights) * self._bins) // max(1, int(weights.sum()))
        starts = np.flatnonzero(np.diff(wanted, prepend=-1))
        self._scores = self._scores[starts]
        self._counts = np.add.reduceat(self._counts, starts, axis=1)
        self._binned = True
