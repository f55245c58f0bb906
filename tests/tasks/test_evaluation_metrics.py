"""Our metrics against those of scikit-learn, on random cases, in any division into batches."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tasks.evaluation import METRICS, higher_is_better
from tasks.evaluation.metrics import canonical_name
from tasks.evaluation.metrics.auc import AucAccumulator
from tasks.evaluation.metrics.classification import ClassificationMetrics
from tasks.evaluation.metrics.regression import RegressionMetrics

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def _near(ours: float | None, theirs: Any) -> bool:
    return ours is not None and math.isclose(ours, float(theirs), rel_tol=1e-9, abs_tol=1e-9)


def _cuts(rows: int, seed: int) -> list[slice]:
    random = np.random.default_rng(seed)
    edges = sorted({0, rows, *random.integers(0, rows + 1, size=3).tolist()})
    return [slice(start, end) for start, end in itertools.pairwise(edges)]


def _classify(labels: Any, probabilities: Any, seed: int) -> ClassificationMetrics:
    ours = ClassificationMetrics(probabilities.shape[1])
    for part in _cuts(len(labels), seed):
        ours.update(labels[part], probabilities[part])
    return ours


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(2, 12))
def test_classification_agrees_with_scikit_learn(seed: int, rows: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, size=rows)
    probabilities = random.dirichlet(np.full(classes, 2.0), size=rows)
    probabilities = np.clip(probabilities, 1e-6, None)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    said = probabilities.argmax(axis=1)
    every = list(range(classes))
    ours = _classify(labels, probabilities, seed)
    figures = ours.figures()
    assert figures["accuracy"] == sk.accuracy_score(labels, said)
    assert _near(figures["balanced_accuracy"], sk.recall_score(labels, said, labels=np.unique(labels), average="macro"))
    for name in ("precision", "recall", "f1"):
        score = getattr(sk, f"{name}_score")
        assert _near(figures[f"{name}_macro"], score(labels, said, average="macro", zero_division=0))
        assert _near(figures[f"{name}_micro"], score(labels, said, average="micro"))
        if classes == 2:
            assert _near(figures[name], score(labels, said, zero_division=0))
    assert _near(figures["log_loss"], sk.log_loss(labels, probabilities, labels=every))
    if classes == 2:
        assert _near(figures["brier"], sk.brier_score_loss(labels, probabilities[:, 1], pos_label=1))
    else:
        one_hot = np.eye(classes)[labels]
        assert _near(figures["brier"], ((probabilities - one_hot) ** 2).sum(axis=1).mean())
    if classes > 5:
        assert _near(figures["top_5_accuracy"], sk.top_k_accuracy_score(labels, probabilities, k=5, labels=every))
    else:
        assert figures["top_5_accuracy"] is None
    assert ours.confusion() == sk.confusion_matrix(labels, said, labels=every).tolist()
    table = sk.precision_recall_fscore_support(labels, said, labels=every, zero_division=0)
    for entry in ours.per_class():
        theirs = [column[entry.label] for column in table]
        assert _near(entry.precision or 0.0, theirs[0])
        assert _near(entry.recall or 0.0, theirs[1])
        assert _near(entry.f1, theirs[2])
        assert entry.support == theirs[3]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 80), st.integers(1, 20))
def test_auc_is_exact_with_ties(seed: int, rows: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, size=rows)
    labels[:2] = (0, 1)
    scores = random.integers(0, levels + 1, size=rows) / levels
    probabilities = np.stack([1 - scores, scores], axis=1)
    assert _near(_classify(labels, probabilities, seed).figures()["auc"], sk.roc_auc_score(labels, scores))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(100, 2_000))
def test_auc_in_bins_keeps_its_bound(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, size=rows)
    labels[:2] = (0, 1)
    scores = np.clip(random.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    ours = AucAccumulator(max_distinct=50, bins=40)
    for part in _cuts(rows, seed):
        ours.update(scores[part], labels[part] == 1)
        ours.value()  # merges, so that bins are made early and filled later
    value = ours.value()
    assert value is not None
    assert 0 < ours.error() < 0.05
    assert abs(value - sk.roc_auc_score(labels, scores)) <= ours.error() + 1e-12
    assert str(40) in ours.notes()[0]


def test_auc_of_one_class_is_undefined() -> None:
    ours = AucAccumulator()
    ours.update(np.array([0.1, 0.9]), np.array([True, True]))
    assert ours.value() is None
    assert ours.notes() == []


def test_a_wrong_certainty_costs_the_clipped_loss() -> None:
    ours = ClassificationMetrics(2)
    ours.update(np.array([0]), np.array([[0.0, 1.0]]))
    assert ours.figures()["log_loss"] == pytest.approx(-math.log(1e-7))


def test_many_classes_have_no_confusion_matrix() -> None:
    ours = ClassificationMetrics(201)
    ours.update(np.array([200, 3]), np.eye(201)[[200, 4]])
    assert ours.confusion() is None
    assert [entry.label for entry in ours.per_class()] == [3, 4, 200]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 4), st.floats(-1e4, 1e4))
def test_regression_agrees_with_scikit_learn(seed: int, rows: int, outputs: int, shift: float) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(shift, 3, size=(rows, outputs))
    said = values + random.normal(size=(rows, outputs))
    ours = RegressionMetrics(outputs)
    for part in _cuts(rows, seed):
        ours.update(values[part], said[part])
    figures = ours.figures()
    assert _near(figures["mse"], sk.mean_squared_error(values, said))
    assert _near(figures["rmse"], sk.root_mean_squared_error(values, said))
    assert _near(figures["mae"], sk.mean_absolute_error(values, said))
    assert _near(figures["r2"], sk.r2_score(values, said))


def test_r2_of_constant_values_is_undefined() -> None:
    ours = RegressionMetrics(1)
    ours.update(np.ones((4, 1)), np.zeros((4, 1)))
    assert ours.figures() == {"mse": 1.0, "rmse": 1.0, "mae": 1.0, "r2": None}


def test_names_of_metrics() -> None:
    assert canonical_name(" Log-Loss ") == "log_loss"
    assert canonical_name("loss") == "log_loss"
    assert len(set(METRICS)) == len(METRICS)
    assert not higher_is_better("rmse") and higher_is_better("r2") and higher_is_better("accuracy")
