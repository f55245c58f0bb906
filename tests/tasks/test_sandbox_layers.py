"""Attacks on the sandbox, with its layers switched off in turn.

Each attack is shown to be real: with the layers that stop it off, it succeeds. Each of those layers alone
must stop it, and so must the whole.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tasks import errors
from tasks.sandbox import Layer, Sandbox, probe_host
from tasks.sandbox.layers import Confinement, LayerState, Level, level_of
from tasks.sandbox.primitives import landlock_abi
from tasks.sandbox.processes import descendants
from tests.tasks.sandboxes import MIB, ask, sandbox_without

ALL = frozenset(Layer)
CONFINING = (Layer.SECCOMP, Layer.LANDLOCK, Layer.NAMESPACES)


@pytest.fixture(scope="module")
def host() -> Confinement:
    return probe_host()


@pytest.fixture(scope="module")
def sandboxes(host: Confinement) -> Iterator[dict[frozenset[Layer], Sandbox]]:
    """Started when asked for, by the set of layers that are on."""
    started: dict[frozenset[Layer], Sandbox] = _Started()
    yield started
    for sandbox in started.values():
        sandbox.close()


class _Started(dict[frozenset[Layer], Sandbox]):
    def __missing__(self, layers: frozenset[Layer]) -> Sandbox:
        off = [layer.value for layer in Layer if layer not in layers]
        sandbox = sandbox_without(*off)
        if not layers - {Layer.IDENTITY} <= sandbox.confinement.active:
            sandbox.close()
            pytest.skip(f"this host gives no more than {sandbox.confinement}")
        self[layers] = sandbox
        return sandbox


@dataclass(frozen=True)
class Attack:
    """A deed, and the layers each of which stops it alone."""

    name: str
    deed: str
    stopped_by: frozenset[Layer]
    arguments: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


FILES = frozenset({Layer.LANDLOCK, Layer.NAMESPACES})
ANY = frozenset(CONFINING)
ATTACKS = [
    Attack("read another file", "read", FILES, {"path": "{secret}"}),
    Attack("write another file", "write", FILES, {"path": "{folder}/planted"}),
    Attack("connect over TCP", "connect", ANY, {"family": "AF_INET", "kind": "SOCK_STREAM", "address": "{tcp}"}),
    Attack(
        "connect over TCP6",
        "connect",
        ANY,
        {"family": "AF_INET6", "kind": "SOCK_STREAM", "address": "{tcp6}"},
    ),
    Attack(
        "send over UDP",
        "connect",
        frozenset({Layer.SECCOMP, Layer.NAMESPACES}),
        {"family": "AF_INET", "kind": "SOCK_DGRAM", "address": "{udp}"},
    ),
    Attack(
        "abstract socket",
        "connect",
        ANY,
        {"family": "AF_UNIX", "kind": "SOCK_STREAM", "address": "@{abstract}"},
    ),
    Attack("signal another process", "kill", ANY, {"process": "{victim}"}),
    Attack(
        "read another's memory",
        "read_memory",
        ANY,
        {"process": "{victim}", "address": "{address}", "size": "{size}"},
    ),
    Attack(
        "read another's memory file",
        "read_memory_file",
        FILES,
        {"process": "{victim}", "address": "{address}", "size": "{size}"},
    ),
    Attack("execute a program", "execute", frozenset({Layer.SECCOMP, Layer.LANDLOCK})),
]

_VICTIM = """
import ctypes, sys, time
ctypes.CDLL(None).prctl(0x59616d61, ctypes.c_ulong(-1 & (2**64 - 1)), 0, 0, 0)
secret = ctypes.create_string_buffer(b"the key of the account")
print(ctypes.addressof(secret), flush=True)
time.sleep(300)
"""
SECRET = "the key of the account"


@pytest.fixture
def targets(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What is attacked: a file, a folder, listeners and a process that holds a secret in its memory."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    abstract = f"fitchain-{secrets.token_hex(8)}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as tcp6,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as unix,
        subprocess.Popen([sys.executable, "-c", _VICTIM], stdout=subprocess.PIPE, text=True) as victim,
    ):
        udp.bind(("127.0.0.1", 0))
        unix.bind("\0" + abstract)
        unix.listen()
        assert victim.stdout is not None
        yield {
            "secret": str(secret),
            "folder": str(tmp_path),
            "tcp": list(tcp.getsockname()),
            "tcp6": list(tcp6.getsockname()[:2]),
            "udp": list(udp.getsockname()),
            "abstract": abstract,
            "victim": victim.pid,
            "address": int(victim.stdout.readline()),
            "size": len(SECRET),
        }
        victim.kill()


def aimed(attack: Attack, targets: dict[str, Any]) -> dict[str, Any]:
    """The attack's arguments with the targets filled in, numbers as numbers."""
    filled = {}
    for name, value in attack.arguments.items():
        whole = isinstance(value, str) and value.startswith("{") and value.endswith("}") and value[1:-1] in targets
        filled[name] = targets[value[1:-1]] if whole else value.format(**targets) if isinstance(value, str) else value
    return filled


