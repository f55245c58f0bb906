"""The seccomp filter of an evaluation: the system calls that it may make, as a classic BPF program.

An allowlist. A call that is not on it fails with ENOSYS, so that libraries fall back to an older call they
know; one that is on it only with certain arguments fails with EPERM otherwise. The kernel's own table of the
wrong architecture (32-bit calls on x86-64, x32) is a way around any list, hence kills.

What is not on the list, and matters: sockets of every family, ptrace and process_vm_*, mount and friends,
bpf, perf_event_open, io_uring, keyctl, kexec, userfaultfd, module loading, execve, fork. Threads are allowed,
processes are
not: clone must carry CLONE_THREAD, and clone3, whose flags lie behind a pointer, is refused (glibc then uses
clone). Signals may go to this process only. recvmsg is there for the request, which comes through the one socket that
the child is born with and closes before the target runs.

Only the program is built here (`tasks.sandbox.primitives.enforce_seccomp` installs it). Sources: seccomp(2),
bpf(4), `linux/seccomp.h`, `linux/filter.h`, and the system call tables of x86-64 and of arm64 (asm-generic).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JUMP_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06

_NUMBER_OFFSET = 0
_ARCHITECTURE_OFFSET = 4
_ARGUMENTS_OFFSET = 16  # six of 64 bits; on the little-endian machines below the low half comes first

_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_ALLOW = 0x7FFF0000
EPERM: Final = 1
ENOSYS: Final = 38

CLONE_THREAD: Final = 0x00010000
_CLONE_NEW_ANYTHING = 0x7E020000  # every namespace that clone can make; the time namespace needs clone3
_X32_BIT = 0x40000000
_PR_ALLOWED = (
    3,
    15,
    16,
    21,
    39,
    0x53564D41,
)  # GET_DUMPABLE, SET/GET_NAME, GET_SECCOMP, GET_NO_NEW_PRIVS, SET_VMA

# name: (x86-64, arm64); None where an architecture has no such call.
_PLAIN: Final[dict[str, tuple[int | None, int | None]]] = {
    # files
    "read": (0, 63), "write": (1, 64), "open": (2, None), "close": (3, 57), "stat": (4, None),
    "fstat": (5, 80), "lstat": (6, None), "poll": (7, None), "lseek": (8, 62), "pread64": (17, 67),
    "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66), "access": (21, None), "pipe": (22, None),
    "select": (23, None), "dup": (32, 23), "dup2": (33, None), "sendfile": (40, 71), "fcntl": (72, 25),
    "flock": (73, 32), "fsync": (74, 82), "fdatasync": (75, 83), "truncate": (76, 45), "ftruncate": (77, 46),
    "getdents": (78, None), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50), "rename": (82, None),
    "mkdir": (83, None), "rmdir": (84, None), "creat": (85, None), "link": (86, None), "unlink": (87, None),
    "symlink": (88, None), "readlink": (89, None), "chmod": (90, None), "fchmod": (91, 52),
    "umask": (95, 166), "utime": (132, None), "statfs": (137, 43), "fstatfs": (138, 44),
    "readahead": (187, 213), "getdents64": (217, 61), "fadvise64": (221, 223), "utimes": (235, None),
    "openat": (257, 56), "mkdirat": (258, 34), "newfstatat": (262, 79), "unlinkat": (263, 35),
    "renameat": (264, 38), "linkat": (265, 37), "symlinkat": (266, 36), "readlinkat": (267, 78),
    "fchmodat": (268, 53), "faccessat": (269, 48), "pselect6": (270, 72), "ppoll": (271, 73),
    "splice": (275, 76), "tee": (276, 77), "utimensat": (280, 88), "fallocate": (285, 47),
    "eventfd2": (290, 19), "epoll_create1": (291, 20), "dup3": (292, 24), "pipe2": (293, 59),
    "preadv": (295, 69), "pwritev": (296, 70), "renameat2": (316, 276), "copy_file_range": (326, 285),
    "preadv2": (327, 286), "pwritev2": (328, 287), "statx": (332, 291), "close_range": (436, 436),
    "openat2": (437, 437), "faccessat2": (439, 439), "epoll_wait": (232, None), "epoll_ctl": (233, 21),
    "epoll_pwait": (281, 22), "epoll_create": (213, None), "eventfd": (284, None), "inotify_init1": (294, 26),
    "memfd_create": (319, 279), "recvmsg": (47, 212),
    # memory
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216),
    "msync": (26, 227), "mincore": (27, 232), "madvise": (28, 233), "mlock": (149, 228),
    "munlock": (150, 229), "get_mempolicy": (239, 236), "set_mempolicy": (238, 237), "mbind": (237, 235),
    "membarrier": (324, 283),
    # this process, its threads and its clocks
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124), "pause": (34, None), "nanosleep": (35, 101), "getitimer": (36, 102),
    "alarm": (37, None), "setitimer": (38, 103), "getpid": (39, 172), "exit": (60, 93), "uname": (63, 160),
    "gettimeofday": (96, 169), "getrlimit": (97, 163), "getrusage": (98, 165), "sysinfo": (99, 179),
    "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175),
    "getegid": (108, 177), "getppid": (110, 173), "getpgrp": (111, None), "getgroups": (115, 158),
    "getresuid": (118, 148), "getresgid": (120, 150), "getpgid": (121, 155), "getsid": (124, 156),
    "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132), "getpriority": (140, 141), "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120), "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126), "gettid": (186, 178), "time": (201, None), "futex": (202, 98),
    "sched_setaffinity": (203, 122), "sched_getaffinity": (204, 123), "set_tid_address": (218, 96),
    "restart_syscall": (219, 128), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "exit_group": (231, 94), "wait4": (61, 260), "waitid": (247, 95),
    "set_robust_list": (273, 99), "get_robust_list": (274, 100), "getcpu": (309, 168),
    "getrandom": (318, 278), "rseq": (334, 293), "futex_wake": (454, 454), "futex_wait": (455, 455),
    "futex_requeue": (456, 456), "arch_prctl": (158, None),
}  # fmt: skip

_IOCTL = (16, 29)
_CLONE = (56, 220)
_CLONE3 = (435, 435)
_KILL = (62, 129)
_TKILL_OF_THREAD_GROUP = (234, 131)
_PRCTL = (157, 167)
_PRLIMIT = (302, 261)
_SOCKETS: Final[tuple[tuple[int | None, int | None], ...]] = ((41, 198), (53, 199))  # socket, socketpair
_EXECUTE: Final[tuple[tuple[int | None, int | None], ...]] = ((59, 221), (322, 281))
_FORK: Final[tuple[tuple[int | None, int | None], ...]] = ((57, None), (58, None))
_IOCTL_ALLOWED = (0x5401, 0x5413, 0x5421, 0x541B, 0x5450, 0x5451)  # TCGETS, GWINSZ, FIONBIO, NREAD, (N)CLEX

ARCHITECTURES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


class _Instruction(NamedTuple):
    code: int
    when_true: int
    when_false: int
    value: int

    def packed(self) -> bytes:
        return struct.pack("=HBBI", *self)


def build(machine: str, *, process: int, gpu: bool = False) -> bytes:
    """The filter for a machine (`platform.machine()`), for the process with the given id as it sees itself.

    With `gpu` every ioctl is allowed, since a driver's numbers are its own.

    Raises:
        OSError: there is no table for this machine.
    """
    if machine not in ARCHITECTURES:
        raise OSError(ENOSYS, f"there is no table of system calls for {machine}")
    column, audit_number = ARCHITECTURES[machine]
    program = [
        _Instruction(_LOAD, 0, 0, _ARCHITECTURE_OFFSET),
        _Instruction(_JUMP_EQUAL, 1, 0, audit_number),
        _Instruction(_RETURN, 0, 0, _KILL_PROCESS),
        _Instruction(_LOAD, 0, 0, _NUMBER_OFFSET),
    ]
    if machine == "x86_64":
        program += [_Instruction(_JUMP_AT_LEAST, 0, 1, _X32_BIT), _Instruction(_RETURN, 0, 0, _KILL_PROCESS)]
    plain = {numbers[column] for numbers in _PLAIN.values()}
    for number in sorted(number for number in plain if number is not None):
        program += [_Instruction(_JUMP_EQUAL, 0, 1, number), _Instruction(_RETURN, 0, 0, _ALLOW)]
    for pair in (*_SOCKETS, *_EXECUTE, *_FORK):
        program += _always(pair[column], _ERRNO | EPERM)
    program += _conditions(column, process, gpu=gpu)
    program.append(_Instruction(_RETURN, 0, 0, _ERRNO | ENOSYS))
    return b"".join(instruction.packed() for instruction in program)


def _conditions(column: int, process: int, *, gpu: bool) -> list[_Instruction]:
    """The calls that depend on their arguments."""
    rules = _always(_IOCTL[column], _ALLOW) if gpu else _one_of(_IOCTL[column], 1, _IOCTL_ALLOWED)
    rules += _one_of(_KILL[column], 0, (process,))
    rules += _one_of(_TKILL_OF_THREAD_GROUP[column], 0, (process,))
    rules += _one_of(_PRCTL[column], 0, _PR_ALLOWED)
    rules += _one_of(_PRLIMIT[column], 0, (0, process))
    rules += _always(_CLONE3[column], _ERRNO | ENOSYS)
    return rules + _threads_only(_CLONE[column])


def _always(number: int | None, outcome: int) -> list[_Instruction]:
    if number is None:
        return []
    return [_Instruction(_JUMP_EQUAL, 0, 1, number), _Instruction(_RETURN, 0, 0, outcome)]


def _one_of(number: int, argument: int, values: Iterable[int]) -> list[_Instruction]:
    """Allow a call when an argument is one of the values; of these the kernel reads the low half only."""
    wanted = list(values)
    body = [_Instruction(_LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * argument)]
    for left, value in zip(range(len(wanted), 0, -1), wanted, strict=True):
        body.append(_Instruction(_JUMP_EQUAL, left, 0, value))
    body += [_Instruction(_RETURN, 0, 0, _ERRNO | EPERM), _Instruction(_RETURN, 0, 0, _ALLOW)]
    return [_Instruction(_JUMP_EQUAL, 0, len(body), number), *body]


def _threads_only(number: int) -> list[_Instruction]:
    body = [
        _Instruction(_LOAD, 0, 0, _ARGUMENTS_OFFSET),
        _Instruction(_JUMP_ANY_BIT, 2, 0, _CLONE_NEW_ANYTHING),
        _Instruction(_JUMP_ANY_BIT, 0, 1, CLONE_THREAD),
        _Instruction(_RETURN, 0, 0, _ALLOW),
        _Instruction(_RETURN, 0, 0, _ERRNO | EPERM),
    ]
    return [_Instruction(_JUMP_EQUAL, 0, len(body), number), *body]
