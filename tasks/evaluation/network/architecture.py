"""Layers from specs: the one place where a stranger's architecture becomes Keras objects.

Here lives the building; what may be built was decided when the specs were read. Everything is built inside a
`keras.StatelessScope`, in which variables have shapes but no memory: parameters are counted, and refused,
before a byte of them is allocated. Filling the variables is the task of `tasks.evaluation.network.weights`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.errors import InvalidContent
from tasks.evaluation.network.layers import AUGMENTATION, MERGES, RECURRENT
from tasks.evaluation.network.specs import ActivationSpec, Call, InputSpec, LayerSpec, ModelSpec, TensorRef

_MAX_CALLS = 5_000
_PASS_THROUGH = frozenset(
    [
        "Dropout",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "GaussianDropout",
        "AlphaDropout",
        "GaussianNoise",
        "ActivityRegularization",
        "Flatten",
        "Reshape",
        "Permute",
        "Identity",
    ]
)
_PROBABILITIES = frozenset({"softmax", "sigmoid", "hard_sigmoid"})


@dataclass(frozen=True)
class Limits:
    """The most that a model may ask for."""

    max_parameters: int
    max_activation: int


@dataclass(frozen=True)
class BuiltModel:
    """A model whose variables have no memory yet.

    `layers` are its layers by their name in the file; `head` is the activation of its last layer.
    `parameters` counts weights; `widest` is the largest number of values that a layer gives for one row,
    where shapes are known.
    """

    model: Any
    spec: ModelSpec
    layers: Mapping[str, tuple[Any, LayerSpec | ModelSpec]]
    head: str
    parameters: int
    widest: int
    recurrent: bool


def build(spec: ModelSpec, limits: Limits) -> BuiltModel:
    """Build the model of a spec without allocating its weights.

    Raises InvalidContent if the layers do not fit together, or for more parameters or wider activations than
    the limits allow.
    """
    import keras
    import tensorflow as tf

    builder = _Builder()
    try:
        with keras.StatelessScope(initialize_variables=False):
            model, layers = builder.model(spec)
    except (ValueError, TypeError, IndexError, ArithmeticError, RecursionError, tf.errors.OpError) as error:
        raise InvalidContent(
            "model-build", builder.place or spec.place, f"the layers do not fit together: {_short(error)}"
        ) from error
    parameters = sum(math.prod(int(size) for size in weight.shape) for weight in model.weights)
    if parameters > limits.max_parameters:
        raise InvalidContent(
            "too-many-parameters",
            spec.place,
            f"the model has {parameters:,} parameters; at most {limits.max_parameters:,} are evaluated",
        )
    if builder.widest > limits.max_activation:
        raise InvalidContent(
            "too-wide",
            builder.widest_place,
            f"a layer gives {builder.widest:,} values for one row; at most {limits.max_activation:,}",
        )
    return BuiltModel(model, spec, layers, _head(spec), parameters, builder.widest, builder.recurrent)


class _Builder:
    """Builds models and the models in them; remembers where it is, for the sentence of a refusal."""

    def __init__(self) -> None:
        self.place = ""
        self.widest = 0
        self.widest_place = ""
        self.recurrent = False
        self._calls = 0

    def model(self, spec: ModelSpec) -> tuple[Any, dict[str, tuple[Any, LayerSpec | ModelSpec]]]:
        names = _Names()
        layers = {layer.name: (self._layer(layer, names), layer) for layer in spec.layers}
        inputs = {one.name: _input(one, names) for one in spec.inputs}
        build = self._stack if spec.sequential else self._graph
        model = build(spec, layers, inputs)
        for layer, layer_spec in layers.values():
            if not layer_spec.trainable:
                layer.trainable = False  # decides the order in which an .h5 holds the weights
        if not spec.trainable:
            model.trainable = False
        return model, layers

    def _stack(self, spec: ModelSpec, layers: Mapping[str, tuple[Any, Any]], inputs: Mapping[str, Any]) -> Any:
        import keras

        self.place = spec.place
        stack = [*inputs.values(), *(layer for layer, _ in layers.values())]
        model = keras.Sequential(stack, name=_safe(spec.name))
        for layer, layer_spec in layers.values():
            self._measure(layer.output, layer_spec.place)
        return model

    def _graph(self, spec: ModelSpec, layers: Mapping[str, tuple[Any, Any]], inputs: Mapping[str, Any]) -> Any:
        import keras

        tensors: dict[tuple[str, int], list[Any]] = {(name, 0): [tensor] for name, tensor in inputs.items()}
        waiting = [
            (layer_spec, index, call)
            for _, layer_spec in layers.values()
            for index, call in enumerate(layer_spec.calls, start=_first_node(layer_spec, spec))
        ]
        self._calls += len(waiting)
        if self._calls > _MAX_CALLS:
            raise InvalidContent("model-graph", spec.place, f"more than {_MAX_CALLS} calls of layers")
        while waiting:
            left = []
            for layer_spec, index, call in waiting:
                if not _ready(call, tensors):
                    left.append((layer_spec, index, call))
                    continue
                self.place = layer_spec.place
                given: Any = _apply(*layers[layer_spec.name], call, tensors)
                self._measure(given, layer_spec.place)
                tensors[layer_spec.name, index] = list(given) if isinstance(given, list | tuple) else [given]
            if len(left) == len(waiting):
                raise InvalidContent("model-graph", left[0][0].place, "depends on an output that never comes")
            waiting = left
        outputs = [_tensor(ref, tensors, spec.place) for ref in spec.outputs]
        return keras.Model(_single([*inputs.values()]), _single(outputs), name=_safe(spec.name))

    def _layer(self, spec: LayerSpec | ModelSpec, names: _Names) -> Any:
        import keras

        self.place = spec.place
        if isinstance(spec, ModelSpec):
            return self.model(spec)[0]
        self.recurrent = self.recurrent or spec.kind in RECURRENT
        settings = {name: self._setting(value) for name, value in spec.settings.items()}
        if "stateful" in settings:
            settings["stateful"] = False
        kind = "Identity" if spec.kind in AUGMENTATION else spec.kind
        return getattr(keras.layers, kind)(name=names.of(spec.name), **settings)

    def _setting(self, value: object) -> object:
        if isinstance(value, ActivationSpec):
            return activation(value)
        if isinstance(value, LayerSpec | ModelSpec):
            return self._layer(value, _Names())
        return value

    def _measure(self, given: Any, place: str) -> None:
        for tensor in given if isinstance(given, list | tuple) else [given]:
            size = math.prod(int(extent or 1) for extent in tensor.shape[1:])
            if size > self.widest:
                self.widest, self.widest_place = size, place


class _Names:
    """Names that Keras takes, one for each name in the file (which may hold slashes)."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, name: str) -> str:
        safe = _safe(name)
        while safe in self._taken:
            safe += "_"
        self._taken.add(safe)
        return safe


