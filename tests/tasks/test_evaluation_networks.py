"""Models of every kind through both file formats of Keras 3: what Keras predicts is what the engine predicts.

The data of each case hold the predictions of Keras itself as values to be met, so a mean square error of
zero says that architecture and weights came through the allowlist unharmed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.evaluation import EvaluationResult
from tests.tasks.evaluations import judge, write_csv


def _stack(shape: tuple[int, ...], *layers: Any) -> Any:
    import keras

    return keras.Sequential([keras.Input(shape), *layers])


def _plain() -> Any:
    from keras import layers

    return _stack(
        (5,),
        layers.Dense(7, activation="gelu"),
        layers.BatchNormalization(),
        layers.LeakyReLU(0.1),
        layers.PReLU(),
        layers.GaussianNoise(0.1),
        layers.Dense(3, activation=layers.LeakyReLU(0.2)),
    )


def _images() -> Any:
    from keras import layers

    return _stack(
        (8, 8, 3),
        layers.Rescaling(1 / 7, 0.1),
        layers.RandomFlip(),
        layers.Conv2D(4, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.SeparableConv2D(5, 3, padding="same"),
        layers.GroupNormalization(5),
        layers.UpSampling2D(2),
        layers.Conv2DTranspose(3, 2, strides=2),
        layers.ZeroPadding2D(((1, 0), (2, 1))),
        layers.Cropping2D(1),
        layers.GlobalMaxPooling2D(),
        layers.Dense(2),
    )


def _signals() -> Any:
    from keras import layers

    return _stack(
        (12, 2),
        layers.Conv1D(4, 3, padding="causal", dilation_rate=2),
        layers.ZeroPadding1D(2),
        layers.Cropping1D((1, 1)),
        layers.AveragePooling1D(2),
        layers.SeparableConv1D(3, 2),
        layers.Permute((2, 1)),
        layers.Reshape((-1,)),
        layers.Dense(2),
    )


def _sequences() -> Any:
    from keras import layers

    return _stack(
        (6, 3),
        layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
        layers.TimeDistributed(layers.Dense(3)),
        layers.Bidirectional(layers.GRU(3), backward_layer=layers.LSTM(3, go_backwards=True)),
        layers.Dense(2),
    )


def _attention() -> Any:
    import keras
    from keras import layers

    given = keras.Input((6, 4))
    attended = layers.MultiHeadAttention(2, 3)(given, given)
    normal = layers.LayerNormalization()(given + attended)
    joined = layers.Concatenate()([layers.GlobalAveragePooling1D()(normal), layers.Flatten()(given)])
    return keras.Model(given, layers.Dense(2)(joined))


def _shared() -> Any:
    import keras
    from keras import layers

    given = keras.Input((4,))
    dense = layers.Dense(4, activation="tanh")
    twice = dense(dense(given))
    return keras.Model(given, layers.Dense(3)(layers.Multiply()([layers.Subtract()([twice, given]), twice])))


def _nested() -> Any:
    import keras
    from keras import layers

    base = keras.Sequential(
        [keras.Input((8,)), layers.Dense(6), layers.BatchNormalization(), layers.Dense(5)], name="base"
    )
    base.trainable = False
    inside = keras.Input((8,))
    inner = keras.Model(inside, layers.LayerNormalization()(base(inside)), name="inner")
    given = keras.Input((8,))
    return keras.Model(given, layers.Dense(2)(layers.Dropout(0.3)(inner(given))))


def _partly_frozen() -> Any:
    """Weights of a frozen layer stand behind the others in an ``.h5``, whatever their place in the model."""
    import keras
    from keras import layers

    base = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.BatchNormalization(), layers.Dense(5)])
    base.layers[0].trainable = False
    return _stack((4,), base, layers.Dense(2))


def _states() -> Any:
    import keras
    from keras import layers

    given = keras.Input((5, 3))
    last, hidden, cell = layers.LSTM(4, return_state=True)(given)
    repeated = layers.RepeatVector(5)(last)
    return keras.Model(given, layers.Dense(2)(layers.LSTM(4)(repeated, initial_state=[hidden, cell])))


def _normalised() -> Any:
    from keras import layers

    normal = layers.Normalization()
    normal.adapt(np.random.default_rng(1).normal(2, 3, (50, 4)))
    return _stack((4,), normal, layers.Dense(2))


def _half() -> Any:
    from keras import layers

    return _stack((4,), layers.Dense(4, dtype="mixed_float16"), layers.Dense(2, dtype="float32"))


CASES = [
    _plain,
    _images,
    _signals,
    _sequences,
    _attention,
    _shared,
    _nested,
    _partly_frozen,
    _states,
    _normalised,
    _half,
]


def _saved(tmp_path: Path, make: Callable[[], Any], suffix: str) -> tuple[Path, Path, list[int]]:
    model = make()
    random = np.random.default_rng(3)
    for weight in model.weights:
        if "float" in weight.dtype and weight.name not in ("mean", "variance"):
            drawn = random.normal(0, 0.4, tuple(weight.shape))
            weight.assign(np.abs(drawn) + 0.1 if "variance" in weight.name else drawn)
    inputs = random.normal(size=(40, *model.input_shape[1:])).astype(np.float32)
    outputs = np.asarray(model(inputs, training=False))
    path = tmp_path / f"model{suffix}"
    model.save(path)
    return path, write_csv(tmp_path / "data.csv", inputs.reshape(40, -1), outputs), list(inputs.shape[1:])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__.strip("_"))
def test_what_keras_predicts_is_predicted(tmp_path: Path, make: Callable[[], Any], suffix: str) -> None:
    model, data, shape = _saved(tmp_path, make, suffix)
    result: EvaluationResult = judge(model, data, metric="mse", task="regression", features={"shape": shape})
    assert result.reason is None
    assert result.value is not None and result.value < (1e-5 if make is _half else 1e-11)
    assert result.model_summary is not None and result.model_summary.generation == 3
    if make is _half:
        assert any("float32" in sentence for sentence in result.inferred)


def test_a_keras_file_without_metadata_and_with_deflated_members(tmp_path: Path) -> None:
    import zipfile

    model, data, _ = _saved(tmp_path, _plain, ".keras")
    packed = tmp_path / "packed.keras"
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in ("config.json", "model.weights.h5"):
            new.writestr(name, old.read(name))
    assert judge(packed, data, metric="rmse", task="regression").score == 0


def test_many_batches_are_compiled_and_give_the_same(tmp_path: Path) -> None:
    model, data, shape = _saved(tmp_path, _images, ".h5")
    said: dict[str, Any] = {"metric": "mse", "task": "regression", "features": {"shape": shape}}
    for size in (1, 3, 7, 40):
        result = judge(model, data, limits={"batch_size": size}, **said)
        assert result.value is not None and result.value < 1e-11
