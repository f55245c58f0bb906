"""The seccomp program, run by a small interpreter of classic BPF: for other machines than this one, too."""

from __future__ import annotations

import struct

import pytest

from tasks.sandbox import filter as seccomp

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
MACHINES = sorted(seccomp.ARCHITECTURES)
OWN_PROCESS = 7


def decide(program: bytes, number: int, audit: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would do with a call: interprets `struct seccomp_data` as seccomp(2) lays it out."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, audit, 0, *(argument & (2**64 - 1) for argument in padded))
    instructions = list(struct.iter_unpack("<HBBI", program))
    position, accumulator = 0, 0
    while True:
        code, when_true, when_false, value = instructions[position]
        position += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == 0x06:
            return int(value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            position += when_true if holds else when_false


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_of_the_table_and_no_other_is_allowed(machine: str) -> None:
    column, audit = seccomp.ARCHITECTURES[machine]
    program = seccomp.build(machine, process=OWN_PROCESS)
    plain = {numbers[column] for numbers in seccomp._PLAIN.values()} - {None}
    allowed = {number for number in range(1000) if decide(program, number, audit) == ALLOW}
    conditional = {seccomp._PRLIMIT[column]}  # with argument 0 it means this process
    assert allowed == plain | conditional


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("call", "arguments", "outcome"),
    [
        ("_KILL", (OWN_PROCESS, 9), ALLOW),
        ("_KILL", (1, 9), ERRNO | seccomp.EPERM),
        ("_KILL", (-1, 9), ERRNO | seccomp.EPERM),
        ("_TKILL_OF_THREAD_GROUP", (OWN_PROCESS, 8, 6), ALLOW),
        ("_TKILL_OF_THREAD_GROUP", (2, 8, 6), ERRNO | seccomp.EPERM),
        ("_PRLIMIT", (0, 7, 0, 0), ALLOW),
        ("_PRLIMIT", (5, 7, 0, 0), ERRNO | seccomp.EPERM),
        ("_IOCTL", (1, 0x5401), ALLOW),
        ("_IOCTL", (1, 0x5412), ERRNO | seccomp.EPERM),  # TIOCSTI: typing into the worker's terminal
        ("_PRCTL", (15, 0), ALLOW),
        ("_PRCTL", (4, 1), ERRNO | seccomp.EPERM),
        ("_CLONE", (0x3D0F00, 0), ALLOW),  # what pthread_create asks for
        ("_CLONE", (17, 0), ERRNO | seccomp.EPERM),  # fork
        ("_CLONE", (0x4111, 0), ERRNO | seccomp.EPERM),  # vfork
        ("_CLONE", (0x10010000, 0), ERRNO | seccomp.EPERM),  # a thread in a new user namespace
        ("_CLONE3", (0, 0), ERRNO | seccomp.ENOSYS),
    ],
)
def test_arguments_decide(machine: str, call: str, arguments: tuple[int, ...], outcome: int) -> None:
    column, audit = seccomp.ARCHITECTURES[machine]
    program = seccomp.build(machine, process=OWN_PROCESS)
    assert decide(program, getattr(seccomp, call)[column], audit, arguments) == outcome


def test_a_gpu_opens_ioctl_and_nothing_else() -> None:
    column, audit = seccomp.ARCHITECTURES["x86_64"]
    plain, gpu = seccomp.build("x86_64", process=1), seccomp.build("x86_64", process=1, gpu=True)
    changed = [
        number
        for number in range(1000)
        if decide(plain, number, audit, (3, 0xC020462A)) != decide(gpu, number, audit, (3, 0xC020462A))
    ]
    assert changed == [seccomp._IOCTL[column]]


@pytest.mark.parametrize("machine", MACHINES)
def test_another_table_of_calls_kills(machine: str) -> None:
    program = seccomp.build(machine, process=1)
    assert decide(program, 0, 0x40000003) == KILL  # 32-bit x86
    if machine == "x86_64":
        assert decide(program, 0x40000000 | 1, seccomp.ARCHITECTURES[machine][1]) == KILL  # x32


def test_unknown_machine() -> None:
    with pytest.raises(OSError, match="no table of system calls for vax"):
        seccomp.build("vax", process=1)


@pytest.mark.parametrize("machine", MACHINES)
def test_program_fits_the_kernel(machine: str) -> None:
    assert len(seccomp.build(machine, process=1)) // 8 <= 4096