def stopped(answer: Any) -> bool:
    return isinstance(answer, dict) and "stopped" in answer


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_attack_is_real_and_each_layer_stops_it(
    attack: Attack, targets: dict[str, Any], sandboxes: dict[frozenset[Layer], Sandbox]
) -> None:
    arguments = aimed(attack, targets)
    without = ALL - attack.stopped_by - {Layer.IDENTITY}
    for layer in sorted(attack.stopped_by):
        if layer is Layer.LANDLOCK and attack.deed in {"kill", "connect"} and landlock_abi() < 6:
            continue
        assert stopped(ask(sandboxes[without | {layer}], attack.deed, **arguments)), f"{layer} let it pass"
    assert stopped(ask(sandboxes[ALL], attack.deed, **arguments))
    if attack.deed != "read_memory" or os.geteuid() == 0 or _may_trace():
        # Last, because it may succeed in killing its victim.
        assert not stopped(ask(sandboxes[without - {Layer.PRIVILEGES}], attack.deed, **arguments))


def _may_trace() -> bool:
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    return not scope.exists() or scope.read_text().strip() == "0"


@pytest.mark.parametrize(
    "call",
    [
        "unshare", "mount", "chroot", "ptrace", "bpf", "perf_event_open", "io_uring_setup", "keyctl",
        "userfaultfd", "kexec_load", "personality", "setuid", "clone3", "pidfd_open",
    ],
)  # fmt: skip
def test_calls_that_an_escape_needs(sandboxes: dict[frozenset[Layer], Sandbox], call: str) -> None:
    for layers in (ALL, ALL - {Layer.NAMESPACES, Layer.IDENTITY}):
        answer = ask(sandboxes[layers], "system_call", name=call)
        assert stopped(answer)
        assert answer["stopped"] in {"EPERM", "ENOSYS"}


def test_seccomp_is_what_stops_a_new_user_namespace(sandboxes: dict[frozenset[Layer], Sandbox]) -> None:
    assert ask(sandboxes[ALL - {Layer.SECCOMP}], "system_call", name="unshare") == "done"


def test_privileges_are_what_stops_a_change_of_root(sandboxes: dict[frozenset[Layer], Sandbox]) -> None:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user has no privileges to lose")
    weak = frozenset({Layer.LIMITS})
    assert ask(sandboxes[weak], "system_call", name="chroot") == "done"
    assert stopped(ask(sandboxes[weak | {Layer.PRIVILEGES}], "system_call", name="chroot"))


@pytest.mark.parametrize("off", [{Layer.SECCOMP}, {Layer.SECCOMP, Layer.NAMESPACES, Layer.IDENTITY}], ids=str)
def test_bombs_and_daemons_leave_nothing(sandboxes: dict[frozenset[Layer], Sandbox], off: set[Layer]) -> None:
    sandbox = sandboxes[ALL - off]
    sandbox.start()
    marker = secrets.token_hex(4)
    assert ask(sandbox, "leave_daemon", marker=marker) == "left"
    assert ask(sandbox, "fork_bomb", count=60) == "forked"
    with pytest.raises(errors.SandboxTimeout):
        ask(sandbox, "memory_of_children", mib=1, count=8, bounds={"wall_seconds": 0.5})
    assert sandbox._server is not None
    # The server's inner self, where there are namespaces, and the next child.
    assert len(descendants(sandbox._server.process.pid)) <= (1 if Layer.NAMESPACES in off else 2)
    assert marker not in _names_of_processes()