def activation(spec: ActivationSpec) -> Any:
    """The function of a named activation. Keras 1 and 2 had another hard sigmoid than Keras 3 has."""
    import keras

    if spec.legacy and spec.name == "hard_sigmoid":
        return legacy_hard_sigmoid()
    return keras.activations.get(spec.name)


def legacy_hard_sigmoid() -> Any:
    """clip(0.2 x + 0.5, 0, 1); registered, because Bidirectional copies its layer through a config."""
    import keras

    known = keras.saving.get_registered_object("fitchain>hard_sigmoid_of_keras_2")
    if known is not None:
        return known

    def hard_sigmoid_of_keras_2(x: Any) -> Any:
        return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)

    return keras.saving.register_keras_serializable("fitchain")(hard_sigmoid_of_keras_2)


def _head(spec: ModelSpec) -> str:
    """The activation that the output of a model went through last; layers that only reshape do not count."""
    position = len(spec.layers) - 1
    ref = None if spec.sequential else spec.outputs[0].layer
    by_name = {layer.name: layer for layer in spec.layers}
    for _ in range(len(spec.layers) + 1):
        stacked = spec.layers[position] if position >= 0 else None
        layer = stacked if spec.sequential else by_name.get(ref or "")
        if layer is None:
            return "linear"
        if isinstance(layer, ModelSpec):
            return _head(layer)
        found = _activation_name(layer)
        if found != "linear" or layer.kind not in _PASS_THROUGH | {"Activation"}:
            return found
        position -= 1
        ref = _only_source(layer)
    return "linear"


