"""Keras 1 and 2 in the words of Keras 3: class names, settings and arrays of weights.

Here lives the translation of one layer's settings before they are checked against the allowlist, and of the
arrays of old files into the order and layout of today's layers. Nothing is built or read here. Sources: the
release notes of Keras 2.0, 2.2 and 3.0, and the layout of the files those versions wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.errors import InvalidContent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

_CLASSES_1 = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
    "MaxPool1D": "MaxPooling1D",
    "MaxPool2D": "MaxPooling2D",
    "AvgPool2D": "AveragePooling2D",
}
_CLASSES_2 = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "LSTMV1": "LSTM",
    "LSTMV2": "LSTM",
    "GRUV1": "GRU",
    "GRUV2": "GRU",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "Conv2DTransposeV1": "Conv2DTranspose",
    "ThresholdedReLU": "ReLU",
    "GlobalMaxPool2D": "GlobalMaxPooling2D",
    "GlobalAvgPool2D": "GlobalAveragePooling2D",
}
_SETTINGS_1 = {
    "output_dim": "units",
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "subsample": "strides",
    "subsample_length": "strides",
    "border_mode": "padding",
    "bias": "use_bias",
    "dim_ordering": "data_format",
    "atrous_rate": "dilation_rate",
    "pool_length": "pool_size",
    "stride": "strides",
    "length": "size",
    "inner_activation": "recurrent_activation",
    "p": "rate",
    "sigma": "stddev",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
    "concat_axis": "axis",
}
_DROPPED_1 = frozenset(
    [
        "init",
        "inner_init",
        "forget_bias_init",
        "W_regularizer",
        "U_regularizer",
        "b_regularizer",
        "W_constraint",
        "U_constraint",
        "b_constraint",
        "W_learning_rate_multiplier",
        "b_learning_rate_multiplier",
        "consume_less",
        "weights",
        "gamma_init",
        "beta_init",
        "gamma_regularizer",
        "beta_regularizer",
        "input_dim",
        "input_length",
        "output_shape_type",
    ]
)
_MERGES_1 = {
    "concat": "Concatenate",
    "sum": "Add",
    "mul": "Multiply",
    "ave": "Average",
    "max": "Maximum",
    "dot": "Dot",
}
_FORMATS = {"th": "channels_first", "tf": "channels_last"}
_ALPHA = {"LeakyReLU": "negative_slope"}


def translate(kind: str, config: Mapping[str, Any], generation: int, place: str) -> tuple[str, dict[str, Any]]:
    """Class and settings of a layer as Keras 3 would write them. Raises InvalidContent for old ways that have
    no equal today."""
    settings = dict(config)
    if generation == 1:
        kind, settings = _from_1(kind, settings, place)
    if generation <= 2:
        kind, settings = _from_2(kind, settings)
    return kind, settings


def _from_1(kind: str, settings: dict[str, Any], place: str) -> tuple[str, dict[str, Any]]:
    if kind == "Merge":
        kind, settings = _merge_from_1(settings, place)
    if kind == "BatchNormalization" and settings.pop("mode", 0) != 0:
        raise InvalidContent("old-layer", place, "BatchNormalization of Keras 1 in a mode other than 0")
    kind = _CLASSES_1.get(kind, kind)
    dropped = _DROPPED_1 - {"input_dim"} if kind == "Embedding" else _DROPPED_1
    if "nb_row" in settings:
        settings["kernel_size"] = [settings.pop("nb_row"), settings.pop("nb_col", None)]
    if "kernel_dim1" in settings:
        settings["kernel_size"] = [settings.pop(f"kernel_dim{axis}", None) for axis in (1, 2, 3)]
    renamed = {_SETTINGS_1.get(name, name): value for name, value in settings.items() if name not in dropped}
    if kind == "Embedding" and "units" in renamed:
        renamed["output_dim"] = renamed.pop("units")
    order = renamed.get("data_format")
    if kind == "Flatten" or order == "default":
        renamed.pop("data_format", None)
    elif isinstance(order, str):
        renamed["data_format"] = _FORMATS.get(order, order)
    if kind in ("LSTM", "GRU"):
        renamed.setdefault("recurrent_activation", "hard_sigmoid")
    return kind, renamed


def _merge_from_1(settings: dict[str, Any], place: str) -> tuple[str, dict[str, Any]]:
    mode = settings.get("mode")
    if not isinstance(mode, str) or mode not in _MERGES_1 or settings.get("layers"):
        raise InvalidContent(
            "old-layer",
            place,
            f"Merge in mode {mode!r:.60}; only {', '.join(_MERGES_1)} of a graph are built",
        )
    kind = _MERGES_1[mode]
    kept: dict[str, Any] = {"name": settings.get("name")}
    if kind == "Concatenate":
        kept["axis"] = settings.get("concat_axis", -1)
    if kind == "Dot":
        axes = settings.get("dot_axes", -1)
        kept["axes"] = axes
    return kind, kept


def _from_2(kind: str, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if kind == "ThresholdedReLU":
        settings["threshold"] = settings.pop("theta", 1.0)
    kind = _CLASSES_2.get(kind, kind)
    if kind in _ALPHA and "alpha" in settings:
        settings[_ALPHA[kind]] = settings.pop("alpha")
    if kind == "GRU":
        settings.setdefault("reset_after", False)
    if kind in ("LSTM", "GRU") and "recurrent_activation" not in settings:
        settings["recurrent_activation"] = "hard_sigmoid"
    if kind == "BatchNormalization" and isinstance(settings.get("axis"), list) and len(settings["axis"]) == 1:
        settings["axis"] = settings["axis"][0]
    if kind in ("TimeDistributed", "Bidirectional"):
        settings.pop("input_spec", None)
    if kind == "ReLU":
        settings = {name: value for name, value in settings.items() if value is not None}
    return kind, settings


def translate_weights(
    kind: str, arrays: Sequence[Array], generation: int, *, flip: bool, channels_first: bool
) -> list[Array]:
    """The arrays of one layer, as the layer of today holds them.

    `flip` is true for files that Theano wrote, whose convolutions turn the kernel round; `channels_first` for
    Keras 1 layers with Theano's order of axes. Arrays that need no change are passed through.
    """
    found = list(arrays)
    if generation == 1:
        found = _WEIGHTS_1[kind](found, channels_first) if kind in _WEIGHTS_1 else found
    if flip and kind.startswith("Conv") and kind[4:5].isdigit() and found and found[0].ndim >= 3:
        spatial = tuple(range(found[0].ndim - 2))
        found[0] = _numpy().flip(found[0], spatial)
    return found


def _lstm_from_1(arrays: list[Array], channels_first: bool) -> list[Array]:
    """Twelve arrays (input, candidate, forget, output gate: W, U, b each) become three, gates in the order
    input, forget, candidate, output."""
    if len(arrays) != 12:
        return arrays
    return [_numpy().concatenate([arrays[part + gate] for gate in (0, 6, 3, 9)], -1) for part in range(3)]


def _gru_from_1(arrays: list[Array], channels_first: bool) -> list[Array]:
    """Nine arrays (update, reset, candidate: W, U, b each) become three."""
    if len(arrays) != 9:
        return arrays
    return [_numpy().concatenate([arrays[part + gate] for gate in (0, 3, 6)], -1) for part in range(3)]


def _conv1_from_1(arrays: list[Array], channels_first: bool) -> list[Array]:
    """A kernel of (length, 1, inputs, filters), or (filters, inputs, length, 1) of the first releases."""
    if arrays and arrays[0].ndim == 4:
        kernel = arrays[0]
        arrays[0] = kernel[:, 0] if kernel.shape[1] == 1 else kernel[..., 0].transpose(2, 1, 0)
    return arrays


def _conv2_from_1(arrays: list[Array], channels_first: bool) -> list[Array]:
    """A kernel of (filters, inputs, rows, columns) where Theano's order was used."""
    if channels_first and arrays and arrays[0].ndim == 4:
        arrays[0] = arrays[0].transpose(2, 3, 1, 0)
    return arrays


_WEIGHTS_1: Mapping[str, Callable[[list[Array], bool], list[Array]]] = {
    "LSTM": _lstm_from_1,
    "GRU": _gru_from_1,
    "Conv1D": _conv1_from_1,
    "Conv2D": _conv2_from_1,
}


def _numpy() -> Any:
    import numpy

    return numpy
