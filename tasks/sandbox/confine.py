"""The order in which a forked child gives everything up before it looks at a stranger's bytes.

Runs in the child, between the fork and the target. Namespaces and mounts come first because they need privileges, then
the user, the capabilities, Landlock (which needs open paths) and at last seccomp (which forbids all of the former). A
layer that was found at start-up and fails now stops the child: it never runs with less than was promised.

The primitives are in `tasks.sandbox.primitives`, the list of layers in `tasks.sandbox.layers`, the file system that a
child moves into in `tasks.sandbox.stage`.
"""

from __future__ import annotations

import os
import platform
import resource
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasks.sandbox import filter as seccomp
from tasks.sandbox import primitives
from tasks.sandbox.layers import Layer
from tasks.sandbox.processes import status_bytes
from tasks.sandbox.stage import SCRATCH, devices

NOBODY: Final = 65534
BLOCK_BYTES: Final = 4096
_SERVER_NAMESPACES = (
    primitives.CLONE_NEWNS
    | primitives.CLONE_NEWPID
    | primitives.CLONE_NEWNET
    | primitives.CLONE_NEWIPC
    | primitives.CLONE_NEWUTS
)
_OPEN_FILES = 1024
_THREADS = 512
# What an own /proc shows anyway; the list is for hosts where the whole of /proc is that of the host.
_PROC_PATHS = (
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/filesystems", "/proc/version",
    "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/ngroups_max", "/proc/loadavg",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is decided before a child confines itself.

    With namespaces, `root` is the root that the fork server has built, and what else the child may read is of no
    concern here; without, `readable` names it all and `scratch` is the folder of the host that may be written to.
    """

    layers: frozenset[Layer]
    scratch_bytes: int
    parent: int
    root: str = ""
    readable: tuple[str, ...] = ()
    scratch: str = SCRATCH
    gpu: bool = False


def enter_server_namespaces() -> None:
    """Move the fork server itself: its next child is the first process of a PID namespace without a network.

    As root this needs CAP_SYS_ADMIN; as an ordinary user, a kernel that lets ordinary users make user namespaces.
    """
    user, group = os.geteuid(), os.getegid()
    proc_self = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if user == 0:
            primitives.unshare(_SERVER_NAMESPACES)
        else:
            primitives.unshare(_SERVER_NAMESPACES | primitives.CLONE_NEWUSER)
            primitives.map_user(proc_self, NOBODY, user, group)
    finally:
        os.close(proc_self)
    primitives.make_mounts_private()


def confine(plan: Plan) -> None:
    """Apply every layer of the plan to this process, which is single-threaded and has just been forked.

    Raises:
        OSError: a layer could not be applied; the process must end.
    """
    proc_self = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if Layer.LIMITS in plan.layers:
        _limit_habits(plan)
    if Layer.NAMESPACES in plan.layers:
        _move_in(plan)
    if Layer.IDENTITY in plan.layers and Layer.NAMESPACES in plan.layers:
        _become_nobody(proc_self)
    os.close(proc_self)
    _settle_in(plan.scratch)
    if Layer.PRIVILEGES in plan.layers:
        primitives.drop_capabilities()
    if plan.layers & {Layer.PRIVILEGES, Layer.LANDLOCK, Layer.SECCOMP}:
        primitives.no_new_privileges()
    primitives.die_with_parent(signal.SIGKILL)  # after the change of user, which would clear it
    if Layer.NAMESPACES not in plan.layers and os.getppid() != plan.parent:
        raise OSError("the fork server has died")
    if Layer.LANDLOCK in plan.layers:
        _landlock(plan)
    if Layer.SECCOMP in plan.layers:
        primitives.enforce_seccomp(seccomp.build(platform.machine(), process=os.getpid(), gpu=plan.gpu))


def bound(*, memory_bytes: int, cpu_seconds: int, file_bytes: int) -> None:
    """Set the limits of one run, when it is known. Memory is what the run may have beyond what is in use now."""
    # The kernel's own stop for a single huge allocation; what is touched is watched from outside.
    _set_limits(
        {
            resource.RLIMIT_DATA: status_bytes("VmData") + memory_bytes + memory_bytes // 4,
            resource.RLIMIT_CPU: cpu_seconds,
            resource.RLIMIT_FSIZE: file_bytes,
        }
    )


def _limit_habits(plan: Plan) -> None:
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    if Layer.NAMESPACES in plan.layers:  # elsewhere it would count what else the user runs
        wanted[resource.RLIMIT_NPROC] = _THREADS
    _set_limits(wanted)
    # Should the host run out of memory, this is the process to take.
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _set_limits(wanted: dict[int, int]) -> None:
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)
        lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (lowered, lowered))


def _move_in(plan: Plan) -> None:
    """Take a copy of the server's mounts, add an own /proc and an own scratch, and leave the rest behind."""
    primitives.unshare(primitives.CLONE_NEWNS | primitives.CLONE_NEWIPC)
    primitives.receive_mounts_only()
    primitives.mount_proc(f"{plan.root}/proc")
    primitives.mount_tmpfs(
        plan.root + SCRATCH,
        size_bytes=plan.scratch_bytes,
        files=plan.scratch_bytes // BLOCK_BYTES,
        user=NOBODY if Layer.IDENTITY in plan.layers else os.geteuid(),
    )
    primitives.make_read_only(plan.root)
    primitives.become_root_of(plan.root)


def _become_nobody(proc_self: int) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        primitives.set_dumpable(True)  # else the maps below belong to root
    # Its own user namespace, so that the number of processes is counted for this child alone.
    primitives.unshare(primitives.CLONE_NEWUSER)
    primitives.map_user(proc_self, NOBODY, NOBODY, NOBODY)


def _settle_in(scratch: str) -> None:
    """Make the scratch folder the only home that the target knows."""
    os.chdir(scratch)
    for name in ("HOME", "TMPDIR", "TMP", "TEMP", "KERAS_HOME", "XDG_CACHE_HOME"):
        os.environ[name] = scratch
    tempfile.tempdir = None


def _landlock(plan: Plan) -> None:
    rules = primitives.Landlock()
    # In a root of its own, all that there is may be read, the inputs that are still to come included.
    for path in ("/",) if Layer.NAMESPACES in plan.layers else (*plan.readable, *_PROC_PATHS):
        rules.allow(path)
    for device in devices(gpu=plan.gpu):
        rules.allow(device, devices=True)
    rules.allow(plan.scratch, write=True)
    rules.enforce()
