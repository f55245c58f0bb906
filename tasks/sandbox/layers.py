"""The layers of the sandbox and the levels that they add up to. Names and order only: nothing is applied
here.

A level demands its own layers and those of every level below it. The order is that of what hosts offer:
limits exist everywhere, seccomp nearly so, Landlock since Linux 5.13, while namespaces are what containers
and some distributions withhold from ordinary users.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict


class Layer(StrEnum):
    """One protection that is applied, or missing, on its own."""

    LIMITS = "limits"
    PRIVILEGES = "privileges"
    SECCOMP = "seccomp"
    LANDLOCK = "landlock"
    NAMESPACES = "namespaces"
    IDENTITY = "identity"


MEANING: Final = {
    Layer.LIMITS: "resource limits, own session, memory and clock watched from outside",
    Layer.PRIVILEGES: "no capabilities and no way to gain privileges",
    Layer.SECCOMP: "an allowlist of system calls: no sockets, no processes, no tracing",
    Layer.LANDLOCK: "of all files, the runtime and the inputs to read, and the scratch folder to write",
    Layer.NAMESPACES: "own users, processes, network, IPC and file system",
    Layer.IDENTITY: "not the root user",
}


class Level(StrEnum):
    """How strongly an evaluation is confined; ordered, see `rank`."""

    NONE = "none"
    LIMITS = "limits"
    SECCOMP = "seccomp"
    LANDLOCK = "landlock"
    FULL = "full"

    @property
    def rank(self) -> int:
        """0 for the weakest."""
        return list(Level).index(self)


_DEMANDS: Final = (
    (Level.LIMITS, {Layer.LIMITS, Layer.PRIVILEGES}),
    (Level.SECCOMP, {Layer.SECCOMP}),
    (Level.LANDLOCK, {Layer.LANDLOCK}),
    (Level.FULL, {Layer.NAMESPACES, Layer.IDENTITY}),
)


class LayerState(BaseModel):
    """Whether a layer is on, and if so with what (`Landlock ABI 7`), if not why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: Layer
    on: bool
    detail: str = ""


class Confinement(BaseModel):
    """What a host's sandbox consists of, as probed at its start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Level
    layers: tuple[LayerState, ...]

    @property
    def missing(self) -> tuple[LayerState, ...]:
        """The layers that are off, with the reason in `detail`."""
        return tuple(state for state in self.layers if not state.on)

    @property
    def active(self) -> frozenset[Layer]:
        """The layers that are on."""
        return frozenset(state.layer for state in self.layers if state.on)

    def __str__(self) -> str:
        text = f"level {self.level.value}"
        if self.missing:
            text += "; missing: " + ", ".join(f"{state.layer.value} ({state.detail})" for state in self.missing)
        return text

    @classmethod
    def of(cls, states: Iterable[LayerState]) -> Confinement:
        """The confinement that these layers make, its level included."""
        layers = tuple(states)
        return cls(level=level_of(frozenset(state.layer for state in layers if state.on)), layers=layers)


def level_of(active: frozenset[Layer]) -> Level:
    """The highest level whose demands, and those of all levels below it, are met."""
    reached = Level.NONE
    for level, demanded in _DEMANDS:
        if not demanded <= active:
            break
        reached = level
    return reached
