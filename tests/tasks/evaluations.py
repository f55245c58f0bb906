"""What the tests of the evaluation engine share: schemas, files of data, and one call that does it all."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from storage import DataSchema, ModelSchema
from tasks.evaluation import EvaluationRequest, EvaluationResult, evaluate

_CID = "QmZFwmSaniaqGaw8r7PxYDBkkoTUbTibSsDpRetRrBFMKi"
_COMMON = {"uuid": "1", "input_signature": "x", "location": {"provider": "ipfs", "endpoint": _CID}}


def model_schema() -> ModelSchema:
    """A model schema that says as little as it may."""
    return ModelSchema.parse({**_COMMON, "type": "keras"})


def data_schema(**said: Any) -> DataSchema:
    """A data schema that says no more than `said`."""
    return DataSchema.parse({**_COMMON, "type": "collection", **said})


def judge(model: Path, data: Path, *, metric: str = "accuracy", limits: Any = None, **said: Any) -> EvaluationResult:
    """Evaluate two files; `said` goes into the data schema, `limits` into the request."""
    request = EvaluationRequest(
        model_path=str(model),
        data_path=str(data),
        model=model_schema(),
        data=data_schema(**said),
        metric=metric,
        **(limits or {}),
    )
    result = evaluate(request)
    # What crosses the border of the sandbox must survive strict JSON.
    return EvaluationResult.model_validate_json(result.model_dump_json())


def write_csv(path: Path, *parts: Any, header: Sequence[str] | None = None) -> Path:
    """Columns of numbers side by side, written with all their digits."""
    table = np.concatenate([np.asarray(part, dtype=np.float64).reshape(len(part), -1) for part in parts], axis=1)
    lines = [",".join(header)] if header else []
    lines += [",".join(repr(float(value)) for value in row) for row in table]
    path.write_text("\n".join(lines) + "\n")
    return path


def dense_layer(name: str, units: int, activation: str = "linear", **more: Any) -> dict[str, Any]:
    """A Dense layer as Keras 2 writes it."""
    return {"class_name": "Dense", "config": {"name": name, "units": units, "activation": activation, **more}}


def write_h5(
    path: Path,
    config: Any,
    weights: Mapping[str, Mapping[str, Any]],
    *,
    version: str | None = "2.2.4",
    change: Callable[[Any], None] | None = None,
) -> Path:
    """An ``.h5`` written by hand: the config as JSON, weights as {layer: {weight name: array}}."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = (config if isinstance(config, str) else json.dumps(config)).encode()
        group = file.create_group("model_weights")
        if version is not None:
            file.attrs["keras_version"] = version.encode()
            group.attrs["keras_version"] = version.encode()
            group.attrs["backend"] = b"tensorflow"
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for layer, arrays in weights.items():
            inner = group.create_group(layer)
            inner.attrs["weight_names"] = np.asarray([name.encode() for name in arrays])
            for name, array in arrays.items():
                inner.create_dataset(name, data=array)
        if change is not None:
            change(file)
    return path


def small_h5(path: Path, *, inputs: int = 4, outputs: int = 3, activation: str = "softmax", **more: Any) -> Path:
    """An honest little classifier in the style of Keras 2: one Dense layer with fixed weights."""
    random = np.random.default_rng(7)
    config = {
        "class_name": "Sequential",
        "config": {
            "name": "sequential",
            "layers": [dense_layer("dense", outputs, activation, batch_input_shape=[None, inputs])],
        },
    }
    kernel = random.normal(size=(inputs, outputs)).astype(np.float32)
    bias = random.normal(size=outputs).astype(np.float32)
    return write_h5(path, config, {"dense": {"dense/kernel:0": kernel, "dense/bias:0": bias}}, **more)


def rewrite_zip(source: Path, target: Path, change: Callable[[dict[str, bytes]], Any]) -> Path:
    """A zip with its members changed: `change` gets a dictionary of them."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target


def keras_file(folder: Path) -> Path:
    """The same kind of classifier as Keras 3 itself saves it."""
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.save(folder / "good.keras")
    return folder / "good.keras"


def judge_hostile(model: Path, data: Path, rule: str) -> None:
    """Evaluate a hostile model, and hold the engine to a refusal by this rule that names a place."""
    result = judge(model, data)
    assert (result.verdict, result.rule) == ("invalid", rule), result.reason
    assert result.place is not None and result.place.startswith("model")
    assert result.reason is not None and len(result.reason) > len(result.place)
    assert result.score is None and result.value is None
