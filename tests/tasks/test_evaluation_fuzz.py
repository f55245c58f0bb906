"""Bytes and configs changed at random: whatever comes, the engine answers with a result."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import EvaluationUnavailable
from tests.tasks.evaluations import judge, rewrite_zip, small_h5, write_csv

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=True)
    | st.sampled_from(
        ["", "relu", "Dense", "Lambda", "Sequential", "Functional", "__keras_tensor__", "dense", "x" * 300]
    )
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["class_name", "config", "name", "units", "layers", "items"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
BOUNDED = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(BOUNDED, max_examples=1_500)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, and a functional model with a few kinds of layers, as ``.h5`` and as ``.keras``."""
    import keras
    from keras import layers

    path = tmp_path_factory.mktemp("fuzz")
    write_csv(path / "data.csv", np.ones((4, 4)), np.arange(4) % 3, header=list("abcde"))
    given_input = keras.Input((4,))
    x = layers.Reshape((4, 1))(layers.Dense(4, activation="relu")(given_input))
    x = layers.TimeDistributed(layers.Dense(2))(layers.Conv1D(2, 2, padding="same")(x))
    x = layers.Flatten()(layers.MultiHeadAttention(1, 2)(x, x))
    model = keras.Model(given_input, layers.Dense(3, activation="softmax")(layers.Concatenate()([x, given_input])))
    model.save(path / "model.keras")
    keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.BatchNormalization(), layers.ReLU()]).save(
        path / "stack.keras"
    )
    small_h5(path / "model.h5")
    return path


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += _places(inner, (*path, key))
    return found


def _put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    at = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return document


def _config_changed(folder: Path, data: Any, name: str) -> None:
    def change(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.sampled_from(_places(config)))
            config = _put(config, place, data.draw(JSON))
        members["config.json"] = json.dumps(config).encode()

    changed = rewrite_zip(folder / name, folder / "changed.keras", change)
    assert judge(changed, folder / "data.csv").verdict in ("valid", "invalid")


def _nodes_exchanged(folder: Path, data: Any) -> None:
    """Parts of the same document in each other's place: well-formed, and all the stranger for it."""

    def change(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        for _ in range(data.draw(st.integers(1, 3))):
            places = _places(config)
            source, target = data.draw(st.sampled_from(places)), data.draw(st.sampled_from(places))
            value = config
            for key in source:
                value = value[key]
            config = _put(config, target, json.loads(json.dumps(value)))
        members["config.json"] = json.dumps(config).encode()

    changed = rewrite_zip(folder / "model.keras", folder / "exchanged.keras", change)
    assert judge(changed, folder / "data.csv").verdict in ("valid", "invalid")


def _bytes_changed(content: bytes, seed: int) -> bytes:
    dice = random.Random(seed)
    changed = bytearray(content)
    for _ in range(min(len(changed) // 64, dice.choice([1, 1, 2, 4, 16]))):
        at = dice.randrange(max(1, len(changed) - 1))
        kind = dice.random()
        if kind < 0.6:
            changed[at] = dice.randrange(256)
        elif kind < 0.8:
            changed[at : at + 8] = dice.choice([b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7])
        else:
            del changed[at : at + dice.randrange(1, 64)]
    return bytes(changed)


@BOUNDED
@given(st.data(), st.sampled_from(["model.keras", "stack.keras"]))
def test_configs_changed_at_random(folder: Path, data: Any, name: str) -> None:
    _config_changed(folder, data, name)


@BOUNDED
@given(st.data())
def test_nodes_of_a_config_exchanged(folder: Path, data: Any) -> None:
    _nodes_exchanged(folder, data)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@LONG
@given(st.data(), st.sampled_from(["model.keras", "stack.keras"]), st.booleans())
def test_configs_for_a_long_time(folder: Path, data: Any, name: str, exchange: bool) -> None:
    if exchange:
        _nodes_exchanged(folder, data)
    else:
        _config_changed(folder, data, name)


@BOUNDED
@given(st.integers(0, 2**32 - 1), st.sampled_from(["csv", "h5"]))
def test_bytes_changed_at_random(folder: Path, seed: int, kind: str) -> None:
    """HDF5 and Arrow parse in C; that they crash is for the sandbox, that they complain is for us."""
    source = folder / ("data.csv" if kind == "csv" else "model.h5")
    changed = folder / f"changed.{kind}"
    changed.write_bytes(_bytes_changed(source.read_bytes(), seed))
    answer: Callable[[], Any] = lambda: (  # noqa: E731
        judge(changed, folder / "data.csv") if kind == "h5" else judge(folder / "model.h5", changed)
    )
    try:
        assert answer().verdict in ("valid", "invalid")
    except EvaluationUnavailable as error:
        assert "memory" in str(error)
