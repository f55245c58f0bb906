"""Which values a setting of a layer may have: small checks that return a clean value or say what is wrong.

Here live the checks alone; which layer has which settings is the allowlist of
`tasks.evaluation.network.layers`. A check gets the value as JSON gave it and never returns an object of the
file itself but a new, plain one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.evaluation.network.specs import ActivationSpec, LayerSpec, ModelSpec

MAX_SIZE = 2**31 - 1
MAX_RANK = 8

ACTIVATIONS = frozenset(
    [
        "linear",
        "relu",
        "relu6",
        "softmax",
        "log_softmax",
        "softplus",
        "softsign",
        "sigmoid",
        "tanh",
        "elu",
        "selu",
        "gelu",
        "exponential",
        "hard_sigmoid",
        "hard_tanh",
        "silu",
        "hard_silu",
        "leaky_relu",
        "mish",
        "celu",
        "glu",
        "log_sigmoid",
        "soft_shrink",
        "hard_shrink",
        "tanh_shrink",
        "squareplus",
        "sparse_plus",
        "sparse_sigmoid",
        "sparsemax",
        "threshold",
    ]
)
_ACTIVATION_ALIASES = {"swish": "silu", "hard_swish": "hard_silu"}
ACTIVATION_LAYERS = frozenset({"ReLU", "LeakyReLU", "ELU", "Softmax"})


class BadSetting(Exception):
    """A value that a setting may not have; the message says what it may be."""


@dataclass(frozen=True)
class Reading:
    """What a check needs to know besides the value: the generation of Keras that wrote the file, and how a
    wrapped layer is read."""

    generation: int
    read_layer: Callable[[Any], LayerSpec | ModelSpec]


Rule = Callable[[Any, Reading], object]


def ignored(value: Any, reading: Reading) -> None:
    """A setting that has no effect on predictions (initialisers, regularisers, seeds)."""


def flag(value: Any, reading: Reading) -> bool:
    """true or false; 0 and 1 are taken too, as old files hold them."""
    if isinstance(value, bool) or (type(value) is int and value in (0, 1)):
        return bool(value)
    raise BadSetting("must be true or false")


def only(*allowed: object) -> Rule:
    """A setting that is understood only with these values and then needs no further care."""

    def check(value: Any, reading: Reading) -> None:
        if not any(type(value) is type(one) and value == one for one in allowed):
            raise BadSetting(f"is supported only as {' or '.join(map(repr, allowed))}")

    return check


def choice(*allowed: str) -> Rule:
    """One of a few words."""

    def check(value: Any, reading: Reading) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise BadSetting(f"must be one of {', '.join(allowed)}")
        return value

    return check


def whole(minimum: int, maximum: int = MAX_SIZE) -> Rule:
    """A whole number in a range; 3.0 counts as 3, as old files hold it."""

    def check(value: Any, reading: Reading) -> int:
        return _whole(value, minimum, maximum)

    return check


def number(minimum: float = -math.inf, maximum: float = math.inf) -> Rule:
    """A finite number in a range."""

    def check(value: Any, reading: Reading) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadSetting("must be a finite number")
        if not minimum <= value <= maximum:
            raise BadSetting(f"must be from {minimum} to {maximum}")
        return float(value)

    return check


def optional(rule: Rule) -> Rule:
    """null, which leaves the setting at the default of the layer, or what `rule` takes."""

    def check(value: Any, reading: Reading) -> object:
        return None if value is None else rule(value, reading)

    return check


def either(*rules: Rule) -> Rule:
    """What the first of the rules takes."""

    def check(value: Any, reading: Reading) -> object:
        reasons = []
        for rule in rules:
            try:
                return rule(value, reading)
            except BadSetting as bad:
                reasons.append(str(bad))
        raise BadSetting(", or ".join(dict.fromkeys(reasons)))

    return check


def wholes(minimum: int, *, length: int | None = None, gaps: bool = False, maximum: int = MAX_SIZE) -> Rule:
    """A list of whole numbers; with `gaps`, null is allowed among them."""

    def check(value: Any, reading: Reading) -> tuple[int | None, ...]:
        if not isinstance(value, list) or len(value) > MAX_RANK or length not in (None, len(value)):
            raise BadSetting(f"must be a list of {length or f'at most {MAX_RANK}'} whole numbers")
        return tuple(None if gaps and item is None else _whole(item, minimum, maximum) for item in value)

    return check


def extent(rank: int, minimum: int = 1) -> Rule:
    """A size for each of `rank` dimensions, or one for all."""
    many = wholes(minimum, length=rank)

    def check(value: Any, reading: Reading) -> object:
        if isinstance(value, list):
            return many(value, reading)
        single = _whole(value, minimum, MAX_SIZE)
        return single if rank == 1 else (single,) * rank

    return check


def margins(rank: int) -> Rule:
    """Padding or cropping: one number, one for each dimension, or a pair for each dimension."""

    def check(value: Any, reading: Reading) -> object:
        if not isinstance(value, list):
            return _whole(value, 0, MAX_SIZE)
        if rank == 1:
            return tuple(_whole(item, 0, MAX_SIZE) for item in _list_of(value, 2))
        return tuple(
            tuple(_whole(one, 0, MAX_SIZE) for one in _list_of(item, 2))
            if isinstance(item, list)
            else _whole(item, 0, MAX_SIZE)
            for item in _list_of(value, rank)
        )

    return check


def numbers(value: Any, reading: Reading) -> object:
    """A number, or nested lists of them (statistics that a layer carries in its settings)."""
    if isinstance(value, list):
        if len(value) > 100_000:
            raise BadSetting("is longer than any statistics need")
        return [numbers(item, reading) for item in value]
    return number()(value, reading)


def text(maximum: int) -> Rule:
    """Short text."""

    def check(value: Any, reading: Reading) -> str:
        if not isinstance(value, str) or len(value) > maximum:
            raise BadSetting(f"must be text of at most {maximum} characters")
        return value

    return check


def activation(value: Any, reading: Reading) -> ActivationSpec | LayerSpec:
    """A named activation function, as text or as the object that Keras 3 writes for it, or one of the
    activation layers that have no weights."""
    if value is None:
        return ActivationSpec("linear")
    if isinstance(value, dict) and str(value.get("class_name")) in ACTIVATION_LAYERS:
        found = reading.read_layer(value)
        if isinstance(found, LayerSpec):
            return found
    if isinstance(value, dict) and value.get("class_name") == "function":
        value = value.get("config")
    name = _ACTIVATION_ALIASES.get(value, value) if isinstance(value, str) else None
    if name not in ACTIVATIONS:
        raise BadSetting("names no activation that this verifier knows; a function of one's own cannot be run")
    return ActivationSpec(name, legacy=reading.generation < 3)


def wrapped(value: Any, reading: Reading) -> LayerSpec | ModelSpec:
    """A layer inside a wrapper."""
    if not isinstance(value, dict):
        raise BadSetting("must be a layer")
    return reading.read_layer(value)


def _whole(value: Any, minimum: int, maximum: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadSetting("must be a whole number")
    if not minimum <= value <= maximum:
        raise BadSetting(f"must be from {minimum} to {maximum}")
    return value


def _list_of(value: Any, length: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        raise BadSetting(f"must be a list of {length}")
    return value
