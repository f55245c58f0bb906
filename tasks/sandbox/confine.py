"""The order in which a forked child gives everything up before it looks at a stranger's bytes.

Runs in the child, between the fork and the target. Namespaces and mounts come first because they need
privileges, then the user, the capabilities, Landlock (which needs open paths) and at last seccomp (which
forbids all of the former). A layer that was found at start-up and fails now stops the child: it never runs
with less than was promised.

The primitives are in `tasks.sandbox.primitives`, the list of layers in `tasks.sandbox.layers`.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import signal
import stat
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tasks.sandbox import filter as seccomp
from tasks.sandbox import primitives
from tasks.sandbox.layers import Layer

NOBODY: Final = 65534
BLOCK_BYTES: Final = 4096
SCRATCH_IN_NAMESPACE: Final = "/scratch"
_SERVER_NAMESPACES = (
    primitives.CLONE_NEWNS
    | primitives.CLONE_NEWPID
    | primitives.CLONE_NEWNET
    | primitives.CLONE_NEWIPC
    | primitives.CLONE_NEWUTS
)
_ROOT_BYTES = 1024**2
_ROOT_FILES = 10_000
_OPEN_FILES = 1024
_THREADS = 512
_HARMLESS_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_GPU_DEVICES = "nvidia*"
_SYSTEM_PATHS = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache",
    "/etc/localtime", "/sys/devices/system",
)  # fmt: skip
# What an own /proc shows anyway; the list is for hosts where the whole of /proc is that of the host.
_PROC_PATHS = (
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/filesystems", "/proc/version",
    "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/ngroups_max", "/proc/loadavg",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """What one evaluation may use. Memory is what it may have beyond the idle runtime."""

    memory_bytes: int
    cpu_seconds: int
    scratch_bytes: int

    @property
    def scratch_files(self) -> int:
        """How many files and folders the scratch folder may hold: one for each block of it."""
        return self.scratch_bytes // BLOCK_BYTES


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is decided before the child starts to confine itself.

    `workplace` is a folder of the host, for the mount point of the new root and for copies of inputs;
    `scratch` a folder of the host that is used where there are no namespaces (there, scratch is a file system
    in memory).
    """

    layers: frozenset[Layer]
    limits: Limits
    runtime: tuple[str, ...]
    inputs: tuple[str, ...]
    workplace: str
    scratch: str
    parent: int
    gpu: bool = False
    idle_data_bytes: int = 0

    @property
    def scratch_inside(self) -> str:
        """The path of the scratch folder as the target sees it."""
        return SCRATCH_IN_NAMESPACE if Layer.NAMESPACES in self.layers else self.scratch


