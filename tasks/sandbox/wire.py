"""What the worker and its fork server say to each other, and how: one JSON object a packet on a Unix socket.

A packet may carry open descriptors. Both ends trust each other; what a child says travels through pipes of
its own and is read with suspicion in `tasks.sandbox.outcome`.
"""

from __future__ import annotations

import socket
from typing import Final

from pydantic import BaseModel, ConfigDict

from tasks.sandbox.layers import Confinement

MAX_PACKET_BYTES: Final = 64 * 1024
DESCRIPTORS_PER_RUN: Final = 4
# The first byte of what a child returns, and the exit codes of the server's own code in it.
RESULT: Final = b"R"
ERROR: Final = b"E"
EXIT_RAISED: Final = 70
EXIT_NOT_CONFINED: Final = 71


class _Packet(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Setup(_Packet):
    """How the worker wants its fork server: what to import, what to run, where, and which layers to leave
    off.
    """

    target: str
    warm: str | None
    prepare: str | None
    threads: int
    workplace: str = ""
    scratch_bytes: int
    gpu: str | None = None
    disabled: tuple[str, ...] = ()
    import_paths: tuple[str, ...] = ()


class Run(_Packet):
    """One evaluation. The packet carries four descriptors: request, result, output, events."""

    inputs: tuple[str, ...]
    scratch: str
    memory_bytes: int
    cpu_seconds: int


class Kill(_Packet):
    """End the child that is running, and everything it has started."""

    kill: bool = True


class Probed(_Packet):
    """First word of the server: what this host's sandbox consists of."""

    confinement: Confinement


class Ready(_Packet):
    """The imports are done; the server takes runs. `threads` names them: there must be exactly one."""

    process: int
    threads: tuple[str, ...]
    import_seconds: float


class Ended(_Packet):
    """The child and all it started are gone. `status` is that of wait(2); times in seconds."""

    status: int
    user_seconds: float
    system_seconds: float


class Refused(_Packet):
    """The run was not taken. With `ended` the server ends, too, and the run may be sent to another."""

    reason: str
    ended: bool


class ServerMessage(BaseModel):
    """A packet of the server, by its kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    body: Probed | Ready | Ended | Refused


class WorkerMessage(BaseModel):
    """A packet of the worker, by its kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    body: Run | Kill


def send(channel: socket.socket, message: ServerMessage | WorkerMessage, descriptors: tuple[int, ...] = ()) -> None:
    """Send one packet; raises OSError when the other end is gone."""
    socket.send_fds(channel, [message.model_dump_json().encode()], list(descriptors))


def receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """The next packet with its descriptors; empty when the other end is gone."""
    packet, descriptors, _, _ = socket.recv_fds(channel, MAX_PACKET_BYTES, DESCRIPTORS_PER_RUN)
    return packet, descriptors
