"""The kernel's confinement primitives that Python does not wrap: system calls through ctypes, and nothing
else.

Here live thin, checked wrappers (each raises `OSError` naming the call that failed); the order in which they
are applied, and why, is in `tasks.sandbox.confine`. The seccomp program itself is built in
`tasks.sandbox.filter`.

Sources: the manual pages prctl(2), unshare(2), setns(2), mount(2), mount_setattr(2), pivot_root(2),
capset(2), landlock(7), seccomp(2); the uapi headers `linux/landlock.h`, `linux/capability.h`,
`linux/mount.h`.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2

_MS_NOSUID = 2
_MS_NODEV = 4
_MS_NOEXEC = 8
_MS_BIND = 4096
_MS_REC = 16384
_MS_PRIVATE = 1 << 18
_MS_SLAVE = 1 << 19
_MS_SHARED = 1 << 20
_MNT_DETACH = 2
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 1
_MOUNT_ATTR_NOSUID = 2
_MOUNT_ATTR_NODEV = 4

_CAPABILITY_VERSION_3 = 0x20080522
_LAST_KNOWN_CAPABILITY = 63

# These numbers are the same on every architecture: they were added after the tables were unified.
_SYS_MOUNT_SETATTR = 442
_SYS_LANDLOCK_CREATE_RULESET = 444
_SYS_LANDLOCK_ADD_RULE = 445
_SYS_LANDLOCK_RESTRICT_SELF = 446
_SYS_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
_SYS_CAPSET: Final = {"x86_64": 126, "aarch64": 91}

# Landlock access rights to files (linux/landlock.h) and the ABI version that brought the later ones.
LANDLOCK_READ: Final = (1 << 2) | (1 << 3)  # READ_FILE, READ_DIR
LANDLOCK_WRITE: Final = 1 << 1
LANDLOCK_FILE_RIGHTS: Final = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 14) | (1 << 15)
_LANDLOCK_FS_BITS_BY_ABI: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_LANDLOCK_IOCTL_DEV = 1 << 15
_LANDLOCK_EXECUTE = 1 << 0
_LANDLOCK_NET_ALL = 0b11  # BIND_TCP, CONNECT_TCP
_LANDLOCK_SCOPE_ALL = 0b11  # ABSTRACT_UNIX_SOCKET, SIGNAL
_LANDLOCK_RULE_PATH_BENEATH = 1

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def _check(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return int(result)


def _prctl(option: int, first: int, call: str, second: int = 0) -> None:
    arguments = [ctypes.c_ulong(value) for value in (first, second, 0, 0)]
    _check(_libc.prctl(ctypes.c_int(option), *arguments), call)


def _number(table: dict[str, int], call: str) -> int:
    machine = platform.machine()
    if machine not in table:
        raise OSError(38, f"{call}: not known for {machine}")
    return table[machine]


def die_with_parent(signal_number: int) -> None:
    """Ask for a signal at the death of the thread that forked this process. The caller checks that it still
    lives.
    """
    _prctl(_PR_SET_PDEATHSIG, signal_number, "prctl(PDEATHSIG)")


def set_dumpable(value: bool) -> None:
    """Whether others of this user may trace this process; also decides who owns its files in /proc."""
    _prctl(_PR_SET_DUMPABLE, int(value), "prctl(DUMPABLE)")


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, "prctl(CHILD_SUBREAPER)")


def no_new_privileges() -> None:
    """Give up gaining privileges by executing files, for good; Landlock and seccomp demand it."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, "prctl(NO_NEW_PRIVS)")


