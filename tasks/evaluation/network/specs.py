"""The architecture of a model as plain values, between the file it was read from and the layers it becomes.

Here live the dataclasses only. What a file says is read into them by `tasks.evaluation.network.configs`,
every value checked on the way; `tasks.evaluation.network.architecture` builds from them and sees nothing else
of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TensorRef:
    """The `tensor`-th output of the `node`-th call of a layer."""

    layer: str
    node: int
    tensor: int


@dataclass(frozen=True)
class ActivationSpec:
    """A named activation function. `legacy` marks the rules of Keras 1 and 2 where they differ."""

    name: str
    legacy: bool = False


@dataclass(frozen=True)
class Call:
    """One use of a layer: positional arguments (a tensor or a list of them), named ones, plain switches."""

    args: tuple[TensorRef | tuple[TensorRef, ...], ...]
    tensors: Mapping[str, TensorRef | tuple[TensorRef, ...]] = field(default_factory=dict)
    switches: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class InputSpec:
    """An input: shape of one row (None where it may vary) and its number type."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class LayerSpec:
    """A layer: the name in its file, a class from the allowlist, and checked settings.

    A setting may be a number, text, a tuple of them, an `ActivationSpec`, or the spec of a wrapped layer.
    """

    name: str
    kind: str
    settings: Mapping[str, object]
    trainable: bool
    place: str
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True)
class ModelSpec:
    """A model: its layers, or, for a Sequential one, its stack of them. A model may be a layer of another.

    `notes` (of the outermost model) are sentences about what the file asks for and evaluation does otherwise.
    """

    name: str
    sequential: bool
    inputs: tuple[InputSpec, ...]
    layers: tuple[LayerSpec | ModelSpec, ...]
    outputs: tuple[TensorRef, ...]
    place: str
    trainable: bool = True
    calls: tuple[Call, ...] = ()
    notes: tuple[str, ...] = ()
