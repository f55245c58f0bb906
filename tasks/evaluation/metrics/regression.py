"""Metrics of regression, computed in one pass in float64.

Here live the definitions and their accumulator. With several outputs each figure is the mean of those of the
outputs (for the root of the mean square error too: the mean of the roots). R² is None where it is undefined:
with fewer than two rows, or an output whose values are all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REGRESSION_METRICS = ("mse", "rmse", "mae", "r2")


class RegressionMetrics:
    """Accumulates the figures of a regression over batches."""

    def __init__(self, outputs: int) -> None:
        import numpy as np

        self.rows = 0
        self._squares = np.zeros(outputs)
        self._absolutes = np.zeros(outputs)
        self._mean = np.zeros(outputs)
        self._spread = np.zeros(outputs)  # sum of squared distances from the mean, merged as by Chan et al.

    def update(self, values: NDArray[np.float64], predictions: NDArray[np.float64]) -> None:
        """Add a batch; both of shape (rows, outputs)."""
        import numpy as np

        with np.errstate(over="ignore", invalid="ignore"):  # infinite figures are refused as scores
            errors = predictions - values
            self._squares += (errors**2).sum(axis=0)
            self._absolutes += np.abs(errors).sum(axis=0)
            count = len(values)
            mean = values.mean(axis=0)
            spread = ((values - mean) ** 2).sum(axis=0)
            total = self.rows + count
            shift = mean - self._mean
            self._spread += spread + shift**2 * self.rows * count / total
            self._mean += shift * count / total
        self.rows = total

    def figures(self) -> dict[str, float | None]:
        """Every metric by name; needs at least one row."""
        import numpy as np

        mean_squares = self._squares / self.rows
        defined = self.rows >= 2 and bool((self._spread > 0).all())
        return {
            "mse": float(mean_squares.mean()),
            "rmse": float(np.sqrt(mean_squares).mean()),
            "mae": float((self._absolutes / self.rows).mean()),
            "r2": float((1 - self._squares / self._spread).mean()) if defined else None,
        }
