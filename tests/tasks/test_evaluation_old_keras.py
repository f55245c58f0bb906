"""Files as Keras 1 and 2 wrote them, made by hand, against arithmetic done by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tasks.evaluations import dense_layer, judge, write_csv, write_h5

RANDOM = np.random.default_rng(11)


def _draw(*shape: int) -> Any:
    return RANDOM.normal(0, 0.5, size=shape).astype(np.float32)


def _hard_sigmoid(x: Any) -> Any:
    return np.clip(0.2 * x + 0.5, 0, 1)


def _lstm(x: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
    """The last output of an LSTM with hard sigmoid gates (input, forget, candidate, output)."""
    units = recurrent.shape[0]
    hidden = cell = np.zeros((len(x), units))
    for step in range(x.shape[1]):
        gates = x[:, step] @ kernel + hidden @ recurrent + bias
        i, f, c, o = (gates[:, part * units : (part + 1) * units] for part in range(4))
        cell = _hard_sigmoid(f) * cell + _hard_sigmoid(i) * np.tanh(c)
        hidden = _hard_sigmoid(o) * np.tanh(cell)
    return hidden


def _meets(tmp_path: Path, model: Path, inputs: Any, outputs: Any) -> None:
    data = write_csv(tmp_path / "data.csv", inputs.reshape(len(inputs), -1), outputs.reshape(len(outputs), -1))
    features = {"shape": list(inputs.shape[1:])}
    result = judge(model, data, metric="rmse", task="regression", features=features)
    assert result.reason is None
    assert result.value is not None and result.value < 1e-5


@pytest.mark.parametrize("as_list", [True, False], ids=["up to 2.2.2", "from 2.2.3"])
def test_sequential_of_keras_2(tmp_path: Path, as_list: bool) -> None:
    layers = [
        dense_layer("d1", 5, "relu", batch_input_shape=[None, 4], kernel_initializer={"class_name": "Zeros"}),
        {"class_name": "LeakyReLU", "config": {"name": "lr", "alpha": 0.25}},
        {"class_name": "BatchNormalization", "config": {"name": "bn", "axis": [1], "epsilon": 0.001, "momentum": 0.9}},
        {"class_name": "Dropout", "config": {"name": "drop", "rate": 0.5, "noise_shape": None, "seed": None}},
        dense_layer("d2", 2, "linear"),
    ]
    config = {"class_name": "Sequential", "config": layers if as_list else {"name": "s", "layers": layers}}
    k1, b1, k2, b2 = _draw(4, 5), _draw(5), _draw(5, 2), _draw(2)
    gamma, beta, mean, variance = _draw(5), _draw(5), _draw(5), np.abs(_draw(5))
    model = write_h5(
        tmp_path / "m.h5",
        config,
        {
            "d1": {"d1/kernel:0": k1, "d1/bias:0": b1},
            "lr": {},
            "bn": {
                "bn/gamma:0": gamma,
                "bn/beta:0": beta,
                "bn/moving_mean:0": mean,
                "bn/moving_variance:0": variance,
            },
            "drop": {},
            "d2": {"d2/bias:0": b2, "d2/kernel:0": k2},  # by name, whatever the order
        },
        version="2.2.2",
    )
    x = _draw(20, 4)
    hidden = np.maximum(x @ k1 + b1, 0)
    hidden = (hidden - mean) / np.sqrt(variance + 0.001) * gamma + beta
    _meets(tmp_path, model, x, hidden @ k2 + b2)


def test_functional_model_of_keras_2_with_slashes_in_names(tmp_path: Path) -> None:
    def node(*names: str) -> list[Any]:
        return [[[name, 0, 0, {}] for name in names]]

    config = {
        "class_name": "Model",
        "config": {
            "name": "model_1",
            "layers": [
                {
                    "class_name": "InputLayer",
                    "name": "in",
                    "config": {"name": "in", "batch_input_shape": [None, 3], "dtype": "float32", "sparse": False},
                    "inbound_nodes": [],
                },
                {**dense_layer("block/a", 3, "tanh"), "name": "block/a", "inbound_nodes": node("in")},
                {"class_name": "Add", "name": "add", "config": {"name": "add"}, "inbound_nodes": node("block/a", "in")},
                {**dense_layer("out", 2), "name": "out", "inbound_nodes": node("add")},
            ],
            "input_layers": [["in", 0, 0]],
            "output_layers": [["out", 0, 0]],
        },
    }
    k1, b1, k2, b2 = _draw(3, 3), _draw(3), _draw(3, 2), _draw(2)
    weights = {
        "block/a": {"block/a/kernel:0": k1, "block/a/bias:0": b1},
        "add": {},
        "out": {"out/kernel:0": k2, "out/bias:0": b2},
    }
    x = _draw(20, 3)
    model = write_h5(tmp_path / "m.h5", config, weights, version="2.4.0")
    _meets(tmp_path, model, x, (np.tanh(x @ k1 + b1) + x) @ k2 + b2)


def test_lstm_of_keras_2_has_the_old_hard_sigmoid(tmp_path: Path) -> None:
    config = {
        "class_name": "Sequential",
        "config": [
            {
                "class_name": "LSTM",
                "config": {
                    "name": "lstm",
                    "units": 3,
                    "activation": "tanh",
                    "recurrent_activation": "hard_sigmoid",
                    "batch_input_shape": [None, 4, 2],
                    "implementation": 1,
                    "unit_forget_bias": True,
                },
            }
        ],
    }
    kernel, recurrent, bias = _draw(2, 12), _draw(3, 12), _draw(12)
    names = ("lstm/kernel:0", "lstm/recurrent_kernel:0", "lstm/bias:0")
    arrays = dict(zip(names, (kernel, recurrent, bias), strict=True))
    model = write_h5(tmp_path / "m.h5", config, {"lstm": arrays}, version="2.2.0")
    x = 3 * _draw(10, 4, 2)
    _meets(tmp_path, model, x, _lstm(x, kernel, recurrent, bias))


def test_lstm_of_keras_1_with_twelve_arrays(tmp_path: Path) -> None:
    config = {
        "class_name": "Sequential",
        "config": [
            {
                "class_name": "LSTM",
                "config": {
                    "name": "lstm_1",
                    "output_dim": 3,
                    "inner_activation": "hard_sigmoid",
                    "activation": "tanh",
                    "init": "glorot_uniform",
                    "inner_init": "orthogonal",
                    "forget_bias_init": "one",
                    "batch_input_shape": [None, 4, 2],
                    "consume_less": "cpu",
                    "dropout_W": 0.1,
                    "dropout_U": 0.0,
                    "W_regularizer": None,
                    "stateful": False,
                    "unroll": False,
                },
            }
        ],
    }
    gate = {name: (_draw(2, 3), _draw(3, 3), _draw(3)) for name in "icfo"}  # the order of Keras 1
    arrays = {f"lstm_1_{part}_{name}": gate[name][index] for name in "icfo" for index, part in enumerate("WUb")}
    kernel, recurrent, bias = (np.concatenate([gate[name][part] for name in "ifco"], -1) for part in range(3))
    model = write_h5(tmp_path / "m.h5", config, {"lstm_1": arrays}, version=None)
    x = _draw(10, 4, 2)
    _meets(tmp_path, model, x, _lstm(x, kernel, recurrent, bias))


def test_dense_and_convolution_of_keras_1_in_the_order_of_theano(tmp_path: Path) -> None:
    config = {
        "class_name": "Sequential",
        "config": [
            {
                "class_name": "Convolution2D",
                "config": {
                    "name": "convolution2d_1",
                    "nb_filter": 2,
                    "nb_row": 2,
                    "nb_col": 3,
                    "subsample": [1, 1],
                    "border_mode": "valid",
                    "dim_ordering": "th",
                    "bias": True,
                    "activation": "relu",
                    "init": "glorot_uniform",
                    "batch_input_shape": [None, 1, 4, 5],
                },
            },
            {"class_name": "Flatten", "config": {"name": "flatten_1"}},
            {
                "class_name": "Dense",
                "config": {"name": "dense_1", "output_dim": 2, "input_dim": None, "activation": "linear", "bias": True},
            },
        ],
    }
    kernel, bias, dense, more = _draw(2, 1, 2, 3), _draw(2), _draw(18, 2), _draw(2)
    model = write_h5(
        tmp_path / "m.h5",
        config,
        {
            "convolution2d_1": {"convolution2d_1_W": kernel, "convolution2d_1_b": bias},
            "flatten_1": {},
            "dense_1": {"dense_1_W": dense, "dense_1_b": more},
        },
        version=None,
    )
    x = _draw(6, 1, 4, 5)
    maps = np.zeros((6, 2, 3, 3))
    for row in range(3):
        for column in range(3):
            window = x[:, 0, row : row + 2, column : column + 3]
            maps[:, :, row, column] = np.einsum("nij,fij->nf", window, kernel[:, 0]) + bias
    _meets(tmp_path, model, x, np.maximum(maps, 0).reshape(6, -1) @ dense + more)


def test_dense_of_keras_1_says_its_input_by_input_dim(tmp_path: Path) -> None:
    layer = {"class_name": "Dense", "config": {"name": "d", "output_dim": 1, "input_dim": 3, "init": "uniform"}}
    kernel, bias = _draw(3, 1), _draw(1)
    weights = {"d": {"d_W": kernel, "d_b": bias}}
    config = {"class_name": "Sequential", "config": [layer]}
    x = _draw(5, 3)
    _meets(tmp_path, write_h5(tmp_path / "m.h5", config, weights, version=None), x, x @ kernel + bias)


def test_weights_that_theano_wrote_are_turned_round(tmp_path: Path) -> None:
    layer = {
        "class_name": "Conv1D",
        "config": {"name": "c", "filters": 1, "kernel_size": [2], "batch_input_shape": [None, 2, 1], "use_bias": False},
    }
    kernel = np.array([[[1.0]], [[10.0]]], dtype=np.float32)

    def by_theano(file: Any) -> None:
        file["model_weights"].attrs["backend"] = b"theano"

    model = write_h5(
        tmp_path / "m.h5",
        {"class_name": "Sequential", "config": [layer]},
        {"c": {"c/kernel:0": kernel}},
        change=by_theano,
    )
    x = _draw(5, 2, 1)
    _meets(tmp_path, model, x, 10 * x[:, 0] + x[:, 1])
