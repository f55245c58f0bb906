"""Weights from inspected files into built models.

Here lives the filling of variables that have shapes but no memory yet. An ``.h5`` is read by own code: layer
by layer by name, every shape compared before its data set is read. A ``.keras`` holds the weights along the
object graph of Keras, so Keras itself loads them into the rebuilt model, which is first filled with NaN: a
weight that the file does not have cannot pass for one. This is the only module that touches internals of
Keras (variables that are made within a StatelessScope), for which the version is pinned.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tasks.errors import InvalidContent
from tasks.evaluation.files.hdf5 import Hdf5File
from tasks.evaluation.network.architecture import BuiltModel
from tasks.evaluation.network.layers import AUGMENTATION
from tasks.evaluation.network.legacy import translate_weights
from tasks.evaluation.network.specs import LayerSpec, ModelSpec

_ITEM_BYTES = 8
_TOP_LEVEL = "top_level_model_weights"


def load_legacy_weights(file: Hdf5File, built: BuiltModel, *, generation: int) -> None:
    """Fill a model from the layout of ``.h5`` files (``layer_names``, ``weight_names``).

    Raises InvalidContent for a weight that is missing, superfluous or of another shape.
    """
    import h5py

    base = "model_weights" if isinstance(file.root.get("model_weights"), h5py.Group) else ""
    prefix = f"{base}/" if base else ""
    saved = file.names(base, "layer_names")
    _check_layers(file, built, base, prefix, saved)
    flip = file.text(base, "backend") == "theano"
    for name in saved:
        if name not in built.layers or f"{prefix}{name}" not in file.root:
            continue
        layer, spec = built.layers[name]
        variables = _in_order(layer)
        paths = [f"{prefix}{name}/{weight}" for weight in file.names(f"{prefix}{name}", "weight_names")]
        if not variables and _is_stateless(spec):
            continue
        _fill_layer(file, variables, paths, spec, generation=generation, flip=flip, trusted=built.parameters)
    _fill_rest(built.model, file.place)
    _finalize(built.model)


def load_object_weights(file: Hdf5File, path: Path, built: BuiltModel) -> None:
    """Fill a model from the ``model.weights.h5`` of a ``.keras`` file at `path`, which `file` has inspected.

    Raises InvalidContent if the weights are not those of the model.
    """
    import numpy as np

    largest = max((math.prod(variable.shape) for variable in built.model.weights), default=0)
    if file.largest_bytes > _ITEM_BYTES * max(largest, 1) + 4_096:
        raise InvalidContent(
            "weights-mismatch",
            f"{file.place}:{file.largest_path}",
            f"declares {file.largest_bytes:,} bytes, more than any weight of the model has",
        )
    for variable in _empty(built.model):
        _fill(variable, np.full(tuple(variable.shape), _sentinel(variable), dtype=variable.dtype))
    _forget_empty()
    try:
        built.model.load_weights(str(path))
    except (ValueError, KeyError, OSError, RuntimeError, TypeError, IndexError) as error:
        raise InvalidContent(
            "weights-mismatch", file.place, f"the weights are not those of the model: {_short(error)}"
        ) from error
    for variable in built.model.weights:
        first = np.asarray(variable.value).reshape(-1)[:1]
        if first.size and first.dtype.kind == "f" and np.isnan(first[0]):
            raise InvalidContent(
                "weights-missing",
                file.place,
                f"no value, or no number, for the weight {variable.path!r:.200}",
            )


def _check_layers(file: Hdf5File, built: BuiltModel, base: str, prefix: str, saved: list[str]) -> None:
    if len(set(saved)) != len(saved):
        raise InvalidContent("weights-mismatch", f"{file.place}:/{base}@layer_names", "a layer is named twice")
    for name, (layer, spec) in built.layers.items():
        if _in_order(layer) and (name not in saved or f"{prefix}{name}" not in file.root):
            raise InvalidContent("weights-missing", f"{file.place}:/{base}", f"there are no weights for {_title(spec)}")
    for name in saved:
        if name in built.layers or name == _TOP_LEVEL or f"{prefix}{name}" not in file.root:
            continue
        if file.names(f"{prefix}{name}", "weight_names"):
            raise InvalidContent(
                "weights-mismatch",
                f"{file.place}:/{prefix}{name}",
                "weights of a layer that the model has not",
            )


def _fill_layer(
    file: Hdf5File,
    variables: list[Any],
    paths: list[str],
    spec: LayerSpec | ModelSpec,
    *,
    generation: int,
    flip: bool,
    trusted: int,
) -> None:
    """One layer: take the data sets in the order of their names, translate old layouts, compare, assign."""
    place = f"{file.place}:/{paths[0].rsplit('/', 1)[0] if paths else ''}"
    declared = sum(math.prod(file.dataset(path).shape) for path in paths)
    if declared > 2 * trusted + 4_096:
        raise InvalidContent("weights-mismatch", place, f"more values than the whole model has: {declared:,}")
    kind = spec.kind if isinstance(spec, LayerSpec) else ""
    old = isinstance(spec, LayerSpec) and (generation == 1 or flip)
    if not old:
        paths = _by_name(variables, paths)
        _compare(variables, [tuple(file.dataset(path).shape) for path in paths], place, spec)
    arrays = [file.array(path) for path in paths]
    if old:
        first = isinstance(spec, LayerSpec) and spec.settings.get("data_format") == "channels_first"
        arrays = translate_weights(kind, arrays, generation, flip=flip, channels_first=first)
        _compare(variables, [tuple(array.shape) for array in arrays], place, spec)
    for variable, array in zip(variables, arrays, strict=True):
        if array.dtype.kind not in "fiub":
            raise InvalidContent("weights-mismatch", place, "a weight that is not made of numbers")
        _fill(variable, array)


def _compare(variables: list[Any], shapes: list[tuple[int, ...]], place: str, spec: LayerSpec | ModelSpec) -> None:
    wanted = [tuple(int(size) for size in variable.shape) for variable in variables]
    if wanted != shapes:
        raise InvalidContent(
            "weights-mismatch",
            place,
            f"{_title(spec)} needs weights of shape {wanted!s:.300}, the file has {shapes!s:.300}",
        )


def _by_name(variables: list[Any], paths: list[str]) -> list[str]:
    """The data sets in the order of the variables where their last names say it, else as they stand."""
    by_name = {path.rsplit("/", 1)[-1].rsplit(":", 1)[0]: path for path in paths}
    wanted = [variable.name for variable in variables]
    if len(by_name) == len(paths) and len(set(wanted)) == len(wanted) and set(wanted) == set(by_name):
        return [by_name[name] for name in wanted]
    return paths


def _in_order(layer: Any) -> list[Any]:
    """The weights of a layer as an ``.h5`` holds them: those to be trained first."""
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _is_stateless(spec: LayerSpec | ModelSpec) -> bool:
    """Random layers kept the state of their generator as a weight in some versions; it has no use here."""
    return isinstance(spec, LayerSpec) and (spec.kind in AUGMENTATION or "Dropout" in spec.kind or "Noise" in spec.kind)


def _title(spec: LayerSpec | ModelSpec) -> str:
    return f"{spec.kind if isinstance(spec, LayerSpec) else 'the model'} {spec.name!r:.100}"


def _empty(model: Any) -> list[Any]:
    return [variable for variable in model.variables if variable._value is None]


def _fill(variable: Any, array: Any) -> None:
    """Give a variable its memory and its value in one step."""
    import numpy as np
    import tensorflow as tf

    value = np.asarray(array, dtype=variable.dtype)
    if variable._value is not None:  # a weight that two layers share
        variable.assign(value)
        return
    with tf.init_scope():
        variable._initialize(value)
    variable._initializer = None


def _fill_rest(model: Any, place: str) -> None:
    import numpy as np

    weights = {id(variable) for variable in model.weights}
    for variable in _empty(model):
        if id(variable) in weights:
            raise InvalidContent("weights-missing", place, f"no value for the weight {variable.path!r:.200}")
        _fill(variable, np.zeros(tuple(variable.shape), dtype=variable.dtype))
    _forget_empty()


def _forget_empty() -> None:
    """Keras keeps a list of variables to initialise when the next scope ends; ours are done."""
    from keras.src.backend.common import global_state

    global_state.set_global_attribute("uninitialized_variables", [])


def _finalize(model: Any) -> None:
    """Layers that derive constants from their weights (Normalization) do it now."""
    for layer in model._flatten_layers(include_self=False):
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def _sentinel(variable: Any) -> float:
    return float("nan") if "float" in str(variable.dtype) else 0


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
