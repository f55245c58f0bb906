"""The figures: our own definitions, one pass over the batches, float64 and integer counts on the host.

Here live the names of all metrics and what is better in each; the definitions are in `classification` and
`regression`.
"""

from tasks.evaluation.metrics.classification import CLASSIFICATION_METRICS
from tasks.evaluation.metrics.regression import REGRESSION_METRICS

METRICS = (*CLASSIFICATION_METRICS, *REGRESSION_METRICS)
_LOWER_IS_BETTER = frozenset({"log_loss", "brier", "mse", "rmse", "mae"})
_ALIASES = {"loss": "log_loss", "logloss": "log_loss", "top_5": "top_5_accuracy", "r_2": "r2"}


def higher_is_better(metric: str) -> bool:
    """Whether a larger value of a metric means a better model."""
    return metric not in _LOWER_IS_BETTER


def canonical_name(metric: str) -> str:
    """The name of a metric in one spelling: ``Log-Loss`` is ``log_loss``. Unknown names pass through."""
    name = metric.strip().lower().replace("-", "_").replace(" ", "_")
    return _ALIASES.get(name, name)


__all__ = ["CLASSIFICATION_METRICS", "METRICS", "REGRESSION_METRICS", "canonical_name", "higher_is_better"]
