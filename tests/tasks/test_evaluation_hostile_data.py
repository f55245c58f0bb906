"""Data that are broken or contradict the model, metrics that make no sense, numbers that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import EvaluationUnavailable
from tests.tasks.evaluations import dense_layer, judge, small_h5, write_h5

GOOD = "0.1,0.2,0.3,0.4,1\n"
HEADER = "a,b,c,d,label\n"


def _text(content: str | bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / "data.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


def _table(**columns: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        pq.write_table(pa.table(columns), folder / "data.parquet")
        return folder / "data.parquet"

    return make


def _cut_table(folder: Path) -> Path:
    path = _table(**dict.fromkeys("abcd", pa.array(np.arange(50.0))), label=pa.array([1] * 50))(folder)
    path.write_bytes(path.read_bytes()[:-30])
    return path


def _scribbled_table(folder: Path) -> Path:
    columns = {name: pa.array(np.random.default_rng(1).normal(size=500)) for name in "abcd"}
    path = _table(**columns, label=pa.array([1] * 500))(folder)
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    return path


NUMBERS = {name: pa.array([0.1, 0.2]) for name in "abcd"}

CASES: list[tuple[str, str, str, Callable[[Path], Path], dict[str, Any]]] = [
    ("empty file", "empty-data", "", _text(""), {}),
    ("blank lines", "empty-data", "", _text("\n \n"), {}),
    ("header alone", "empty-data", "", _text(HEADER), {}),
    ("header without an end", "empty-data", "", _text(HEADER.strip()), {}),
    ("pictures", "unknown-data-format", "", _text(b"\x89PNG\r\n\x1a\n" + bytes(50)), {}),
    ("UTF-16", "unknown-data-format", "", _text(HEADER.encode("utf-16")), {}),
    ("a zip", "unknown-data-format", "", _text(b"PK\x03\x04" + bytes(50)), {}),
    ("a word", "not-a-number", "row 2, column 'c'", _text(HEADER + GOOD + "1,2,x y,4,0\n"), {}),
    ("a date", "not-a-number", "row 1, column 'a'", _text(HEADER + "2020-01-01,2,3,4,0\n"), {}),
    ("a word without a header", "not-a-number", "row 2, column '2'", _text(GOOD + "1,2,x,4,0\n"), {}),
    ("an empty cell", "not-finite", "row 2, column 'b'", _text(HEADER + GOOD + "1,,3,4,0\n"), {}),
    ("NaN", "not-finite", "row 2, column 'd'", _text(HEADER + GOOD + "1,2,3,nan,0\n"), {}),
    ("infinity", "not-finite", "row 1, column 'a'", _text(HEADER + "inf,2,3,4,0\n"), {}),
    ("too large for a double", "not-finite", "row 1, column 'a'", _text(HEADER + "1e999,2,3,4,0\n"), {}),
    ("a missing label", "not-finite", "row 1, column 'label'", _text(HEADER + "1,2,3,4,\n"), {}),
    ("a short row", "ragged-row", "row 2", _text(HEADER + GOOD + "1,2,3\n"), {}),
    ("a long row", "ragged-row", "row 2", _text(HEADER + GOOD + "1,2,3,4,5,6\n"), {}),
    ("an open quote", "ragged-row", "row 2", _text(HEADER + GOOD + '"1,2,3,4,0\n'), {}),
    ("a class too many", "label-out-of-range", "row 2, column 'label'", _text(HEADER + GOOD + "1,2,3,4,3\n"), {}),
    ("a negative class", "label-out-of-range", "row 1, column 'label'", _text(HEADER + "1,2,3,4,-1\n"), {}),
    ("half a class", "label-out-of-range", "row 1, column 'label'", _text(HEADER + "1,2,3,4,0.5\n"), {}),
    ("too few columns", "input-misfit", "row 1, column 'a'", _text("a,b,label\n0.5,2,1\n"), {}),
    ("words beyond the vector", "input-misfit", "row 2, column 'b'", _text("a,b,label\n1,2,1\n0,4,1\n"), {}),
    ("words below nought", "input-misfit", "row 1, column 'b'", _text("a,b,label\n1,-2,1\n"), {}),
    ("a column that is not there", "missing-column", "", _text(HEADER + GOOD), {"label": {"column": "x"}}),
    ("a column twice", "missing-column", "", _text("a,b,c,c,label\n" + GOOD), {"features": {"columns": ["a", "c"]}}),
    ("classes that differ", "classes-misfit", "", _text(HEADER + GOOD), {"label": {"classes": 5}}),
    (
        "two classes at once",
        "label-encoding",
        "row 2",
        _text("1,1,1,1,0,1,0\n1,1,1,1,1,1,0\n"),
        {"label": {"encoding": "one_hot"}},
    ),
    ("a Parquet file cut off", "parquet-damaged", "", _cut_table, {}),
    ("a Parquet file scribbled over", "parquet-damaged", "", _scribbled_table, {}),
    ("a Parquet file without rows", "empty-data", "", _table(**{n: pa.array([], pa.float64()) for n in "abcde"}), {}),
    ("Parquet with words", "not-a-number", "column 'label'", _table(**NUMBERS, label=pa.array(["x", "y"])), {}),
    ("Parquet with a null", "not-finite", "row 2, column 'label'", _table(**NUMBERS, label=pa.array([1, None])), {}),
    (
        "Parquet with lists of two lengths",
        "ragged-row",
        "row 2, column 'x'",
        _table(x=pa.array([[1.0] * 4, [1.0] * 3]), label=pa.array([1, 2])),
        {},
    ),
    (
        "Parquet with a missing list",
        "not-finite",
        "column 'x'",
        _table(x=pa.array([[1.0] * 4, None]), label=pa.array([1, 2])),
        {},
    ),
    ("Parquet with an empty list", "ragged-row", "row 1", _table(x=pa.array([[], [1.0]]), label=pa.array([1, 2])), {}),
]


@pytest.mark.parametrize(("name", "rule", "place", "make", "said"), CASES, ids=[case[0] for case in CASES])
def test_hostile_data(
    tmp_path: Path, name: str, rule: str, place: str, make: Callable[[Path], Path], said: dict[str, Any]
) -> None:
    result = judge(small_h5(tmp_path / "m.h5"), make(tmp_path), **said)
    assert (result.verdict, result.rule) == ("invalid", rule), result.reason
    assert result.place is not None and result.place.startswith("data") and place in result.place
    assert result.score is None


METRIC_CASES: list[tuple[str, str, str, dict[str, Any]]] = [
    ("beauty", "unknown-metric", GOOD, {}),
    ("rmse", "metric-misfit", GOOD, {}),
    ("auc", "metric-undefined", GOOD, {}),
    ("top_5_accuracy", "metric-undefined", GOOD, {}),
]


@pytest.mark.parametrize(("metric", "rule", "rows", "said"), METRIC_CASES, ids=[case[0] for case in METRIC_CASES])
def test_metrics_that_cannot_be(tmp_path: Path, metric: str, rule: str, rows: str, said: dict[str, Any]) -> None:
    result = judge(small_h5(tmp_path / "m.h5"), _text(HEADER + rows)(tmp_path), metric=metric, **said)
    assert (result.verdict, result.rule) == ("invalid", rule)


def test_auc_of_one_class_and_r2_of_one_value(tmp_path: Path) -> None:
    one = small_h5(tmp_path / "m.h5", outputs=1, activation="sigmoid")
    assert judge(one, _text(HEADER + GOOD * 3)(tmp_path), metric="auc").rule == "metric-undefined"
    assert judge(one, _text(HEADER + GOOD * 3)(tmp_path), metric="r2", task="regression").rule == "metric-undefined"


@pytest.mark.parametrize("weight", [np.nan, np.inf, 3e38])
def test_predictions_that_are_no_numbers(tmp_path: Path, weight: float) -> None:
    model = write_h5(
        tmp_path / "m.h5",
        {"class_name": "Sequential", "config": [dense_layer("dense", 2, "linear", batch_input_shape=[None, 1])]},
        {"dense": {"dense/kernel:0": np.full((1, 2), weight, np.float32), "dense/bias:0": np.zeros(2, np.float32)}},
    )
    result = judge(model, _text("x,label\n0.5,1\n0.25,0\n3,1\n")(tmp_path), metric="accuracy", task="classification")
    assert (result.verdict, result.rule) == ("invalid", "not-finite-prediction")
    assert result.reason is not None
    assert ("row 3" if weight == 3e38 else "row 1") in result.reason


def test_a_score_beyond_all_bounds(tmp_path: Path) -> None:
    model = small_h5(tmp_path / "m.h5", outputs=1, activation="linear")
    result = judge(model, _text(HEADER + "1,2,3,4,1e200\n")(tmp_path), metric="mse")
    assert result.rule == "score-too-large"


def test_tokens_beyond_the_embedding(tmp_path: Path) -> None:
    """On a GPU such a token would silently read zeros, so it is found before the model is called."""
    layers: list[dict[str, Any]] = [
        {
            "class_name": "Embedding",
            "config": {"name": "e", "input_dim": 5, "output_dim": 2, "batch_input_shape": [None, 3]},
        },
        {"class_name": "GlobalAveragePooling1D", "config": {"name": "g"}},
        dense_layer("d", 2, "softmax"),
    ]
    weights: dict[str, dict[str, Any]] = {
        "e": {"e/embeddings:0": np.ones((5, 2), np.float32)},
        "d": {"d/kernel:0": np.ones((2, 2), np.float32), "d/bias:0": np.zeros(2, np.float32)},
    }
    model = write_h5(tmp_path / "m.h5", {"class_name": "Sequential", "config": layers}, weights)
    assert judge(model, _text("0,1,4,1\n1,1,1,0\n")(tmp_path)).verdict == "valid"
    result = judge(model, _text("0,1,4,1\n1,5,1,0\n")(tmp_path))
    assert (result.rule, result.place) == ("input-misfit", "data: row 2, column '1'")
    assert judge(model, _text("0,1,0.5,1\n1,1,1,0\n")(tmp_path)).rule == "input-misfit"


def test_whole_numbers_for_an_input_of_bytes(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input((2,), dtype="uint8"), keras.layers.Rescaling(1 / 255), keras.layers.Dense(2)])
    model.save(tmp_path / "m.keras")
    path = tmp_path / "m.keras"
    said: dict[str, Any] = {"task": "classification"}
    assert judge(path, _text("x,y,label\n0,255,1\n")(tmp_path), **said).verdict == "valid"
    assert judge(path, _text("x,y,label\n0,256,1\n")(tmp_path), **said).rule == "input-misfit"
    assert judge(path, _text("x,y,label\n0,-1,1\n")(tmp_path), **said).rule == "input-misfit"


def test_several_inputs_have_no_words_in_a_schema(tmp_path: Path) -> None:
    import keras

    a, b = keras.Input((2,)), keras.Input((2,))
    keras.Model([a, b], keras.layers.Concatenate()([a, b])).save(tmp_path / "m.keras")
    assert judge(tmp_path / "m.keras", _text(HEADER + GOOD)(tmp_path)).rule == "several-inputs"


def test_a_file_that_is_not_there_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(EvaluationUnavailable, match="gone"):
        judge(tmp_path / "gone.h5", _text(HEADER + GOOD)(tmp_path))
    with pytest.raises(EvaluationUnavailable, match="gone"):
        judge(small_h5(tmp_path / "m.h5"), tmp_path / "gone.csv")
