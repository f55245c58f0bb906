"""Data sets: what is declared, what is inferred, what is read, and what is said about it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import InvalidContent
from tasks.evaluation.data.csv_table import CsvTable, is_header
from tasks.evaluation.data.planning import ModelShape, plan_columns, settle_labels
from tasks.evaluation.data.tables import Column, open_table
from tests.tasks.evaluations import data_schema, judge, small_h5, write_csv

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(30, 4))
Y = RANDOM.integers(0, 3, size=30)


def _weights(path: Path) -> tuple[Any, Any]:
    import h5py

    with h5py.File(path) as file:
        group = file["model_weights/dense/dense"]
        return group["kernel:0"][()], group["bias:0"][()]


def _expected(path: Path, x: Any = X) -> int:
    kernel, bias = _weights(path)
    return int(((x @ kernel + bias).argmax(axis=1) == Y).sum())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return small_h5(tmp_path / "model.h5")


def test_csv_without_header(tmp_path: Path, model: Path) -> None:
    result = judge(model, write_csv(tmp_path / "d.csv", X, Y))
    assert (result.correct, result.rows) == (_expected(model), 30)
    assert any("no header" in sentence for sentence in result.inferred)


def test_label_and_features_by_name(tmp_path: Path, model: Path) -> None:
    data = write_csv(
        tmp_path / "d.csv", Y, RANDOM.normal(size=30), X[:, ::-1], header=["kind", "noise", "d", "c", "b", "a"]
    )
    result = judge(
        model,
        data,
        label={"column": "kind", "classes": 3, "encoding": "index"},
        features={"columns": ["a", "b", "c", "d"], "encoding": "numeric"},
        task="classification",
    )
    assert result.correct == _expected(model)
    assert result.inferred == ["The first line of the CSV file is its header: it names the label column 'kind'."]


def test_columns_by_position_from_both_ends(tmp_path: Path, model: Path) -> None:
    data = write_csv(tmp_path / "d.csv", X, Y, RANDOM.normal(size=30))
    result = judge(model, data, label={"column": -2}, features={"columns": [0, 1, 2, 3]})
    assert result.correct == _expected(model)


def test_a_text_column_that_nobody_uses_is_no_harm(tmp_path: Path, model: Path) -> None:
    frame = pd.DataFrame(X, columns=list("abcd")).assign(name='x, "y"', label=Y)
    frame.to_csv(tmp_path / "d.csv", index=False)
    result = judge(model, tmp_path / "d.csv", features={"columns": list("abcd")})
    assert result.correct == _expected(model)


def test_the_index_that_pandas_writes_is_dropped_and_said(tmp_path: Path, model: Path) -> None:
    pd.DataFrame(X, columns=list("abcd")).assign(label=Y).to_csv(tmp_path / "d.csv")
    result = judge(model, tmp_path / "d.csv")
    assert result.correct == _expected(model)
    assert any("index of the table" in sentence for sentence in result.inferred)


@pytest.mark.parametrize(("delimiter", "said"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_delimiters_with_bom_and_windows_lines(tmp_path: Path, model: Path, delimiter: str, said: str) -> None:
    data = write_csv(tmp_path / "d.csv", X, Y, header=["a", "b", "c", "d", "label"])
    text = data.read_text().replace(",", delimiter).replace("\n", "\r\n")
    data.write_bytes(b"\xef\xbb\xbf" + text.encode())
    result = judge(model, data, label={"column": "label"})
    assert result.correct == _expected(model)
    assert any(said in sentence for sentence in result.inferred)


def test_one_hot_labels_are_recognised(tmp_path: Path, model: Path) -> None:
    result = judge(model, write_csv(tmp_path / "d.csv", X, np.eye(3)[Y]))
    assert result.correct == _expected(model)
    assert any("one-hot" in sentence for sentence in result.inferred)


def test_one_hot_labels_declared_by_their_first_column(tmp_path: Path, model: Path) -> None:
    data = write_csv(tmp_path / "d.csv", np.eye(3)[Y], X)
    result = judge(model, data, label={"column": 0, "classes": 3, "encoding": "one_hot"})
    assert result.correct == _expected(model)


def test_scale_divides_the_features(tmp_path: Path, model: Path) -> None:
    result = judge(model, write_csv(tmp_path / "d.csv", X * 255, Y), features={"scale": 255.0})
    assert result.correct == _expected(model)


def test_multi_hot_counts_index_zero_as_a_word(tmp_path: Path) -> None:
    model = small_h5(tmp_path / "model.h5", inputs=10)
    words = RANDOM.integers(0, 10, size=(30, 4))
    vectors = np.zeros((30, 10))
    np.put_along_axis(vectors, words, 1, axis=1)
    data = write_csv(tmp_path / "d.csv", words, Y)
    assert judge(model, data).correct == _expected(model, vectors)
    assert judge(model, data, features={"encoding": "multi_hot", "size": 10}).correct == _expected(model, vectors)


def test_binary_labels_and_a_single_probability(tmp_path: Path) -> None:
    model = small_h5(tmp_path / "model.h5", outputs=1, activation="sigmoid")
    kernel, bias = _weights(model)
    said = (X @ kernel + bias)[:, 0] > 0
    result = judge(model, write_csv(tmp_path / "d.csv", X, Y > 1), metric="auc")
    assert result.correct == int((said == (Y > 1)).sum())
    assert result.metrics["auc"] is not None and result.classes == 2


@pytest.mark.parametrize("task", [None, "regression"])
def test_regression_of_one_and_of_several_outputs(tmp_path: Path, task: str | None) -> None:
    for outputs in (1, 2):
        model = small_h5(tmp_path / f"m{outputs}.h5", outputs=outputs, activation="linear")
        kernel, bias = _weights(model)
        values = X @ kernel + bias + 1.0
        said = {"task": task} if task else {}
        result = judge(model, write_csv(tmp_path / "d.csv", X, values), metric="mae", **said)
        assert result.task == "regression"
        assert result.value == pytest.approx(1.0, abs=1e-6)


def test_logits_become_probabilities(tmp_path: Path) -> None:
    soft, linear = small_h5(tmp_path / "s.h5"), small_h5(tmp_path / "l.h5", activation="linear")
    data = write_csv(tmp_path / "d.csv", X, Y)
    one, other = judge(soft, data, metric="log_loss"), judge(linear, data, metric="log_loss", task="classification")
    assert other.value == pytest.approx(one.value, abs=1e-6)
    assert any("softmax makes them" in sentence for sentence in other.inferred)


def test_parquet_gives_the_same_as_csv(tmp_path: Path, model: Path) -> None:
    frame = pd.DataFrame(X, columns=list("abcd")).assign(label=Y.astype(np.int8))
    frame["a"] = frame["a"].astype(np.float32)
    frame.to_parquet(tmp_path / "d.parquet", index=False)
    result = judge(model, tmp_path / "d.parquet", format="csv", label={"column": "label"})
    assert result.correct == _expected(model)
    assert any("is parquet" in sentence for sentence in result.inferred)


def test_parquet_columns_in_another_order_than_the_model_takes_them(tmp_path: Path, model: Path) -> None:
    frame = pd.DataFrame(X, columns=["a", "b.x", "c", "d"]).assign(noise="text", label=Y)
    frame[["label", "d", "noise", "c", "b.x", "a"]].to_parquet(tmp_path / "d.parquet")
    features = {"columns": ["a", "b.x", "c", "d"]}
    assert judge(model, tmp_path / "d.parquet", label={"column": "label"}, features=features).correct == _expected(
        model
    )


def test_the_index_of_pandas_in_parquet_is_no_column(tmp_path: Path, model: Path) -> None:
    frame = pd.DataFrame(X, columns=list("abcd"), index=range(7, 37)).assign(label=Y)
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=True), tmp_path / "d.parquet")
    assert "__index_level_0__" in pq.read_schema(tmp_path / "d.parquet").names
    result = judge(model, tmp_path / "d.parquet")
    assert result.correct == _expected(model)
    assert any("index that pandas" in sentence for sentence in result.inferred)


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 4), pa.large_list(pa.float64())])
def test_parquet_with_a_column_of_lists(tmp_path: Path, model: Path, kind: Any) -> None:
    table = pa.table({"x": pa.array(X.tolist(), type=kind), "label": pa.array(Y)})
    pq.write_table(table, tmp_path / "d.parquet", row_group_size=7)
    assert judge(model, tmp_path / "d.parquet").correct == _expected(model)


def test_parquet_with_truth_values_dictionaries_and_decimals(tmp_path: Path) -> None:
    model = small_h5(tmp_path / "model.h5", inputs=3)
    flags, words, money = X[:, 0] > 0, RANDOM.integers(0, 3, size=30), X[:, 1].round(2)
    table = pa.table(
        {
            "flag": pa.array(flags),
            "word": pa.array(words).dictionary_encode(),
            "money": pa.array([f"{value:.2f}" for value in money]).cast(pa.decimal128(9, 2)),
            "label": pa.array(Y),
        }
    )
    pq.write_table(table, tmp_path / "d.parquet")
    expected = _expected(model, np.stack([flags, words, money], axis=1))
    assert judge(model, tmp_path / "d.parquet").correct == expected


def test_large_files_come_in_blocks_and_batches_of_one_size(tmp_path: Path, model: Path) -> None:
    copies = 4_000
    data = tmp_path / "d.csv"
    write_csv(data, np.tile(X, (copies, 1)), np.tile(Y, copies))
    assert data.stat().st_size > 2 * 4 * 2**20
    result = judge(model, data)
    assert (result.rows, result.correct) == (30 * copies, copies * _expected(model))


@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(1, 6), st.integers(1, 40))
def test_csv_numbers_arrive_as_written(tmp_path_factory: Any, data: Any, columns: int, rows: int) -> None:
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)
    table = np.array(
        data.draw(st.lists(st.lists(numbers, min_size=columns, max_size=columns), min_size=rows, max_size=rows))
    )
    path = write_csv(tmp_path_factory.mktemp("csv") / "d.csv", table, header=[f"x{i}" for i in range(columns)])
    read = open_table(path, max_columns=100, declared="csv", label=None)
    blocks = list(read.blocks(range(columns)))
    assert np.array_equal(np.concatenate(blocks), table)


@pytest.mark.parametrize(
    ("first", "second", "label", "expected"),
    [
        (["a", "b"], ["1", "2"], None, True),
        (["1", "2"], ["3", "4"], None, False),
        (["0", "1"], ["3", "4"], None, False),  # too short to be a count of columns
        (["0", "1"], ["3.0", "4.0"], None, True),
        ([str(i) for i in range(8)], ["0"] * 8, None, True),
        ([str(i) for i in range(1, 9)], ["0"] * 8, None, False),
        (["1.5", "2"], ["3", "4"], "2", True),
        (["1.5", ""], ["3", "4"], None, True),
        (["1e5", "-2.5E-3"], [], None, False),
        (["nan", "1"], ["3", "4"], None, True),
    ],
)
def test_what_counts_as_a_header(first: list[str], second: list[str], label: str | None, expected: bool) -> None:
    assert is_header(first, second, label)[0] is expected


def _columns(count: int) -> list[Column]:
    return [Column(f"c{position}") for position in range(count)]


@pytest.mark.parametrize(
    ("said", "columns", "inputs", "outputs", "features", "labels", "encoding", "shape"),
    [
        ({}, 5, (4,), 3, 4, (4,), "numeric", (4,)),
        ({}, 7, (4,), 3, 4, (4, 5, 6), "numeric", (4,)),
        ({}, 7, (100,), 3, 6, (6,), "multi_hot", (100,)),
        ({}, 7, (None,), 3, 6, (6,), "numeric", (6,)),
        ({}, 785, (28, 28, 1), 10, 784, (784,), "numeric", (28, 28, 1)),
        ({}, 13, (None, 3), 2, 12, (12,), "numeric", (4, 3)),
        ({"task": "regression"}, 6, (4,), 2, 4, (4, 5), "numeric", (4,)),
        ({"label": {"column": "c0"}}, 5, (4,), 3, 4, (0,), "numeric", (4,)),
        ({"label": {"column": 1, "encoding": "one_hot"}}, 7, (4,), 3, 4, (1, 2, 3), "numeric", (4,)),
        ({"features": {"size": 50}}, 5, (50,), 3, 4, (4,), "multi_hot", (50,)),
        ({"features": {"shape": [2, 2]}}, 5, (None, None), 3, 4, (4,), "numeric", (2, 2)),
    ],
)
def test_columns_are_divided(
    said: Any, columns: int, inputs: Any, outputs: int, features: int, labels: Any, encoding: str, shape: Any
) -> None:
    plan = plan_columns(data_schema(**said), _columns(columns), ModelShape(inputs, outputs, "softmax"), named=True)
    assert (len(plan.features), plan.labels) == (features, labels)
    assert (plan.feature_encoding, plan.shape) == (encoding, shape)


@pytest.mark.parametrize(
    ("said", "columns", "inputs", "outputs", "rule"),
    [
        ({}, 1, (4,), 3, "input-misfit"),
        ({}, 6, (2, 2), 3, "input-misfit"),
        ({}, 7, (None, None), 3, "input-misfit"),
        ({}, 8, (None, 3), 3, "input-misfit"),
        ({"features": {"encoding": "numeric"}}, 8, (4,), 3, "input-misfit"),
        ({"features": {"size": 50}}, 5, (40,), 3, "input-misfit"),
        ({"features": {"encoding": "multi_hot"}}, 5, (None,), 3, "input-misfit"),
        ({"features": {"shape": [4, 1]}}, 5, (4,), 3, "input-misfit"),
        ({"features": {"columns": ["c4", "c0"]}}, 5, (2,), 3, "input-misfit"),
        ({"features": {"columns": ["c0", "c0"]}}, 5, (2,), 3, "input-misfit"),
        ({"features": {"columns": ["nope"]}}, 5, (1,), 3, "missing-column"),
        ({"label": {"column": "nope"}}, 5, (4,), 3, "missing-column"),
        ({"label": {"column": 5}}, 5, (4,), 3, "missing-column"),
        ({"label": {"column": -6}}, 5, (4,), 3, "missing-column"),
        ({"label": {"column": 4, "encoding": "one_hot"}}, 5, (4,), 3, "missing-column"),
        ({"label": {"classes": 4}}, 5, (4,), 3, "classes-misfit"),
        ({"label": {"encoding": "binary"}}, 5, (4,), 3, "classes-misfit"),
        ({"label": {"encoding": "value"}, "task": "classification"}, 7, (4,), 3, "label-encoding"),
        ({"label": {"encoding": "index"}, "task": "regression"}, 5, (4,), 3, "label-encoding"),
    ],
)
def test_contradictions_are_refused(said: Any, columns: int, inputs: Any, outputs: int, rule: str) -> None:
    with pytest.raises(InvalidContent) as refused:
        plan_columns(data_schema(**said), _columns(columns), ModelShape(inputs, outputs, "softmax"), named=True)
    assert refused.value.rule == rule


@pytest.mark.parametrize(
    ("said", "outputs", "head", "labels", "task", "encoding"),
    [
        ({}, 3, "softmax", [[0], [2]], "classification", "index"),
        ({}, 3, "linear", [[0], [2]], "classification", "index"),
        ({}, 1, "sigmoid", [[0], [1]], "classification", "binary"),
        ({}, 1, "sigmoid", [[0.5], [1]], "regression", "value"),
        ({}, 1, "linear", [[0], [1]], "regression", "value"),
        ({}, 1, "linear", [[3.5], [1]], "regression", "value"),
        ({"task": "classification"}, 1, "linear", [[0], [1]], "classification", "binary"),
        ({"label": {"classes": 2}}, 1, "linear", [[0], [1]], "classification", "binary"),
        ({"task": "regression"}, 1, "sigmoid", [[0], [1]], "regression", "value"),
    ],
)
def test_labels_are_settled(said: Any, outputs: int, head: str, labels: Any, task: str, encoding: str) -> None:
    shape = ModelShape((4,), outputs, head)
    plan = plan_columns(data_schema(**said), _columns(5), shape, named=True)
    settled = settle_labels(plan, np.array(labels, dtype=float), shape)
    assert (settled.task, settled.label_encoding) == (task, encoding)


def test_a_line_wider_than_a_block_is_read(tmp_path: Path) -> None:
    columns = 90_000
    path = write_csv(tmp_path / "d.csv", RANDOM.normal(size=(3, columns)) * 1e-200)
    assert path.read_bytes().index(b"\n") > 2**20
    table = open_table(path, max_columns=columns, declared=None, label=None)
    assert isinstance(table, CsvTable)
    assert sum(len(block) for block in table.blocks([0, columns - 1])) == 3


class _MemoryWatch:
    """The most memory that this process had, above what it had at first, in MiB."""

    def __enter__(self) -> _MemoryWatch:
        self._first, self.most, self._over = self._now(), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    @staticmethod
    def _now() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.most = max(self.most, self._now() - self._first)


@pytest.mark.soak
def test_memory_does_not_grow_with_the_data_set(tmp_path: Path) -> None:
    model = small_h5(tmp_path / "m.h5", inputs=50)
    header = ",".join([*(f"x{column}" for column in range(50)), "label"]) + "\n"
    rows = write_csv(tmp_path / "rows.csv", RANDOM.normal(size=(20_000, 50)), RANDOM.integers(0, 3, size=20_000))
    content = rows.read_bytes()
    most = []
    for copies in (1, 4, 16):
        path = tmp_path / "d.csv"
        with path.open("wb") as file:
            file.write(header.encode())
            for _ in range(copies):
                file.write(content)
        with _MemoryWatch() as watch:
            assert judge(model, path).rows == 20_000 * copies
        most.append(watch.most)
    assert most[2] < most[1] + 64, most
