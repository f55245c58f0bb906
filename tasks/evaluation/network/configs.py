"""The architecture that a model file describes, read into checked specs.

Here lives the reading of the JSON that Keras 1, 2 and 3 write for a model (``model_config`` of an ``.h5``,
``config.json`` of a ``.keras``): the stack of a Sequential model, the graph of a functional one, models
inside models. Which layers and settings may occur is the allowlist of `tasks.evaluation.network.layers`;
nothing is built here, and nothing of the document survives but checked, plain values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from storage.canonical import refuse_deep_json
from tasks.errors import InvalidContent
from tasks.evaluation.network import graphs
from tasks.evaluation.network.layers import AUGMENTATION, INPUT, LAYERS, MODELS, check_class, read_settings
from tasks.evaluation.network.legacy import translate
from tasks.evaluation.network.rules import MAX_RANK, MAX_SIZE, Reading
from tasks.evaluation.network.specs import InputSpec, LayerSpec, ModelSpec

MAX_CONFIG_BYTES = 32 * 2**20
MAX_NESTING = 100
_MAX_MODELS_DEEP = 8
_LEGACY_CLASSES = frozenset(
    [
        "Merge",
        "Convolution1D",
        "Convolution2D",
        "Convolution3D",
        "AtrousConvolution1D",
        "AtrousConvolution2D",
        "SeparableConvolution2D",
        "MaxPool1D",
        "MaxPool2D",
        "AvgPool2D",
        "BatchNormalizationV1",
        "BatchNormalizationV2",
        "LSTMV1",
        "LSTMV2",
        "GRUV1",
        "GRUV2",
        "Conv2DTransposeV1",
        "ThresholdedReLU",
        "GlobalMaxPool2D",
        "GlobalAvgPool2D",
    ]
)
_DTYPES = frozenset(
    [
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "bool",
    ]
)


def parse_config(text: str, place: str) -> Any:
    """JSON from a model file as Python values. Raises InvalidContent if it is none, or is nested too deep."""
    if len(text) > MAX_CONFIG_BYTES:
        raise InvalidContent("model-config", place, f"{len(text):,} characters; at most {MAX_CONFIG_BYTES:,}")
    try:
        refuse_deep_json(text)
        document = json.loads(text)
    except ValueError as error:
        raise InvalidContent("model-config", place, f"not JSON: {error!s:.200}") from error
    return _unwrap(document, place, 0)


def read_model(document: Any, *, generation: int, place: str, max_layers: int) -> ModelSpec:
    """The spec of a whole model from its parsed document.

    Raises InvalidContent for anything that is not understood or not allowed, naming its place.
    """
    reader = _Reader(generation, max_layers)
    try:
        model = reader.model(document, place, 0)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError) as error:
        # A document of another form than every form that is known, in a way that no check above foresaw.
        raise InvalidContent("model-config", place, f"not the form of a model: {error!s:.200}") from error
    return replace(model, notes=tuple(reader.notes))


def _unwrap(value: Any, place: str, depth: int) -> Any:
    """Undo the wrappers that Keras puts round tuples, arrays and shapes; bound the nesting."""
    if depth > MAX_NESTING:
        raise InvalidContent("model-config", place, f"nested deeper than {MAX_NESTING} levels")
    if isinstance(value, list):
        return [_unwrap(item, place, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("class_name")
    if kind in ("__tuple__", "TensorShape") and set(value) <= {"class_name", "items", "config"}:
        return _unwrap(value.get("items", value.get("config")), place, depth + 1)
    config = value.get("config")
    if kind == "__numpy__" and isinstance(config, dict):
        return _unwrap(config.get("value"), place, depth + 1)
    if value.get("type") == "ndarray" and "value" in value:
        return _unwrap(value["value"], place, depth + 1)
    return {key: _unwrap(item, place, depth + 1) for key, item in value.items()}


class _Reader:
    """Reads one file; counts layers over all nested models."""

    def __init__(self, generation: int, max_layers: int) -> None:
        self._generation = generation
        self._max_layers = max_layers
        self._layers = 0
        self.notes: dict[str, None] = {}

    def model(self, document: Any, place: str, depth: int) -> ModelSpec:
        kind = document.get("class_name") if isinstance(document, dict) else type(document).__name__
        if not isinstance(document, dict) or not isinstance(kind, str) or kind not in MODELS:
            if isinstance(document, dict) and isinstance(kind, str) and kind not in LAYERS:
                check_class(document, place)
            raise InvalidContent(
                "model-config", place, f"a Sequential or functional model was expected, not {kind!r:.100}"
            )
        if depth > _MAX_MODELS_DEEP:
            raise InvalidContent("model-config", place, f"models inside models, {_MAX_MODELS_DEEP} deep")
        kind = check_class(document, place)
        config = document.get("config")
        if kind == "Sequential":
            return self._sequential(config, place, depth)
        if not isinstance(config, dict):
            raise InvalidContent("model-config", place, "a functional model without its graph")
        if "layers" not in config:
            raise InvalidContent(
                "subclassed-model",
                place,
                "the model is a class of its author's own, saved without its layers; save a Sequential or "
                "functional model",
            )
        return self._functional(config, place, depth)

    def _sequential(self, config: Any, place: str, depth: int) -> ModelSpec:
        """Up to Keras 2.2.2 the config is the list of layers itself, later an object around it."""
        named = config if isinstance(config, dict) else {}
        layers = named.get("layers") if isinstance(config, dict) else config
        if not isinstance(layers, list) or not layers:
            raise InvalidContent("model-config", place, "a Sequential model without layers")
        first = layers[0]
        inputs = self._sequential_inputs(first, named, place)
        if isinstance(first, dict) and first.get("class_name") == INPUT:
            layers = layers[1:]
        read = [self.layer(layer, f"{place}/layers[{index}]", depth) for index, layer in enumerate(layers)]
        if not inputs and read and isinstance(read[0], ModelSpec):
            inputs = read[0].inputs
        if len(inputs) != 1:
            raise InvalidContent(
                "input-shape", f"{place}/layers[0]", "the shape of the input is not said; save a built model"
            )
        _check_names(read, place)
        return ModelSpec(
            name=_name(named, "sequential"),
            sequential=True,
            inputs=inputs,
            layers=tuple(read),
            outputs=(),
            place=place,
            trainable=_trainable(named),
        )

    def _sequential_inputs(self, first: Any, named: Mapping[str, Any], place: str) -> tuple[InputSpec, ...]:
        where = f"{place}/layers[0]"
        if not isinstance(first, dict) or not isinstance(first.get("config"), dict | list):
            raise InvalidContent("model-config", where, "a layer is an object with class_name and config")
        config = first["config"] if isinstance(first["config"], dict) else {}
        found = _input(config, where, "input")
        built = named.get("build_input_shape")
        if found is None and isinstance(built, list):
            found = _input({"batch_shape": built}, where, "input")
        build_config = first.get("build_config")
        if found is None and isinstance(build_config, dict) and build_config.get("input_shape"):
            found = _input({"batch_shape": build_config["input_shape"]}, where, "input")
        if found is None and self._generation == 1 and type(config.get("input_dim")) is int:
            found = InputSpec(name="input", shape=(config["input_dim"],), dtype="float32")
        return (found,) if found else ()

    def _functional(self, config: Mapping[str, Any], place: str, depth: int) -> ModelSpec:
        documents = config["layers"]
        if not isinstance(documents, list) or not documents:
            raise InvalidContent("model-config", place, "a functional model without layers")
        inputs: dict[str, InputSpec] = {}
        layers: list[LayerSpec | ModelSpec] = []
        for index, document in enumerate(documents):
            where = f"{place}/layers[{index}]"
            if not isinstance(document, dict) or not isinstance(document.get("config"), dict | list):
                raise InvalidContent("model-config", where, "a layer is an object with class_name and config")
            if document.get("class_name") == INPUT:
                check_class(document, where)
                name = _name(document, _name(document["config"], "input"))
                found = _input(document["config"], where, name)
                if found is None or name in inputs:
                    raise InvalidContent("input-shape", where, "an input without a shape, or twice")
                inputs[name] = found
            else:
                layers.append(self.layer(document, where, depth, graph=True))
        _check_names([*layers, *inputs.values()], place)
        input_refs = graphs.read_endpoints(config.get("input_layers"), f"{place}/input_layers")
        if any(ref.layer not in inputs for ref in input_refs):
            raise InvalidContent("model-graph", f"{place}/input_layers", "names an input that is no input layer")
        return ModelSpec(
            name=_name(config, "model"),
            sequential=False,
            inputs=tuple(inputs[ref.layer] for ref in input_refs),
            layers=tuple(layers),
            outputs=graphs.read_endpoints(config.get("output_layers"), f"{place}/output_layers"),
            place=place,
            trainable=_trainable(config),
        )

    def layer(self, document: Any, place: str, depth: int, *, graph: bool = False) -> LayerSpec | ModelSpec:
        """One layer, or a model that stands for one."""
        if not isinstance(document, dict):
            raise InvalidContent("model-config", place, "a layer is an object with class_name and config")
        self._layers += 1
        if self._layers > self._max_layers:
            raise InvalidContent("too-many-layers", place, f"more than {self._max_layers} layers")
        config = document.get("config")
        if isinstance(config, dict) and isinstance(config.get("name"), str):
            place = f"{place} '{config['name'][:80]}'"
        calls = graphs.read_calls(document.get("inbound_nodes"), place) if graph else ()
        kind = self._class(document, place)
        if kind in MODELS:
            found = self.model(document, place, depth + 1)
            name = _name(document, found.name)
            return replace(found, name=name, calls=calls)
        if kind == INPUT or not isinstance(config, dict):
            raise InvalidContent("model-config", place, "a layer is an object with class_name and config")
        kind, settings = translate(kind, config, self._generation, place)
        if kind not in LAYERS and kind not in AUGMENTATION:
            raise InvalidContent("unknown-layer", place, f"{kind!r:.100} is not a layer that verifiers build")
        reading = Reading(self._generation, lambda inner: self.layer(inner, f"{place}/layer", depth + 1))
        if depth > _MAX_MODELS_DEEP:
            raise InvalidContent("model-config", place, f"layers inside layers, {_MAX_MODELS_DEEP} deep")
        self._note(config)
        return LayerSpec(
            name=_name(document, _name(config, kind.lower())),
            kind=kind,
            settings=read_settings(kind, settings, reading, place),
            trainable=_trainable(config),
            place=place,
            calls=calls,
        )

    def _note(self, config: Mapping[str, Any]) -> None:
        dtype = config.get("dtype")
        if isinstance(dtype, dict) and isinstance(dtype.get("config"), dict):
            dtype = dtype["config"].get("name")
        if isinstance(dtype, str) and dtype != "float32" and "float" in dtype:
            self.notes[f"The model asks for {dtype[:40]}; it is computed in float32."] = None
        if config.get("stateful") is True:
            self.notes["Recurrent layers keep no state from one batch to the next."] = None

    def _class(self, document: Mapping[str, Any], place: str) -> str:
        kind = document.get("class_name")
        if self._generation < 3 and isinstance(kind, str) and kind in _LEGACY_CLASSES:
            return kind
        return check_class(document, place)


def _input(config: Any, place: str, name: str) -> InputSpec | None:
    """The input that a first layer or an input layer declares, or None if it declares none."""
    if not isinstance(config, dict):
        return None
    shape: Any = None
    for key in ("batch_shape", "batch_input_shape"):
        if isinstance(config.get(key), list) and config[key]:
            shape = config[key][1:]
    if shape is None and isinstance(config.get("shape"), list):
        shape = config["shape"]
    if shape is None:
        return None
    if config.get("ragged") or config.get("sparse"):
        raise InvalidContent("input-shape", place, "ragged and sparse inputs are not supported")
    sizes = [int(size) if isinstance(size, float) and size.is_integer() else size for size in shape]
    if len(sizes) > MAX_RANK or not all(
        size is None or (type(size) is int and 1 <= size <= MAX_SIZE) for size in sizes
    ):
        raise InvalidContent("input-shape", place, f"{shape!r:.100} is no shape of an input")
    dtype = config.get("dtype", config.get("input_dtype"))
    known = dtype if isinstance(dtype, str) and dtype in _DTYPES else "float32"
    return InputSpec(name=name, shape=tuple(sizes), dtype=known)


def _name(config: Any, default: str) -> str:
    name = config.get("name") if isinstance(config, dict) else None
    return name[:300] if isinstance(name, str) and name else default


def _trainable(config: Mapping[str, Any]) -> bool:
    return config.get("trainable") is not False


def _check_names(layers: list[Any], place: str) -> None:
    seen: set[str] = set()
    for layer in layers:
        if layer.name in seen:
            raise InvalidContent("model-config", place, f"two layers are called {layer.name!r:.100}")
        seen.add(layer.name)
