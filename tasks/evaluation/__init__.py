"""The evaluation engine: a stranger's model, a stranger's data set, one verdict.

Here lives everything from two files on disk to a verdict with figures: formats, the allowlist of
architectures, weights, tables, encodings, predictions and metrics. Isolation (`tasks.sandbox`), the report
(`tasks.report`) and Celery are elsewhere; this package is called in a child process that may be killed at any
time. Importing it is cheap: TensorFlow, Keras and pyarrow come with `warm_imports` or with the first call.
"""

from tasks.evaluation.engine import evaluate, score_of
from tasks.evaluation.metrics import METRICS, higher_is_better
from tasks.evaluation.models import EvaluationRequest, EvaluationResult, ModelSummary, PerClass
from tasks.evaluation.runtime import warm_imports

__all__ = [
    "METRICS",
    "EvaluationRequest",
    "EvaluationResult",
    "ModelSummary",
    "PerClass",
    "evaluate",
    "higher_is_better",
    "score_of",
    "warm_imports",
]
