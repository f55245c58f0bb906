"""The file system that a sandboxed child sees: runtime, inputs and harmless devices, and nothing else of the host.

The fork server builds it once, as a root of its own in its own mount namespace. A child takes a copy of that namespace
in which nothing is lost on the server: what the server mounts below the root later, the inputs of a run, appears in the
child as well. So a child can be ready, confined to the last layer, before anybody knows what it will read.

Which layers there are is in `tasks.sandbox.layers`, how a child moves in is in `tasks.sandbox.confine`.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tasks.sandbox import primitives

SCRATCH: Final = "/scratch"
_ROOT_BYTES = 1024**2
_ROOT_FILES = 10_000
_HARMLESS_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_GPU_DEVICES = "nvidia*"
_GPU_PATHS = ("/sys/bus", "/sys/class", "/sys/devices", "/sys/module")
_SYSTEM_PATHS = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache",
    "/etc/localtime", "/sys/devices/system",
)  # fmt: skip


def runtime_paths(extra: tuple[str, ...] = (), *, gpu: bool = False) -> tuple[str, ...]:
    """Files and folders of the host that a Python process with TensorFlow reads, outermost first."""
    paths = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values(), *_SYSTEM_PATHS, *extra}
    for name in ("tasks", "storage"):
        spec = find_spec(name)
        paths.update(spec.submodule_search_locations or [] if spec else [])
    paths.update(path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/"))
    paths.update(_GPU_PATHS if gpu else ())
    paths.update(os.path.realpath(path) for path in tuple(paths))
    kept: list[str] = []
    for path in sorted(path for path in paths if path != "/" and Path(path).exists()):
        if not any(path == outer or path.startswith(outer + "/") for outer in kept if not Path(outer).is_symlink()):
            kept.append(path)
    return tuple(kept)


def devices(*, gpu: bool) -> list[str]:
    """The device files that a child may use."""
    found = [path for path in _HARMLESS_DEVICES if Path(path).exists()]
    if gpu:
        found += [str(path) for path in Path("/dev").glob(_GPU_DEVICES)]
    return found


class Stage:
    """The root of the children, in the mount namespace of the fork server.

    Args:
        workplace: a folder of the host with an empty folder `root` in it; copies of inputs are made here, too.
        copy_unreadable: whether children run as another user than the server, and so need a copy of what only the
            server's user may read.
    """

    def __init__(self, workplace: str, runtime: tuple[str, ...], *, gpu: bool, copy_unreadable: bool) -> None:
        self.root = str(Path(workplace, "root"))
        self._workplace = Path(workplace)
        self._copy_unreadable = copy_unreadable
        self._placed: list[Path] = []
        self._made: list[Path] = []
        primitives.mount_tmpfs(self.root, size_bytes=_ROOT_BYTES, files=_ROOT_FILES)
        primitives.share_mounts_below(self.root)
        for path in runtime:
            self._show(path, path)
        for device in devices(gpu=gpu):
            self._show(device, device, device=True)
        for folder in ("proc", "tmp", SCRATCH[1:]):
            Path(self.root, folder).mkdir(exist_ok=True)
        self._placed.clear()
        self._made.clear()

    def place(self, inputs: tuple[str, ...]) -> None:
        """Show files and folders of the host, read-only and under their own paths, to the child that is waiting.

        Raises:
            OSError: one of them is not there, or cannot be shown; none of them is, then.
        """
        try:
            for number, path in enumerate(inputs):
                self._show(self._readable(Path(os.path.realpath(path, strict=True)), number), path)
        except OSError:
            self.clear()
            raise

    def clear(self) -> None:
        """Take all inputs away again, with every trace of their names."""
        for target in reversed(self._placed):
            primitives.unmount(str(target))
        for target in reversed(self._made):
            target.rmdir() if target.is_dir() and not target.is_symlink() else target.unlink()
        for copy in self._workplace.glob("input-*"):
            shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
        self._placed.clear()
        self._made.clear()

    def close(self) -> None:
        """Let go of the root and of everything below it."""
        primitives.unmount(self.root)

    def _show(self, source: str, path: str, *, device: bool = False) -> None:
        """Make `source` of the host visible as `path` under the root; symbolic links stay links."""
        target = Path(self.root + path)
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            return
        if not os.path.realpath(target).startswith(self.root + "/"):
            return  # below a link that leads to where it is shown anyway
        missing = [parent for parent in target.parents if not parent.exists()]
        for parent in reversed(missing):
            parent.mkdir(mode=0o755)
            self._made.append(parent)
        if Path(source).is_symlink():
            target.symlink_to(Path(source).readlink())
            self._made.append(target)
            return
        if not target.exists():
            target.mkdir(mode=0o755) if Path(source).is_dir() else target.touch()
            self._made.append(target)
        primitives.bind(source, str(target), read_only=not device, devices=device)
        self._placed.append(target)

    def _readable(self, path: Path, number: int) -> str:
        """The input itself, or a copy of it where the user that the child has become may not read it."""
        if not self._copy_unreadable or _open_to_all(path):
            return str(path)
        copy = self._workplace / f"input-{number}"
        if path.is_dir():
            shutil.copytree(path, copy, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(path, copy)
        for entry in (copy, *copy.rglob("*")):
            entry.chmod(0o755 if entry.is_dir() else 0o444)
        return str(copy)


def _open_to_all(path: Path) -> bool:
    """Whether a file, or a folder with all that is in it, may be read by everybody who reaches it."""
    mode = path.stat().st_mode
    if not stat.S_ISDIR(mode):
        return bool(mode & stat.S_IROTH)
    return mode & 0o005 == 0o005 and all(_open_to_all(entry) for entry in path.iterdir())