def runtime_paths(extra: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Files and folders of the host that a Python process with TensorFlow reads, outermost first."""
    paths = {
        sys.prefix,
        sys.base_prefix,
        sys.exec_prefix,
        *sysconfig.get_paths().values(),
        *_SYSTEM_PATHS,
        *extra,
    }
    for name in ("tasks", "storage"):
        spec = find_spec(name)
        paths.update(spec.submodule_search_locations or [] if spec else [])
    paths.update(path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/"))
    paths.update(os.path.realpath(path) for path in tuple(paths))
    kept: list[str] = []
    for path in sorted(path for path in paths if path != "/" and Path(path).exists()):
        if not any(path == outer or path.startswith(outer + "/") for outer in kept if not Path(outer).is_symlink()):
            kept.append(path)
    return tuple(kept)


def enter_server_namespaces() -> None:
    """Move the fork server itself: its next child is the first process of a PID namespace without a network.

    As root this needs CAP_SYS_ADMIN; as an ordinary user, a kernel that lets ordinary users make user
    namespaces.
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
    if Layer.NAMESPACES in plan.layers:
        primitives.unshare(primitives.CLONE_NEWNS | primitives.CLONE_NEWIPC)
        _build_root(plan)
    if Layer.LIMITS in plan.layers:
        _limit(plan)
    if Layer.NAMESPACES in plan.layers:
        primitives.become_root_of(_root_of(plan))
    if Layer.IDENTITY in plan.layers and Layer.NAMESPACES in plan.layers:
        _become_nobody(proc_self)
    os.close(proc_self)
    _settle_in(plan)
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


def _root_of(plan: Plan) -> str:
    return str(Path(plan.workplace, "root"))


def _build_root(plan: Plan) -> None:
    """Put together what the child will see: runtime, inputs, devices, own /proc, own scratch."""
    root = _root_of(plan)
    primitives.mount_tmpfs(root, size_bytes=_ROOT_BYTES, files=_ROOT_FILES)
    for path in plan.runtime:
        _show(path, path, root)
    for number, path in enumerate(plan.inputs):
        _show(_readable(os.path.realpath(path), plan, number), path, root)
    for device in _devices(plan):
        _show(device, device, root, device=True)
    for folder in ("proc", "tmp", SCRATCH_IN_NAMESPACE[1:]):
        Path(root, folder).mkdir(exist_ok=True)
    primitives.mount_proc(f"{root}/proc")
    limits, user = plan.limits, NOBODY if Layer.IDENTITY in plan.layers else os.geteuid()
    scratch = root + SCRATCH_IN_NAMESPACE
    primitives.mount_tmpfs(scratch, size_bytes=limits.scratch_bytes, files=limits.scratch_files, user=user)
    primitives.make_read_only(root)


def _show(source: str, path: str, root: str, *, device: bool = False) -> None:
    """Make `source` of the host visible as `path` under the new root; symbolic links stay links."""
    target = Path(root + path)
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        return
    if not os.path.realpath(target).startswith(root + "/"):
        return  # below a link that leads to where it is shown anyway
    target.parent.mkdir(parents=True, exist_ok=True)
    if Path(source).is_symlink():
        target.symlink_to(Path(source).readlink())
        return
    if Path(source).is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    primitives.bind(source, str(target), read_only=not device, devices=device)


def _devices(plan: Plan) -> list[str]:
    devices = [path for path in _HARMLESS_DEVICES if Path(path).exists()]
    if plan.gpu:
        devices += [str(path) for path in Path("/dev").glob(_GPU_DEVICES)]
    return devices


def _readable(path: str, plan: Plan, number: int) -> str:
    """The input itself, or a copy of it where the user that the child becomes may not read it."""
    if os.geteuid() != 0 or Layer.IDENTITY not in plan.layers or _open_to_all(Path(path)):
        return path
    copy = Path(plan.workplace, f"input-{number}")
    if Path(path).is_dir():
        shutil.copytree(path, copy, copy_function=shutil.copyfile)
        for folder in (copy, *(entry for entry in copy.rglob("*") if entry.is_dir())):
            folder.chmod(0o755)
    else:
        shutil.copyfile(path, copy)
    for file in [copy] if copy.is_file() else [entry for entry in copy.rglob("*") if entry.is_file()]:
        file.chmod(0o444)
    return str(copy)


def _open_to_all(path: Path) -> bool:
    """Whether a file, or a folder with all that is in it, may be read by everybody who reaches it."""
    mode = path.stat().st_mode
    if not stat.S_ISDIR(mode):
        return bool(mode & stat.S_IROTH)
    return mode & 0o005 == 0o005 and all(_open_to_all(entry) for entry in path.iterdir())


def _become_nobody(proc_self: int) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        primitives.set_dumpable(True)  # else the maps below belong to root
    # Its own user namespace, so that the number of processes is counted for this child alone.
    primitives.unshare(primitives.CLONE_NEWUSER)
    primitives.map_user(proc_self, NOBODY, NOBODY, NOBODY)


def _settle_in(plan: Plan) -> None:
    """Make the scratch folder the only home that the target knows."""
    scratch = plan.scratch_inside
    os.chdir(scratch)
    for name in ("HOME", "TMPDIR", "TMP", "TEMP", "KERAS_HOME", "XDG_CACHE_HOME"):
        os.environ[name] = scratch
    tempfile.tempdir = None


def _limit(plan: Plan) -> None:
    limits = plan.limits
    # The kernel's own stop for a single huge allocation; what is touched is watched from outside.
    data = plan.idle_data_bytes + limits.memory_bytes + limits.memory_bytes // 4
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_DATA: data,
        resource.RLIMIT_FSIZE: limits.scratch_bytes,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    if Layer.NAMESPACES in plan.layers:
        wanted[resource.RLIMIT_NPROC] = _THREADS
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)
        bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bounded, bounded))
    # Should the host run out of memory, this is the process to take.
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _landlock(plan: Plan) -> None:
    rules = primitives.Landlock()
    own_proc = Layer.NAMESPACES in plan.layers
    for path in (*plan.runtime, *plan.inputs, *(("/proc",) if own_proc else _PROC_PATHS)):
        rules.allow(path)
    for device in _devices(plan):
        rules.allow(device, devices=True)
    rules.allow(plan.scratch_inside, write=True)
    rules.enforce()
