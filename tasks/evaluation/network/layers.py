"""The allowlist: every layer class that is built, and every setting it may have.

Here lives the table and the reading of one layer's settings against it; what is not in the table is refused.
All of them are classes of Keras itself that do arithmetic on tensors and nothing else: no code from the file
(Lambda, custom objects), no other files (TFSMLayer), no vocabularies, nothing random when predicting. Random
augmentation does nothing when predicting and stands in as Identity. The names and settings are those of
Keras 3; what older generations wrote is translated before by `tasks.evaluation.network.legacy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.errors import InvalidContent
from tasks.evaluation.network.rules import (
    BadSetting,
    Reading,
    Rule,
    activation,
    choice,
    either,
    extent,
    flag,
    ignored,
    margins,
    number,
    numbers,
    only,
    optional,
    text,
    whole,
    wholes,
    wrapped,
)

MODELS = frozenset({"Sequential", "Functional", "Model"})
INPUT = "InputLayer"
_CODE = frozenset(
    {
        "Lambda",
        "__lambda__",
        "TFSMLayer",
        "TFOpLambda",
        "SlicingOpLambda",
        "TensorFlowOpLayer",
        "TorchModuleWrapper",
    }
    | {"JaxLayer", "FlaxLayer", "HashedCrossing"}
)

_ALIASES = {"GroupedQueryAttention": "GroupQueryAttention"}  # two names of one class in Keras 3

_IGNORED_ENDINGS = ("_initializer", "_regularizer", "_constraint")
_UNUSED: Mapping[str, Rule] = dict.fromkeys(
    [
        "name",
        "trainable",
        "dtype",
        "batch_input_shape",
        "batch_shape",
        "batch_size",
        "input_shape",
        "input_dtype",
        "input_dim",
        "input_length",
        "build_config",
        "seed",
        "use_cudnn",
        "implementation",
        "unroll",
        "fused",
        "momentum",
        "autocast",
        "unit_forget_bias",
        "flash_attention",
        "renorm_momentum",
        "renorm_clipping",
    ],
    ignored,
)
_PLAIN_ONLY: Mapping[str, Rule] = {
    name: only(False) for name in ("ragged", "sparse", "time_major", "renorm", "enable_lora", "synchronized")
}
_DATA_FORMAT = optional(choice("channels_last", "channels_first"))
_RATE = number(0, 1)
_AXIS = either(whole(-8, 8), wholes(-8, maximum=8))


def _conv(rank: int, **more: Rule) -> dict[str, Rule]:
    return {
        "filters": whole(1),
        "kernel_size": extent(rank),
        "strides": extent(rank),
        "padding": choice("valid", "same", "causal") if rank == 1 else choice("valid", "same"),
        "data_format": _DATA_FORMAT,
        "dilation_rate": extent(rank),
        "groups": whole(1),
        "activation": activation,
        "use_bias": flag,
        **more,
    }


def _depthwise(rank: int) -> dict[str, Rule]:
    settings = _conv(rank, depth_multiplier=whole(1))
    del settings["filters"], settings["groups"]
    return settings | {"filters": only(None), "groups": only(1)}


def _pool(rank: int) -> dict[str, Rule]:
    return {
        "pool_size": extent(rank),
        "strides": optional(extent(rank)),
        "padding": choice("valid", "same"),
        "data_format": _DATA_FORMAT,
    }


_GLOBAL: dict[str, Rule] = {"data_format": _DATA_FORMAT, "keepdims": flag}
_FORMAT_ONLY: dict[str, Rule] = {"data_format": _DATA_FORMAT}
_DROPOUT: dict[str, Rule] = {"rate": _RATE, "noise_shape": ignored, "data_format": _DATA_FORMAT}
_IDENTITY: dict[str, Rule] = {}


def _recurrent(**more: Rule) -> dict[str, Rule]:
    return {
        "units": whole(1),
        "activation": activation,
        "recurrent_activation": activation,
        "use_bias": flag,
        "dropout": ignored,
        "recurrent_dropout": ignored,
        "return_sequences": flag,
        "return_state": flag,
        "go_backwards": flag,
        "stateful": flag,
        "zero_output_for_mask": flag,
        **more,
    }


def _conv_recurrent(rank: int) -> dict[str, Rule]:
    settings = _recurrent() | _conv(rank)
    del settings["units"], settings["groups"]
    return settings


def _without(settings: dict[str, Rule], *names: str) -> dict[str, Rule]:
    return {name: rule for name, rule in settings.items() if name not in names}


_NORM_AXIS: dict[str, Rule] = {"axis": _AXIS, "epsilon": number(0)}

LAYERS: Mapping[str, Mapping[str, Rule]] = {
    "Dense": {"units": whole(1), "activation": activation, "use_bias": flag},
    "EinsumDense": {
        "equation": text(200),
        "output_shape": either(whole(1), wholes(1, gaps=True)),
        "activation": activation,
        "bias_axes": optional(text(50)),
    },
    "Embedding": {"input_dim": whole(1), "output_dim": whole(1), "mask_zero": flag},
    "Activation": {"activation": activation},
    "Identity": {},
    "Softmax": {"axis": _AXIS},
    "ReLU": {"max_value": optional(number(0)), "negative_slope": number(), "threshold": number()},
    "LeakyReLU": {"negative_slope": number()},
    "PReLU": {"shared_axes": optional(wholes(1))},
    "ELU": {"alpha": number()},
    "Masking": {"mask_value": number()},
    "Dropout": _DROPOUT,
    "SpatialDropout1D": _DROPOUT,
    "SpatialDropout2D": _DROPOUT,
    "SpatialDropout3D": _DROPOUT,
    "GaussianDropout": _DROPOUT,
    "AlphaDropout": _DROPOUT,
    "GaussianNoise": {"stddev": number(0)},
    "ActivityRegularization": {"l1": ignored, "l2": ignored},
    "Flatten": _FORMAT_ONLY,
    "Reshape": {"target_shape": wholes(-1)},
    "Permute": {"dims": wholes(1)},
    "RepeatVector": {"n": whole(1)},
    "Cropping1D": {"cropping": margins(1)},
    "Cropping2D": {"cropping": margins(2), "data_format": _DATA_FORMAT},
    "Cropping3D": {"cropping": margins(3), "data_format": _DATA_FORMAT},
    "ZeroPadding1D": {"padding": margins(1), "data_format": _DATA_FORMAT},
    "ZeroPadding2D": {"padding": margins(2), "data_format": _DATA_FORMAT},
    "ZeroPadding3D": {"padding": margins(3), "data_format": _DATA_FORMAT},
    "UpSampling1D": {"size": whole(1)},
    "UpSampling2D": {
        "size": extent(2),
        "data_format": _DATA_FORMAT,
        "interpolation": choice("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"),
    },
    "UpSampling3D": {"size": extent(3), "data_format": _DATA_FORMAT},
    **{f"Conv{rank}D": _conv(rank) for rank in (1, 2, 3)},
    **{
        f"Conv{rank}DTranspose": _without(_conv(rank), "groups")
        | {"groups": only(1), "output_padding": optional(extent(rank, 0))}
        for rank in (1, 2, 3)
    },
    "DepthwiseConv1D": _depthwise(1),
    "DepthwiseConv2D": _depthwise(2),
    "SeparableConv1D": _without(_conv(1, depth_multiplier=whole(1)), "groups") | {"groups": only(1)},
    "SeparableConv2D": _without(_conv(2, depth_multiplier=whole(1)), "groups") | {"groups": only(1)},
    **{f"{kind}Pooling{rank}D": _pool(rank) for kind in ("Max", "Average") for rank in (1, 2, 3)},
    **{f"Global{kind}Pooling{rank}D": _GLOBAL for kind in ("Max", "Average") for rank in (1, 2, 3)},
    "BatchNormalization": _NORM_AXIS | {"center": flag, "scale": flag},
    "LayerNormalization": _NORM_AXIS | {"center": flag, "scale": flag, "rms_scaling": flag},
    "GroupNormalization": _NORM_AXIS | {"groups": whole(-1), "center": flag, "scale": flag},
    "RMSNormalization": _NORM_AXIS,
    "UnitNormalization": {"axis": _AXIS},
    "SimpleRNN": _without(_recurrent(), "recurrent_activation"),
    "LSTM": _recurrent(),
    "GRU": _recurrent(reset_after=flag),
    "ConvLSTM1D": _conv_recurrent(1),
    "ConvLSTM2D": _conv_recurrent(2),
    "ConvLSTM3D": _conv_recurrent(3),
    "Bidirectional": {
        "layer": wrapped,
        "backward_layer": optional(wrapped),
        "merge_mode": optional(choice("sum", "mul", "concat", "ave")),
        "zero_output_for_mask": ignored,
        "return_sequences": ignored,  # said by the layer itself
        "return_state": ignored,
        "stateful": ignored,
        "go_backwards": ignored,
    },
    "TimeDistributed": {"layer": wrapped},
    "MultiHeadAttention": {
        "num_heads": whole(1),
        "key_dim": whole(1),
        "value_dim": optional(whole(1)),
        "dropout": ignored,
        "use_bias": flag,
        "output_shape": optional(either(whole(1), wholes(1))),
        "attention_axes": optional(_AXIS),
        "query_shape": ignored,  # said again by the tensors
        "key_shape": ignored,
        "value_shape": ignored,
        "use_gate": only(False),
        "softmax_robust_masking": only(False),
    },
    "GroupQueryAttention": {
        "head_dim": whole(1),
        "num_query_heads": whole(1),
        "num_key_value_heads": whole(1),
        "dropout": ignored,
        "use_bias": flag,
        "use_gate": only(False),
    },
    "Attention": {
        "use_scale": flag,
        "score_mode": choice("dot", "concat"),
        "dropout": ignored,
        "causal": only(False),
    },
    "AdditiveAttention": {"use_scale": flag, "dropout": ignored, "causal": only(False)},
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), _IDENTITY),
    "Concatenate": {"axis": whole(-8, 8)},
    "Dot": {"axes": either(whole(-8, 8), wholes(-8, length=2, maximum=8)), "normalize": flag},
    "Rescaling": {"scale": numbers, "offset": numbers},
    "Normalization": {
        "axis": optional(_AXIS),
        "mean": optional(numbers),
        "variance": optional(numbers),
        "invert": flag,
    },
    "CenterCrop": {"height": whole(1), "width": whole(1), "data_format": _DATA_FORMAT},
    "Resizing": {
        "height": whole(1),
        "width": whole(1),
        "interpolation": choice("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5", "area"),
        "crop_to_aspect_ratio": flag,
        "pad_to_aspect_ratio": flag,
        "fill_mode": choice("constant"),
        "fill_value": number(),
        "antialias": flag,
        "data_format": _DATA_FORMAT,
    },
}

MERGES = frozenset({"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"})
RECURRENT = frozenset({"LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"})
AUGMENTATION = frozenset(
    [
        "RandomFlip",
        "RandomRotation",
        "RandomZoom",
        "RandomTranslation",
        "RandomContrast",
        "RandomBrightness",
        "RandomHeight",
        "RandomWidth",
    ]
)


def check_class(document: Mapping[str, Any], place: str) -> str:
    """The class name of a layer's document, if it may be built.

    Raises InvalidContent for code, for objects of somebody's own and for classes that are not in the table.
    """
    name = document.get("class_name")
    if not isinstance(name, str) or len(name) > 200:
        raise InvalidContent("model-config", place, "a layer without a class name")
    registered = document.get("registered_name")
    module = document.get("module")
    if name in _CODE:
        raise InvalidContent(
            "forbidden-layer", place, f"{name} runs code or files of its author; no verifier may run those"
        )
    if registered not in (None, name, f"keras.{name}", f"keras>{name}"):
        raise InvalidContent(
            "custom-object",
            place,
            f"{registered!r:.100} is an object of its author's own, not a layer of Keras",
        )
    if module is not None and not _is_keras(module):
        raise InvalidContent("custom-object", place, f"the module {module!r:.100} is not part of Keras")
    if name in _ALIASES:
        return _ALIASES[name]
    if name not in LAYERS and name not in MODELS and name not in AUGMENTATION and name != INPUT:
        raise InvalidContent("unknown-layer", place, f"{name!r:.100} is not among the layers that verifiers build")
    return name


def read_settings(kind: str, config: Mapping[str, Any], reading: Reading, place: str) -> dict[str, object]:
    """The settings of a layer, each checked; those that do not matter for predictions are left out.

    Raises InvalidContent for a setting that the table does not have (unless it is null) or whose value it
    does not take.
    """
    if kind in AUGMENTATION:
        return {}
    table = LAYERS[kind]
    settings: dict[str, object] = {}
    for name, value in config.items():
        rule = table.get(name) or _UNUSED.get(name) or _PLAIN_ONLY.get(name)
        if rule is None and name.endswith(_IGNORED_ENDINGS):
            rule = ignored
        if rule is None and value is None:
            continue
        if rule is None:
            raise InvalidContent("unknown-setting", place, f"{kind} has a setting {name!r:.100} that is not known")
        try:
            clean = rule(value, reading)
        except BadSetting as bad:
            raise InvalidContent("bad-setting", place, f"{name} of {kind} {bad}; it is {value!r:.100}") from bad
        if clean is not None or name == "merge_mode":
            settings[name] = clean
    return settings


def _is_keras(module: object) -> bool:
    if not isinstance(module, str):
        return False
    parts = module.split(".")
    return parts[0] in ("keras", "tf_keras", "builtins") or (parts[0] == "tensorflow" and "keras" in parts[1:3])
