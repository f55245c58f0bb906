"""Which layers this host really gives: each is tried in a throwaway child before anything depends on it.

No layer is inferred from a kernel version or a file: containers, security modules and settings take away what
the kernel has. `python -m tasks.sandbox.probe` prints the finding.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tasks.sandbox import filter as seccomp
from tasks.sandbox import primitives
from tasks.sandbox.confine import Plan, bound, confine, enter_server_namespaces
from tasks.sandbox.layers import Confinement, Layer, LayerState
from tasks.sandbox.stage import SCRATCH, Stage, runtime_paths
from tasks.sandbox.wire import Setup

_PROBE_SECONDS = 10
_MIB = 1024**2
_REASON_BYTES = 2000
_FOUND = b"+"
_MISSING = b"-"


def probe(setup: Setup) -> Confinement:
    """Try every layer that the setup does not switch off. Takes milliseconds, leaves nothing."""
    states: dict[Layer, LayerState] = {}
    for layer, attempt in (
        (Layer.LIMITS, _try_limits),
        (Layer.PRIVILEGES, _try_privileges),
        (Layer.SECCOMP, _try_seccomp),
        (Layer.LANDLOCK, _try_landlock),
    ):
        states[layer] = _state(layer, attempt, setup)
    found = frozenset(layer for layer, state in states.items() if state.on)
    states[Layer.IDENTITY] = _identity(setup)
    wanted = found | {Layer.NAMESPACES} | ({Layer.IDENTITY} if states[Layer.IDENTITY].on else set())
    states[Layer.NAMESPACES] = _state(Layer.NAMESPACES, lambda: _try_namespaces(setup, wanted), setup)
    if os.geteuid() == 0 and states[Layer.IDENTITY].on and not states[Layer.NAMESPACES].on:
        advice = "the worker runs as root and there are no namespaces; run it as an ordinary user"
        states[Layer.IDENTITY] = LayerState(layer=Layer.IDENTITY, on=False, detail=advice)
    return Confinement.of(states[layer] for layer in Layer)


def _identity(setup: Setup) -> LayerState:
    if Layer.IDENTITY.value in setup.disabled:
        return LayerState(layer=Layer.IDENTITY, on=os.geteuid() != 0, detail="switched off by a setting")
    user = os.geteuid()
    detail = "nobody, under a worker that runs as root" if user == 0 else f"user {user}"
    return LayerState(layer=Layer.IDENTITY, on=True, detail=detail)


def _state(layer: Layer, attempt: Callable[[], str], setup: Setup) -> LayerState:
    if layer.value in setup.disabled:
        return LayerState(layer=layer, on=False, detail="switched off by a setting")
    verdict = _in_a_child(attempt)
    detail = verdict[1:].decode(errors="replace")
    return LayerState(layer=layer, on=verdict[:1] == _FOUND, detail=detail)


def _in_a_child(attempt: Callable[[], str]) -> bytes:
    """Run an attempt in a forked child: `+` and its detail, or `-` and the reason."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.alarm(_PROBE_SECONDS)
        try:
            answer = _FOUND + attempt().encode()
        except BaseException as error:  # noqa: BLE001 - any failure means that the layer is not there
            answer = _MISSING + (str(error) or type(error).__name__).encode()
        os.write(writer, answer[:_REASON_BYTES])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    return answer or _MISSING + f"the probe ended with status {status}".encode()


def _try_limits() -> str:
    confine(_plan({Layer.LIMITS}))
    bound(memory_bytes=1024 * _MIB, cpu_seconds=_PROBE_SECONDS, file_bytes=_MIB)
    return ""


def _try_privileges() -> str:
    primitives.drop_capabilities()
    primitives.no_new_privileges()
    return ""


def _try_seccomp() -> str:
    primitives.no_new_privileges()
    primitives.enforce_seccomp(seccomp.build(platform.machine(), process=os.getpid()))
    return f"allowlist for {platform.machine()}"


def _try_landlock() -> str:
    primitives.no_new_privileges()
    rules = primitives.Landlock()
    rules.allow(tempfile.gettempdir())
    rules.enforce()
    return f"ABI {rules.abi}"


def _try_namespaces(setup: Setup, layers: frozenset[Layer]) -> str:
    """Go the whole way that a child goes, and look whether the runtime can be read at its end."""
    enter_server_namespaces()

    def inside() -> str:
        stage = Stage(setup.workplace, runtime_paths(setup.import_paths), gpu=False, copy_unreadable=False)
        confine(_plan(layers, stage.root))
        Path(os.__file__).read_bytes()
        Path("probe").write_bytes(b"x")
        return ""

    answer = _in_a_child(inside)
    if answer[:1] == _MISSING:
        raise OSError(answer[1:].decode(errors="replace"))
    return "user, PID, network, IPC, mount"


def _plan(layers: set[Layer] | frozenset[Layer], root: str = "") -> Plan:
    scratch = SCRATCH if root else tempfile.gettempdir()
    return Plan(layers=frozenset(layers), scratch_bytes=_MIB, parent=os.getppid(), root=root, scratch=scratch)


def main() -> None:
    """Print what this host's sandbox consists of."""
    with tempfile.TemporaryDirectory(prefix="fitchain-probe-") as folder:
        Path(folder, "root").mkdir()
        setup = Setup(target="", warm=None, prepare=None, threads=1, workplace=folder, scratch_bytes=_MIB)
        found = probe(setup)
    sys.stdout.write(f"level {found.level.value}\n")
    for state in found.layers:
        sys.stdout.write(f"{'on ' if state.on else 'OFF'} {state.layer.value:<11} {state.detail}\n")


if __name__ == "__main__":
    main()