def _activation_name(layer: LayerSpec) -> str:
    inner = layer.settings.get("layer")
    if layer.kind == "TimeDistributed" and isinstance(inner, LayerSpec):
        return _activation_name(inner)
    if layer.kind == "Softmax":
        return "softmax"
    value = layer.settings.get("activation")
    if isinstance(value, LayerSpec):
        return value.kind.lower()
    if layer.kind in RECURRENT:
        return "recurrent"
    return value.name if isinstance(value, ActivationSpec) else "linear"


def gives_probabilities(head: str) -> bool:
    """Whether the last activation of a model makes its output probabilities."""
    return head in _PROBABILITIES


def _only_source(layer: LayerSpec) -> str | None:
    if len(layer.calls) != 1 or not layer.calls[0].args:
        return None
    source = layer.calls[0].args[0]
    return source.layer if isinstance(source, TensorRef) else None


def _input(spec: InputSpec, names: _Names) -> Any:
    import keras

    dtype = "float32" if "float" in spec.dtype else spec.dtype
    return keras.Input(shape=spec.shape, dtype=dtype, name=names.of(spec.name))


def _refs(call: Call) -> list[TensorRef]:
    groups = [*call.args, *call.tensors.values()]
    return [ref for group in groups for ref in ((group,) if isinstance(group, TensorRef) else group)]


def _ready(call: Call, tensors: Mapping[tuple[str, int], list[Any]]) -> bool:
    return all((ref.layer, ref.node) in tensors for ref in _refs(call))


def _apply(layer: Any, spec: LayerSpec | ModelSpec, call: Call, tensors: Mapping[tuple[str, int], list[Any]]) -> Any:
    def resolve(group: TensorRef | tuple[TensorRef, ...]) -> Any:
        if isinstance(group, TensorRef):
            return _tensor(group, tensors, "")
        return [_tensor(ref, tensors, "") for ref in group]

    named = {name: resolve(group) for name, group in call.tensors.items()}
    args = [resolve(group) for group in call.args]
    if isinstance(spec, LayerSpec) and spec.kind in MERGES and len(args) == 2:
        args = [args]  # Keras 3 writes ``x + y`` as such a call
    if _is_recurrent(spec) and len(args) == 1 and isinstance(args[0], list):
        args, named["initial_state"] = args[0][:1], args[0][1:]  # Keras 1 and 2 put the state into the list
    return layer(*args, **named, **call.switches)


def _is_recurrent(spec: LayerSpec | ModelSpec) -> bool:
    return isinstance(spec, LayerSpec) and spec.kind in RECURRENT | {"Bidirectional"}


def _first_node(layer: LayerSpec | ModelSpec, graph: ModelSpec) -> int:
    """By which number the first call of a layer goes: 0, but for models in models often 1, as the call that
    made them counts too. No call is without use, so the lowest number in use is the first."""
    if isinstance(layer, LayerSpec):
        return 0
    used = [*graph.outputs, *(ref for other in graph.layers for call in other.calls for ref in _refs(call))]
    return min((ref.node for ref in used if ref.layer == layer.name), default=0)


def _tensor(ref: TensorRef, tensors: Mapping[tuple[str, int], list[Any]], place: str) -> Any:
    given = tensors.get((ref.layer, ref.node), [])
    if ref.tensor >= len(given):
        raise InvalidContent(
            "model-graph", place, f"there is no output {ref.tensor} of call {ref.node} of {ref.layer!r:.100}"
        )
    return given[ref.tensor]


def _single(items: list[Any]) -> Any:
    return items[0] if len(items) == 1 else items


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:120] or "layer"


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
