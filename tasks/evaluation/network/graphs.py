"""The edges of a functional model: which layer is called on whose outputs.

Here lives the reading of ``inbound_nodes``, ``input_layers`` and ``output_layers`` in the two forms that
exist: lists of ``[layer, node, tensor, kwargs]`` (Keras 1 and 2), and ``args``/``kwargs`` that hold
``__keras_tensor__`` objects (Keras 3). A call may say no more than which tensors go in and a few switches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.errors import InvalidContent
from tasks.evaluation.network.specs import Call, TensorRef

_MAX_CALLS = 1_000
_MAX_TENSORS = 1_000
_TENSOR_ARGUMENTS = frozenset({"query", "value", "key", "initial_state"})
_SWITCHES = frozenset({"use_causal_mask", "return_attention_scores"})
_TENSOR = "__keras_tensor__"

Tensors = TensorRef | tuple[TensorRef, ...]


def read_calls(nodes: Any, place: str) -> tuple[Call, ...]:
    """All calls of a layer, in the order by which others refer to them. Raises InvalidContent."""
    if nodes is None:
        return ()
    if not isinstance(nodes, list) or len(nodes) > _MAX_CALLS:
        raise _refuse(place, "inbound_nodes is not a list of calls")
    return tuple(_call_of_3(node, place) if isinstance(node, dict) else _call_of_2(node, place) for node in nodes)


def read_endpoints(value: Any, place: str) -> tuple[TensorRef, ...]:
    """The inputs or outputs of a model: one reference or a list of them."""
    if not isinstance(value, list) or not value or len(value) > _MAX_TENSORS:
        raise _refuse(place, "a list of [layer, node, tensor] was expected")
    if isinstance(value[0], str):
        return (_reference(value, place),)
    return tuple(_reference(item, place) for item in value)


def _call_of_2(node: Any, place: str) -> Call:
    """``[[layer, node, tensor, kwargs], …]``; a single tensor may stand without the outer list."""
    if not isinstance(node, list) or not node or len(node) > _MAX_TENSORS:
        raise _refuse(place, "a call is not a list of tensors")
    entries = [node] if isinstance(node[0], str) else node
    refs = tuple(_reference(entry, place) for entry in entries)
    extra: dict[str, Any] = {}
    for entry in entries:
        if len(entry) > 3 and isinstance(entry[3], dict):
            extra |= entry[3]
    tensors, switches = _keywords(extra, place)
    return Call(args=(refs[0] if len(refs) == 1 else refs,), tensors=tensors, switches=switches)


def _call_of_3(node: Mapping[str, Any], place: str) -> Call:
    args = node.get("args")
    if not isinstance(args, list) or len(args) > _MAX_TENSORS:
        raise _refuse(place, "a call without arguments")
    keywords = node.get("kwargs") or {}
    if not isinstance(keywords, dict):
        raise _refuse(place, "the arguments of a call are not an object")
    tensors, switches = _keywords(keywords, place)
    return Call(args=tuple(_tensors(arg, place) for arg in args), tensors=tensors, switches=switches)


def _keywords(extra: Mapping[str, Any], place: str) -> tuple[dict[str, Tensors], dict[str, bool]]:
    tensors: dict[str, Tensors] = {}
    switches: dict[str, bool] = {}
    for name, value in extra.items():
        if value is None or (name == "training" and value is False):
            continue
        if name == "training":
            raise _refuse(place, "is called as in training, so that its predictions are left to chance")
        if name in _SWITCHES and isinstance(value, bool):
            switches[name] = value
        elif name in _TENSOR_ARGUMENTS:
            tensors[name] = _tensors(value, place)
        else:
            raise _refuse(place, f"is called with {name!r:.60}, which is not supported")
    return tensors, switches


def _tensors(value: Any, place: str) -> Tensors:
    if isinstance(value, dict) or _is_reference(value):
        return _reference(value, place)
    if isinstance(value, list) and 0 < len(value) <= _MAX_TENSORS:
        return tuple(_reference(item, place) for item in value)
    raise _refuse(place, "is called on something that is not the output of a layer")


def _reference(value: Any, place: str) -> TensorRef:
    if isinstance(value, dict):
        config = value.get("config")
        if value.get("class_name") != _TENSOR or not isinstance(config, dict):
            raise _refuse(place, "is called on something that is not the output of a layer")
        value = config.get("keras_history")
    if not _is_reference(value):
        raise _refuse(place, "is called on something that is not the output of a layer")
    return TensorRef(layer=value[0], node=value[1], tensor=value[2])


def _is_reference(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and all(type(part) is int and 0 <= part < _MAX_CALLS for part in value[1:3])
    )


def _refuse(place: str, sentence: str) -> InvalidContent:
    return InvalidContent("model-graph", place, sentence)
