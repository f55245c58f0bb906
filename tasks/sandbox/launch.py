"""Starting a fork server: its command, its scrubbed environment, its folder, and its first two words.

The environment is built from nothing: what TensorFlow, Keras and Python need, and not one variable of the
worker's that is not named here. A worker's secrets are not in its sandbox because they were never put there.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tasks.errors import SandboxRefused
from tasks.sandbox.layers import Confinement
from tasks.sandbox.wire import Probed, Ready, ServerMessage, Setup, receive

START_SECONDS: Final = 120.0
_TAIL_BYTES = 2000
# Where the loader finds libraries and which device is which: harmless, and lost without them on GPU hosts.
_PASSED_ON = ("LD_LIBRARY_PATH", "TZ", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES")
_FIXED: Final = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_DETERMINISTIC_OPS": "1",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "NVIDIA_TF32_OVERRIDE": "0",
    # The server sees no device, ever; a child is told its own.
    "CUDA_VISIBLE_DEVICES": "-1",
    # Libraries that start threads on import would make every fork a gamble.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


@dataclass(slots=True)
class ServerProcess:
    """A running fork server, its socket, its private folder and what it said of itself."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    folder: Path
    log: IO[bytes]
    confinement: Confinement
    ready: Ready | None = None

    def close(self) -> None:
        """End the server with everything below it, and remove its folder. Safe to call twice."""
        self.channel.close()
        try:
            self.process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        remove_tree(self.folder)

    def tail(self) -> str:
        """The last lines that the server printed."""
        self.log.flush()
        size = self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, size - _TAIL_BYTES))
        return self.log.read().decode(errors="replace").strip()


def launch(setup: Setup, *, base: Path | None) -> ServerProcess:
    """Start a server and wait until it knows its layers; it goes on importing meanwhile (see `await_ready`).

    Raises:
        SandboxRefused: the server ended, or said nothing in time.
    """
    if base is not None:
        base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="fitchain-sandbox-", dir=base))
    (folder / "root").mkdir()
    (folder / "home").mkdir()
    setup = setup.model_copy(update={"workplace": str(folder)})
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
    with there:
        process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-m",
                "tasks.sandbox.server",
                str(there.fileno()),
                setup.model_dump_json(),
            ],
            env=environment(folder / "home"),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(there.fileno(),),
            start_new_session=True,
        )
    server = ServerProcess(process, here, folder, log, Confinement.of(()))
    message = _next(server, START_SECONDS)
    if not isinstance(message, Probed):
        server.close()
        raise SandboxRefused(f"the sandbox's fork server began with {message!r}")
    server.confinement = message.confinement
    return server


def await_ready(server: ServerProcess) -> Ready:
    """Wait until the imports are done.

    Raises:
        SandboxRefused: the server ended, said nothing in time, or has threads that would make its children
            hang.
    """
    if server.ready is None:
        message = _next(server, START_SECONDS)
        if not isinstance(message, Ready):
            raise SandboxRefused(f"the sandbox's fork server answered {message!r} where it should be ready")
        if len(message.threads) != 1:
            names = ", ".join(message.threads)
            raise SandboxRefused(f"the sandbox's fork server has threads after its imports ({names}): see its log")
        server.ready = message
    return server.ready


def environment(home: Path) -> dict[str, str]:
    """The whole environment of a fork server."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    places = {name: str(home) for name in ("HOME", "TMPDIR", "KERAS_HOME", "XDG_CACHE_HOME")}
    return {**passed_on, **_FIXED, **places}


def remove_tree(folder: Path) -> None:
    """Remove a folder (or a file) whatever a child, now dead, has made of the permissions in it."""
    if not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    for current, names, _ in os.walk(folder):
        for name in names:
            path = Path(current, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _next(server: ServerProcess, seconds: float) -> object:
    server.channel.settimeout(seconds)
    started = time.monotonic()
    try:
        packet, _ = receive(server.channel)
    except TimeoutError:
        packet = b""
    finally:
        server.channel.settimeout(None)
    if not packet:
        waited = time.monotonic() - started
        server.process.kill()
        said = server.tail() or "nothing"
        raise SandboxRefused(f"the sandbox's fork server did not start ({waited:.0f} s); it said: {said}")
    return ServerMessage.model_validate_json(packet).body