def drop_capabilities() -> None:
    """Give up every capability: ambient, bounding (where allowed), inheritable, permitted and effective."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, "prctl(CAP_AMBIENT)")
    for capability in range(_LAST_KNOWN_CAPABILITY + 1):
        try:
            _prctl(_PR_CAPBSET_DROP, capability, "prctl(CAPBSET_DROP)")
        except OSError:
            break  # past the last one that this kernel knows, or not allowed, as to any ordinary user
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    nothing = ctypes.create_string_buffer(bytes(24))
    _check(_syscall(_number(_SYS_CAPSET, "capset"), header, nothing), "capset")


def unshare(flags: int) -> None:
    """Move this process (for CLONE_NEWPID: its future children) into new namespaces."""
    _check(_libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def join_namespace(descriptor: int, flag: int) -> None:
    """Move into the namespace that an open file of /proc/*/ns stands for."""
    _check(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(flag)), "setns")


def map_user(proc_self: int, inside: int, outside_uid: int, outside_gid: int) -> None:
    """Give this process's new user namespace its only user and group: `inside`, standing for the outer ids.

    `proc_self` is /proc/self, opened by this process while it could still be reached.
    """
    maps = (
        ("setgroups", "deny"),
        ("uid_map", f"{inside} {outside_uid} 1"),
        ("gid_map", f"{inside} {outside_gid} 1"),
    )
    for name, content in maps:
        descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc_self)
        try:
            os.write(descriptor, content.encode("ascii"))
        finally:
            os.close(descriptor)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    arguments = [os.fsencode(value) if value else None for value in (source, target, kind)]
    result = _libc.mount(*arguments, ctypes.c_ulong(flags), os.fsencode(options) if options else None)
    _check(result, f"mount({target})")


def make_mounts_private() -> None:
    """Keep what is mounted from here on out of every other mount namespace."""
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)


def receive_mounts_only() -> None:
    """See what is mounted in the namespace that this one was copied from, and keep one's own mounts to oneself."""
    _mount("none", "/", "", _MS_REC | _MS_SLAVE)


def share_mounts_below(target: str) -> None:
    """Show what is mounted below a mount point from here on in every copy of this mount namespace."""
    _mount("none", target, "", _MS_SHARED)


def unmount(target: str) -> None:
    """Take away what is mounted at `target`, in every copy of this mount namespace that has received it."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(_MNT_DETACH)), f"umount2({target})")


def mount_tmpfs(target: str, *, size_bytes: int, files: int, user: int | None = None) -> None:
    """Mount an empty in-memory file system of bounded size; with `user`, a private one of that user and
    group.
    """
    owner = "mode=755" if user is None else f"mode=700,uid={user},gid={user}"
    options = f"size={size_bytes},nr_inodes={files},{owner}"
    _mount("tmpfs", target, "tmpfs", _MS_NOSUID | _MS_NODEV, options)


def mount_proc(target: str) -> None:
    """Mount the view of processes of this PID namespace."""
    _mount("proc", target, "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def bind(source: str, target: str, *, read_only: bool, devices: bool = False) -> None:
    """Show `source` at `target` as well, with everything mounted below it."""
    _mount(source, target, "", _MS_BIND | _MS_REC)
    attributes = _MOUNT_ATTR_NOSUID | (0 if devices else _MOUNT_ATTR_NODEV)
    set_mount_attributes(target, attributes | (_MOUNT_ATTR_RDONLY if read_only else 0))


def make_read_only(target: str) -> None:
    """Make a mount and all below it read-only."""
    _set_attributes(target, _MOUNT_ATTR_RDONLY, recursive=False)


def set_mount_attributes(target: str, attributes: int) -> None:
    """Add attributes to a mount and to everything mounted below it."""
    _set_attributes(target, attributes, recursive=True)


def _set_attributes(target: str, attributes: int, *, recursive: bool) -> None:
    wanted = ctypes.create_string_buffer(struct.pack("=QQQQ", attributes, 0, 0, 0), 32)
    flags = ctypes.c_uint(_AT_RECURSIVE if recursive else 0)
    path = os.fsencode(target)
    call = f"mount_setattr({target})"
    _check(_syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, path, flags, wanted, ctypes.c_size_t(32)), call)


def become_root_of(folder: str) -> None:
    """Make `folder`, a mount point, the root of this mount namespace, and let go of the old root."""
    os.chdir(folder)
    _check(_syscall(_number(_SYS_PIVOT_ROOT, "pivot_root"), b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", ctypes.c_int(_MNT_DETACH)), "umount2")
    os.chdir("/")


def landlock_abi() -> int:
    """The version of Landlock that this kernel offers; raises OSError where it has none or it is switched
    off.
    """
    return _check(_syscall(_SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1)), "landlock")


class Landlock:
    """A rule set that forbids every access to files, TCP ports, signals and abstract sockets that is not
    allowed.

    What the running kernel's version cannot forbid it leaves alone: `abi` says which version that is.
    """

    def __init__(self) -> None:
        self.abi = landlock_abi()
        bits = _LANDLOCK_FS_BITS_BY_ABI.get(self.abi, max(_LANDLOCK_FS_BITS_BY_ABI.values()))
        self._files = (1 << bits) - 1
        network = _LANDLOCK_NET_ALL if self.abi >= 4 else 0
        scoped = _LANDLOCK_SCOPE_ALL if self.abi >= 6 else 0
        fields = [self._files] + [network] * (self.abi >= 4) + [scoped] * (self.abi >= 6)
        attributes = struct.pack(f"={len(fields)}Q", *fields)
        size = ctypes.c_size_t(len(attributes))
        result = _syscall(_SYS_LANDLOCK_CREATE_RULESET, attributes, size, ctypes.c_uint(0))
        self._ruleset = _check(result, "landlock_create_ruleset")

    def allow(self, path: str, *, write: bool = False, devices: bool = False) -> bool:
        """Allow reading a file or folder, or all but executing; False when there is no such path."""
        rights = self._files & ~_LANDLOCK_EXECUTE if write else LANDLOCK_READ
        if devices:
            rights |= LANDLOCK_WRITE | _LANDLOCK_IOCTL_DEV
        elif write:
            rights &= ~_LANDLOCK_IOCTL_DEV
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            if not Path(path).is_dir():
                rights &= LANDLOCK_FILE_RIGHTS
            rule = struct.pack("=Qi", rights & self._files, descriptor)
            kind = ctypes.c_int(_LANDLOCK_RULE_PATH_BENEATH)
            result = _syscall(_SYS_LANDLOCK_ADD_RULE, self._ruleset, kind, rule, ctypes.c_uint(0))
            _check(result, f"landlock_add_rule({path})")
        finally:
            os.close(descriptor)
        return True

    def enforce(self) -> None:
        """Restrict this process and its descendants, for good."""
        result = _syscall(_SYS_LANDLOCK_RESTRICT_SELF, self._ruleset, ctypes.c_uint(0))
        _check(result, "landlock_restrict_self")
        os.close(self._ruleset)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def enforce_seccomp(program: bytes) -> None:
    """Install a filter of system calls (classic BPF, 8 bytes an instruction), for good."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = _Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    result = _libc.prctl(
        ctypes.c_int(_PR_SET_SECCOMP), ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.byref(header), 0, 0
    )
    _check(result, "prctl(SECCOMP)")