def _names_of_processes() -> set[str]:
    names = set()
    for entry in Path("/proc").iterdir():
        try:
            names.add((entry / "comm").read_text().strip())
        except OSError:
            continue
    return names


def test_with_seccomp_there_is_no_first_fork(sandboxes: dict[frozenset[Layer], Sandbox]) -> None:
    assert stopped(ask(sandboxes[ALL], "fork_bomb", count=1))


def test_memory_of_descendants_counts(sandboxes: dict[frozenset[Layer], Sandbox]) -> None:
    for off in ({Layer.SECCOMP}, {Layer.SECCOMP, Layer.NAMESPACES, Layer.IDENTITY}):
        with pytest.raises(errors.SandboxOutOfMemory):
            ask(
                sandboxes[ALL - off],
                "memory_of_children",
                mib=48,
                count=4,
                bounds={"memory_bytes": 128 * MIB},
            )


def test_scratch_is_bounded_by_the_kernel_or_by_the_watch(sandboxes: dict[frozenset[Layer], Sandbox]) -> None:
    assert ask(sandboxes[ALL], "fill_scratch", mib=64)["stopped"] in {"EFBIG", "ENOSPC"}
    assert ask(sandboxes[ALL], "many_files", count=10_000)["stopped"] == "ENOSPC"
    watched = sandboxes[ALL - {Layer.NAMESPACES, Layer.IDENTITY, Layer.LIMITS}]
    with pytest.raises(errors.SandboxOutOfScratch, match="scratch folder"):
        ask(watched, "fill_scratch", mib=64)
    with pytest.raises(errors.SandboxOutOfScratch, match="too many files"):
        ask(watched, "many_files", count=10_000)


def test_scratch_on_disk_is_removed_whatever_was_done_to_it(
    sandboxes: dict[frozenset[Layer], Sandbox],
) -> None:
    sandbox = sandboxes[ALL - {Layer.NAMESPACES, Layer.IDENTITY}]
    assert ask(sandbox, "hide_in_scratch") == "hidden"
    assert ask(sandbox, "look")["files"] == []
    assert sandbox._server is not None
    assert not (sandbox._server.folder / "scratch").exists()


def test_limits_are_what_bounds_a_single_allocation(sandboxes: dict[frozenset[Layer], Sandbox]) -> None:
    with pytest.raises(errors.SandboxOutOfMemory, match="want of memory"):
        ask(sandboxes[ALL], "one_allocation", mib=1024, bounds={"memory_bytes": 128 * MIB})


def test_identity(sandboxes: dict[frozenset[Layer], Sandbox]) -> None:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user's sandbox cannot be root")
    assert ask(sandboxes[ALL - {Layer.IDENTITY}], "look")["user"] == 0
    assert ask(sandboxes[ALL], "look")["user"] != 0


def test_what_is_missing_is_said(host: Confinement) -> None:
    with sandbox_without("landlock") as sandbox:
        confinement = sandbox.confinement
    assert [state.layer for state in confinement.missing if state.layer in host.active] == [Layer.LANDLOCK]
    assert "landlock (switched off by a setting)" in str(confinement)
    assert confinement.level is Level.SECCOMP


@pytest.mark.parametrize(
    ("active", "level"),
    [
        (set(), Level.NONE),
        ({Layer.LIMITS}, Level.NONE),
        ({Layer.LIMITS, Layer.PRIVILEGES}, Level.LIMITS),
        ({Layer.SECCOMP, Layer.LANDLOCK, Layer.NAMESPACES, Layer.IDENTITY}, Level.NONE),
        ({Layer.LIMITS, Layer.PRIVILEGES, Layer.LANDLOCK}, Level.LIMITS),
        ({Layer.LIMITS, Layer.PRIVILEGES, Layer.SECCOMP}, Level.SECCOMP),
        ({Layer.LIMITS, Layer.PRIVILEGES, Layer.SECCOMP, Layer.NAMESPACES, Layer.IDENTITY}, Level.SECCOMP),
        (ALL - {Layer.NAMESPACES}, Level.LANDLOCK),
        (ALL - {Layer.IDENTITY}, Level.LANDLOCK),
        (ALL, Level.FULL),
    ],
)
def test_levels(active: set[Layer], level: Level) -> None:
    assert level_of(frozenset(active)) is level
    assert Confinement.of(LayerState(layer=layer, on=layer in active) for layer in Layer).level is level
