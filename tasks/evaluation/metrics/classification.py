"""Metrics of classification, computed in one pass: integer counts where there are counts, float64 elsewhere.

Here live the definitions and their accumulator. Ties go to the class with the lower index, in accuracy as in
top 5. Macro averages are over the classes that occur as label or as prediction, a ratio without denominator
counting as 0; balanced accuracy is over the classes that occur as label. A figure that is undefined on the
data is None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.evaluation.metrics.auc import AucAccumulator
from tasks.evaluation.models import MAX_CONFUSION_CLASSES, MAX_PER_CLASS_ROWS, PerClass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLIP = 1e-7
CLASSIFICATION_METRICS = [
    "accuracy",
    "top_5_accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "precision_micro",
    "recall_micro",
    "f1_micro",
    "log_loss",
    "brier",
    "auc",
]


class ClassificationMetrics:
    """Accumulates the figures of a classification over batches."""

    def __init__(self, classes: int) -> None:
        import numpy as np

        self.classes = classes
        self.rows = 0
        self.correct = 0
        self._top_5 = 0
        self._log_loss = 0.0
        self._brier = 0.0
        self._support = np.zeros(classes, dtype=np.int64)
        self._predicted = np.zeros(classes, dtype=np.int64)
        self._hits = np.zeros(classes, dtype=np.int64)
        small = classes <= MAX_CONFUSION_CLASSES
        self._confusion = np.zeros((classes, classes), dtype=np.int64) if small else None
        self._auc = AucAccumulator() if classes == 2 else None

    def update(self, labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> None:
        """Add a batch: class indices of shape (rows,), probabilities of shape (rows, classes)."""
        import numpy as np

        rows = np.arange(len(labels))
        said = probabilities.argmax(axis=1)
        self.rows += len(labels)
        right = said == labels
        self.correct += int(right.sum())
        self._support += np.bincount(labels, minlength=self.classes)
        self._predicted += np.bincount(said, minlength=self.classes)
        self._hits += np.bincount(labels[right], minlength=self.classes)
        if self._confusion is not None:
            pairs = np.bincount(labels * self.classes + said, minlength=self.classes**2)
            self._confusion += pairs.reshape(self.classes, self.classes)
        true = probabilities[rows, labels]
        self._log_loss -= float(np.log(np.clip(true, CLIP, 1.0)).sum())
        if self.classes > 5:
            before = probabilities > true[:, None]
            before |= (probabilities == true[:, None]) & (np.arange(self.classes) < labels[:, None])
            self._top_5 += int((before.sum(axis=1) < 5).sum())
        if self._auc is not None:
            self._brier += float(((probabilities[:, 1] - labels) ** 2).sum())
            self._auc.update(probabilities[:, 1], labels == 1)
        else:
            squares = (probabilities**2).sum(axis=1) - 2 * true + 1
            self._brier += float(squares.sum())

    def figures(self) -> dict[str, float | None]:
        """Every metric by name; needs at least one row."""
        import numpy as np

        present = (self._support > 0) | (self._predicted > 0)
        precision = self._hits / np.maximum(self._predicted, 1)
        recall = self._hits / np.maximum(self._support, 1)
        f1 = 2 * self._hits / np.maximum(self._support + self._predicted, 1)
        accuracy = self.correct / self.rows
        macro = {
            "precision_macro": float(precision[present].mean()),
            "recall_macro": float(recall[present].mean()),
            "f1_macro": float(f1[present].mean()),
        }
        if self.classes == 2:
            of_class = {"precision": float(precision[1]), "recall": float(recall[1]), "f1": float(f1[1])}
        else:
            of_class = {name: macro[f"{name}_macro"] for name in ("precision", "recall", "f1")}
        return {
            "accuracy": accuracy,
            "top_5_accuracy": self._top_5 / self.rows if self.classes > 5 else None,
            "balanced_accuracy": float(recall[self._support > 0].mean()),
            **of_class,
            **macro,
            "precision_micro": accuracy,
            "recall_micro": accuracy,
            "f1_micro": accuracy,
            "log_loss": self._log_loss / self.rows,
            "brier": self._brier / self.rows,
            "auc": self._auc.value() if self._auc is not None else None,
        }

    def confusion(self) -> list[list[int]] | None:
        """Rows by true class, columns by predicted class; None for many classes."""
        table: Any = self._confusion
        return None if table is None else table.tolist()

    def per_class(self) -> list[PerClass]:
        """One entry for each class that occurs, up to a limit."""
        import numpy as np

        present = np.flatnonzero((self._support > 0) | (self._predicted > 0))[:MAX_PER_CLASS_ROWS]
        return [self._entry(int(label)) for label in present]

    def notes(self) -> list[str]:
        """What has to be said about how the figures were computed."""
        return [] if self._auc is None else self._auc.notes()

    def _entry(self, label: int) -> PerClass:
        support, predicted, hits = (int(counts[label]) for counts in (self._support, self._predicted, self._hits))
        return PerClass(
            label=label,
            support=support,
            predicted=predicted,
            correct=hits,
            precision=hits / predicted if predicted else None,
            recall=hits / support if support else None,
            f1=2 * hits / (support + predicted),
        )
