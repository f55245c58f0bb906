"""What the tests run inside the sandbox, in the place of an evaluation: honest deeds and attacks, by name.

Imported by the fork server, not by pytest. `main` takes `{"do": name, …}`; a deed returns what it found as
JSON, or the text of the error that stopped it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MIB = 1024**2
_memory: list[bytearray] = []
_calls = 0


def main(request: bytes, progress: Callable[[str, float], None]) -> bytes:
    arguments: dict[str, Any] = json.loads(request)
    name = arguments.pop("do")
    if name == "progress":
        for step in range(5):
            progress("counting", step / 4)
            time.sleep(0.06)
        return b"5"
    if name in RAW:
        return RAW[name]
    try:
        done = globals()[name](**arguments)
    except OSError as error:
        done = {"stopped": errno.errorcode.get(error.errno or 0, "?"), "text": str(error)}
    return json.dumps(done).encode()


RAW = {
    "nothing": b"",
    "not_json": b"{'a': 1}",
    "nan": b'{"score": NaN}',
    "infinity": b"[1e5, -Infinity]",
    "twice": b'{"verdict": "valid", "verdict": "invalid"}',
    "not_utf8": b'{"a": "\xff\xfe"}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "flood": b'"' + b"x" * (3 * _MIB) + b'"',
}


# Honest deeds


def add(a: int, b: int) -> int:
    return a + b


def count_calls() -> int:
    global _calls  # noqa: PLW0603 - the point: it must be 1 every time
    _calls += 1
    return _calls


def look() -> dict[str, Any]:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    descriptors = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    return {
        "user": os.getuid(),
        "process": os.getpid(),
        "environment": dict(os.environ),
        "descriptors": sorted(number for number in descriptors if _is_open(number)),
        "capabilities": int(status["CapEff"], 16) | int(status["CapPrm"], 16) | int(status["CapInh"], 16),
        "no_new_privileges": int(status["NoNewPrivs"]),
        "seccomp": int(status["Seccomp"]),
        "folder": str(Path.cwd()),
        "files": [entry.name for entry in Path().iterdir()],
    }


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def threads(count: int) -> int:
    found: list[int] = []
    running = [threading.Thread(target=found.append, args=(number,)) for number in range(count)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return len(found)


def read(path: str) -> str:
    return Path(path).read_text()


def exists(path: str) -> bool:
    return Path(path).exists()


def write(path: str, text: str = "x") -> str:
    Path(path).write_text(text)
    return Path(path).read_text()


def tree(path: str) -> list[str]:
    return sorted(str(entry.relative_to(path)) for entry in Path(path).rglob("*") if entry.read_bytes() or 1)


# Reaching out


def connect(family: str, kind: str, address: Any) -> str:
    with socket.socket(getattr(socket, family), getattr(socket, kind)) as client:
        client.settimeout(2)
        if kind == "SOCK_DGRAM":
            client.sendto(b"hello", tuple(address) if isinstance(address, list) else address)
        else:
            client.connect(tuple(address) if isinstance(address, list) else address.replace("@", "\0"))
            client.sendall(b"hello")
    return "sent"


def kill(process: int) -> str:
    os.kill(process, signal.SIGKILL)
    return "killed"


def execute() -> str:
    return subprocess.run([sys.executable, "-c", "print('ran')"], capture_output=True, text=True, check=True).stdout


def read_memory(process: int, address: int, size: int) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(size)

    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    here = Vector(ctypes.cast(buffer, ctypes.c_void_p), size)
    there = Vector(address, size)
    if libc.process_vm_readv(process, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) != size:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return buffer.raw.decode()


def read_memory_file(process: int, address: int, size: int) -> str:
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(size).decode()


def system_call(name: str) -> str:
    """One call that an escape would need, with arguments that would succeed where nothing stops it."""
    libc = ctypes.CDLL(None, use_errno=True)
    calls: dict[str, Callable[[], int]] = {
        "unshare": lambda: libc.unshare(0x10000000),
        "mount": lambda: libc.mount(b"tmpfs", str(Path.cwd()).encode(), b"tmpfs", 0, None),
        "chroot": lambda: libc.chroot(b"."),
        "ptrace": lambda: libc.ptrace(0, 0, None, None),
        "bpf": lambda: libc.syscall(321, 0, None, 0),
        "perf_event_open": lambda: libc.syscall(298, bytes(128), 0, -1, -1, 0),
        "io_uring_setup": lambda: libc.syscall(425, 1, ctypes.create_string_buffer(256)),
        "keyctl": lambda: libc.syscall(250, 0, -3, 0),
        "userfaultfd": lambda: libc.syscall(323, 1),
        "kexec_load": lambda: libc.syscall(246, 0, 0, None, 0),
        "personality": lambda: libc.personality(0xFFFFFFFF),
        "setuid": lambda: libc.setuid(0),
        "clone3": lambda: libc.syscall(435, bytes(88), 88),
        "pidfd_open": lambda: libc.syscall(434, os.getpid(), 0),
    }
    if calls[name]() < 0:
        raise OSError(ctypes.get_errno(), name)
    return "done"


# Taking too much


def touch_memory(mib: int) -> int:
    for _ in range(mib // 8):
        _memory.append(bytearray(b"x") * (8 * _MIB))
        time.sleep(0.002)
    time.sleep(0.2)  # the worker looks every few milliseconds, when it gets the processor
    return len(_memory)


def one_allocation(mib: int) -> int:
    return len(bytearray(mib * _MIB))


def shared_memory(mib: int) -> int:
    area = mmap.mmap(-1, mib * _MIB)
    for position in range(0, mib * _MIB, 4096):
        area[position] = 1
    time.sleep(5)
    return len(area)


def memory_of_children(mib: int, count: int) -> str:
    for _ in range(count):
        if os.fork() == 0:
            _memory.append(bytearray(b"x") * (mib * _MIB))
            time.sleep(30)
    time.sleep(30)
    return "done"


def loop() -> None:
    while True:
        pass


def sleep(seconds: float = 1000) -> str:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(seconds)
    return "slept"


def fill_scratch(mib: int) -> str:
    with Path("big").open("wb") as file:
        for _ in range(mib):
            file.write(b"x" * _MIB)
            file.flush()
    time.sleep(5)
    return "wrote"


def many_files(count: int) -> int:
    for number in range(count):
        Path(str(number)).touch()
    time.sleep(5)
    return count


def hide_in_scratch() -> str:
    Path("dark/inner").mkdir(parents=True)
    Path("dark/inner/file").write_text("x")
    Path("dark/inner").chmod(0)
    Path("dark").chmod(0)
    return "hidden"


def print_much(mib: int) -> str:
    for _ in range(mib):
        sys.stdout.write("o" * _MIB)
        sys.stderr.write("e" * _MIB)
    sys.stdout.write("\nlast words\n")
    return "printed"


def flood_events(count: int) -> str:
    pipe = next(number for number in range(3, 64) if _is_open(number) and not os.get_blocking(number))
    for number in range(count):
        try:
            os.write(pipe, b'{"process": 1, "confined": false, "step": "' + b"x" * (number % 300) + b'"}\n{]\n[[[')
        except BlockingIOError:
            continue
    return "flooded"


# Multiplying


def fork_bomb(count: int) -> str:
    for _ in range(count):
        if os.fork() == 0:
            while True:
                time.sleep(1)
    return "forked"


def leave_daemon(marker: str) -> str:
    """A process that has left the session and the process group, holds all pipes and outlives its parent."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(15, marker.encode(), 0, 0, 0)
            time.sleep(1000)
        os._exit(0)
    time.sleep(0.2)
    return "left"


# Dying


def segfault() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def leave() -> None:
    sys.exit("farewell")


def leave_at_once(code: int) -> None:
    os._exit(code)


def raise_error() -> None:
    raise RuntimeError("nothing works")


def raise_named(kind: str, text: str) -> None:
    import tasks.errors

    raise getattr(tasks.errors, kind)(text)


def no_memory_left() -> None:
    raise MemoryError


def overflow() -> None:
    sys.setrecursionlimit(10**8)

    nested: list[Any] = []
    for _ in range(10**6):
        nested = [nested]
    repr(nested)
