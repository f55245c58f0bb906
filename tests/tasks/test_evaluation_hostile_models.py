"""Model files that are broken, bombs, or want to run code: each is refused by its rule, with its place named.

None of these tests needs the sandbox: they show that inspection alone refuses the file before anything in it
is built or run. Code that would run leaves a mark in the file system, which nobody may find.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tasks.evaluations import (
    dense_layer,
    judge,
    judge_hostile,
    keras_file,
    rewrite_zip,
    small_h5,
    write_csv,
    write_h5,
)

MARK = "/tmp/fitchain-code-has-run"  # no test ever makes it
KERNEL, BIAS = np.ones((4, 3), np.float32), np.zeros(3, np.float32)
WEIGHTS = {"dense": {"dense/kernel:0": KERNEL, "dense/bias:0": BIAS}}
LAMBDA = {
    "class_name": "Lambda",
    "config": {"name": "evil", "function": {"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(2)
    return write_csv(tmp_path / "data.csv", random.normal(size=(6, 4)), random.integers(0, 3, size=6))


def _stack(*layers: Any) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "s", "layers": list(layers)}}


def _dense(**more: Any) -> dict[str, Any]:
    return dense_layer("dense", 3, "softmax", batch_input_shape=[None, 4], **more)


def _h5(*layers: Any) -> Callable[[Path], Path]:
    return lambda folder: write_h5(folder / "m.h5", _stack(*layers), WEIGHTS)


def _changed(change: Callable[[Any], None]) -> Callable[[Path], Path]:
    return lambda folder: small_h5(folder / "m.h5", change=change)


def _keras(change: Callable[[dict[str, bytes]], Any]) -> Callable[[Path], Path]:
    return lambda folder: rewrite_zip(keras_file(folder), folder / "bad.keras", change)


def _keras_config(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Path]:
    def edit(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        change(config)
        members["config.json"] = json.dumps(config).encode()

    return _keras(edit)


def _bytes(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "m.bin").write_bytes(content)
        return folder / "m.bin"

    return make


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path(MARK).touch, ())


def _tree(depth: int) -> dict[str, Any]:
    model = _stack(_dense())
    for _ in range(depth):
        model = _stack(model)
    return model


def _no_config(file: Any) -> None:
    del file.attrs["model_config"]


def _lambda_in_3(config: dict[str, Any]) -> None:
    config["config"]["layers"].append({"module": "keras.layers", "registered_name": None, **LAMBDA})


def _saved_model_layer(config: dict[str, Any]) -> None:
    config["config"]["layers"].append(
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp", "name": "t"}}
    )


def _registered(config: dict[str, Any]) -> None:
    config["config"]["layers"][1]["registered_name"] = "Custom>Dense"


def _module(config: dict[str, Any]) -> None:
    config["config"]["layers"][1]["module"] = "os.path"


def _function(config: dict[str, Any]) -> None:
    config["config"]["layers"][1]["config"]["activation"] = {
        "module": "builtins",
        "class_name": "function",
        "config": "eval",
        "registered_name": "function",
    }


def _lambda_activation(config: dict[str, Any]) -> None:
    config["config"]["layers"][1]["config"]["activation"] = {"class_name": "__lambda__", "config": {"value": "x"}}


def _lambda_in_wrapper(config: dict[str, Any]) -> None:
    config["config"]["layers"].append(
        {"module": "keras.layers", "class_name": "TimeDistributed", "config": {"name": "t", "layer": LAMBDA}}
    )


def _get_file(config: dict[str, Any]) -> None:
    config["config"]["layers"][1]["config"]["kernel_regularizer_url"] = "https://example.org"


def _whole_model(config: dict[str, Any]) -> None:
    config.update({"class_name": "get_file", "module": "keras.utils", "config": {"origin": "https://example.org"}})


def _graph(**changes: Any) -> Callable[[Path], Path]:
    dense = {**_dense(), "name": "dense", "inbound_nodes": [[["in", 0, 0, {}]]]}
    config = {
        "name": "m",
        "layers": [
            {
                "class_name": "InputLayer",
                "name": "in",
                "config": {"name": "in", "batch_input_shape": [None, 4]},
                "inbound_nodes": [],
            },
            {**dense, **changes.pop("dense", {})},
        ],
        "input_layers": [["in", 0, 0]],
        "output_layers": [["dense", 0, 0]],
        **changes,
    }
    return lambda folder: write_h5(folder / "m.h5", {"class_name": "Model", "config": config}, WEIGHTS)


def _custom(name: str) -> dict[str, Any]:
    return {"class_name": name, "config": {"name": "own"}}


def _small(folder: Path) -> Path:
    return small_h5(folder / "m.h5")


def _own_class(folder: Path) -> Path:
    return write_h5(folder / "m.h5", {"class_name": "Model", "config": {"units": 3}}, WEIGHTS)


CASES: list[tuple[str, str, Callable[[Path], Path]]] = [
    # no model at all
    ("empty file", "unknown-model-format", _bytes(b"")),
    ("text", "unknown-model-format", _bytes(b"hello")),
    ("pickle", "unknown-model-format", _bytes(pickle.dumps(_Evil()))),
    ("html page", "unknown-model-format", _bytes(b"<html>404</html>")),
    ("zip without a config", "zip-missing", _keras(lambda members: members.pop("config.json"))),
    ("weights only", "model-config", _changed(_no_config)),
    # code and objects of somebody's own
    ("lambda in h5", "forbidden-layer", _h5(_dense(), LAMBDA)),
    ("lambda first in h5", "forbidden-layer", _h5(LAMBDA, _dense())),
    ("lambda in a model in h5", "forbidden-layer", _h5(_stack(_dense(), LAMBDA))),
    (
        "lambda in a wrapper in h5",
        "forbidden-layer",
        _h5(_dense(), {"class_name": "TimeDistributed", "config": {"name": "t", "layer": LAMBDA}}),
    ),
    (
        "lambda in a backward layer in h5",
        "forbidden-layer",
        _h5(
            {
                "class_name": "Bidirectional",
                "config": {
                    "name": "b",
                    "batch_input_shape": [None, 4, 1],
                    "layer": {"class_name": "LSTM", "config": {"name": "l", "units": 2}},
                    "backward_layer": LAMBDA,
                },
            }
        ),
    ),
    ("lambda in keras", "forbidden-layer", _keras_config(_lambda_in_3)),
    ("lambda in a wrapper in keras", "forbidden-layer", _keras_config(_lambda_in_wrapper)),
    ("lambda as activation", "bad-setting", _keras_config(_lambda_activation)),
    ("builtin as activation", "bad-setting", _keras_config(_function)),
    ("own activation", "bad-setting", _h5(_dense() | {"config": {**_dense()["config"], "activation": "mine"}})),
    ("TFSMLayer", "forbidden-layer", _keras_config(_saved_model_layer)),
    ("TFOpLambda", "forbidden-layer", _h5(_dense(), _custom("TFOpLambda"))),
    ("registered name", "custom-object", _keras_config(_registered)),
    ("module of its own", "custom-object", _keras_config(_module)),
    ("class of its own", "unknown-layer", _h5(_dense(), _custom("MyLayer"))),
    ("class that is no layer", "unknown-layer", _h5(_dense(), _custom("get_file"))),
    ("class that is a dunder", "unknown-layer", _h5(_dense(), _custom("__class__"))),
    ("vocabulary from a file", "unknown-layer", _h5(_dense(), _custom("StringLookup"))),
    ("a function for a model", "unknown-layer", _keras_config(_whole_model)),
    ("a setting with a URL", "unknown-setting", _keras_config(_get_file)),
    ("a model of its own class", "subclassed-model", _own_class),
    # graphs
    ("graph in a circle", "model-graph", _graph(dense={"inbound_nodes": [[["dense", 0, 0, {}]]]})),
    ("graph from nowhere", "model-graph", _graph(dense={"inbound_nodes": [[["gone", 0, 0, {}]]]})),
    ("output from nowhere", "model-graph", _graph(output_layers=[["dense", 3, 0]])),
    ("call as in training", "model-graph", _graph(dense={"inbound_nodes": [[["in", 0, 0, {"training": True}]]]})),
    ("call with a constant", "model-graph", _graph(dense={"inbound_nodes": [[["_CONSTANT_VALUE", -1, 7, {}]]]})),
    ("two layers of one name", "model-config", _h5(_dense(), _dense())),
    (
        "layers that do not fit",
        "model-build",
        _h5(_dense(), {"class_name": "Conv2D", "config": {"name": "c", "filters": 1, "kernel_size": [3, 3]}}),
    ),
    ("no input shape", "input-shape", _h5(dense_layer("dense", 3))),
    ("nonsense for a shape", "input-shape", _h5(dense_layer("dense", 3, batch_input_shape=[None, -4]))),
    # bombs
    ("units", "too-many-parameters", _h5(_dense() | {"config": {**_dense()["config"], "units": 2**31 - 1}})),
    ("units beyond all", "bad-setting", _h5(_dense() | {"config": {**_dense()["config"], "units": 10**30}})),
    ("units below nought", "bad-setting", _h5(_dense() | {"config": {**_dense()["config"], "units": -1}})),
    (
        "wide layers one after another",
        "too-many-parameters",
        _h5(_dense(), *(dense_layer(f"d{index}", 10**6) for index in range(20))),
    ),
    ("repeated vector", "too-wide", _h5(_dense(), {"class_name": "RepeatVector", "config": {"name": "r", "n": 2**30}})),
    (
        "padding",
        "too-wide",
        _h5(
            _dense(),
            {"class_name": "Reshape", "config": {"name": "a", "target_shape": [3, 1]}},
            {"class_name": "ZeroPadding1D", "config": {"name": "z", "padding": 2**30}},
        ),
    ),
    (
        "upsampling",
        "too-wide",
        _h5(
            _dense(),
            {"class_name": "Reshape", "config": {"name": "a", "target_shape": [1, 1, 3]}},
            {"class_name": "UpSampling2D", "config": {"name": "u", "size": [2**15, 2**15]}},
        ),
    ),
    (
        "many layers",
        "too-many-layers",
        _h5(
            _dense(),
            *(
                {"class_name": "Activation", "config": {"name": f"a{index}", "activation": "relu"}}
                for index in range(2_100)
            ),
        ),
    ),
    ("models in models", "model-config", lambda folder: write_h5(folder / "m.h5", _tree(12), WEIGHTS)),
    ("JSON nested deep", "model-config", lambda folder: write_h5(folder / "m.h5", "[" * 90_000, WEIGHTS)),
    ("JSON nested less deep", "model-config", lambda folder: write_h5(folder / "m.h5", "[" * 300 + "]" * 300, WEIGHTS)),
    ("no JSON", "model-config", lambda folder: write_h5(folder / "m.h5", "{'a': 1}", WEIGHTS)),
    ("JSON that is a number", "model-config", lambda folder: write_h5(folder / "m.h5", "7", WEIGHTS)),
]


@pytest.mark.parametrize(("name", "rule", "make"), CASES, ids=[case[0] for case in CASES])
def test_hostile_model(tmp_path: Path, data: Path, name: str, rule: str, make: Callable[[Path], Path]) -> None:
    judge_hostile(make(tmp_path), data, rule)
    assert not Path(MARK).exists()


def test_the_honest_originals_of_these_files_are_valid(tmp_path: Path, data: Path) -> None:
    for make in (_h5(_dense()), _small, keras_file, _graph()):
        assert judge(make(tmp_path), data).reason is None


def test_limits_are_those_of_the_request(tmp_path: Path, data: Path) -> None:
    model = small_h5(tmp_path / "m.h5")
    assert judge(model, data, limits={"max_parameters": 15}).verdict == "valid"
    assert judge(model, data, limits={"max_parameters": 14}).rule == "too-many-parameters"
    assert judge(model, data, limits={"max_activation": 2}).rule == "too-wide"
    assert judge(model, data, limits={"max_layers": 1}).verdict == "valid"
    assert judge(model, data, limits={"max_rows": 5}).rule == "too-many-rows"
    assert judge(model, data, limits={"max_columns": 4}).rule == "too-many-columns"
