"""This host: content store and IPFS node, journal, sandbox, GPU, versions."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from chain import ChainSettings
from storage import IPFS, StorageError, StorageSettings
from tasks.errors import TasksError
from tasks.settings import TasksSettings
from workers.checks.model import Check, failed, ok, warning
from workers.settings import WorkersSettings

GPU_PATIENCE_SECONDS = 10.0
_GIB = 1024**3
LEAST_FREE_BYTES = _GIB
PACKAGES = ("fitchain-verifier", "celery", "kombu", "redis", "web3", "tensorflow", "keras", "flower")

# Keeping a delivery alive uses an internal of this version (tasks.steps).
PINNED = {"kombu": "5.7.0"}


def check_content(settings: StorageSettings) -> list[Check]:
    """The IPFS node, and the folder where verified files are kept."""
    checks = []
    node = settings.ipfs_api or f"embedded store in {settings.ipfs_store}"
    try:
        checks.append(ok("ipfs", f"{node}: {IPFS(settings=settings).ping()}"))
    except StorageError as error:
        checks.append(failed("ipfs", str(error), "Start the node, or correct FITCHAIN_IPFS_API."))
    if settings.ipfs_gateways:
        checks.append(ok("gateways", ", ".join(settings.ipfs_gateways)))
    checks.append(_check_store(settings))
    return checks


def check_journal(settings: ChainSettings) -> list[Check]:
    """Whether votes can be written down."""
    folder = settings.journal.parent
    if _writable(folder):
        return [ok("journal", str(settings.journal))]
    return [failed("journal", f"{folder} cannot be written", "Point FITCHAIN_JOURNAL to a folder that can.")]


def check_sandbox(settings: TasksSettings) -> list[Check]:
    """The level that evaluations are confined at on this host; every layer is tried, the runtime is not
    loaded.
    """
    from tasks.sandbox import Level, Sandbox

    try:
        with Sandbox(settings, warm=None) as sandbox:
            found = sandbox.confinement
    except TasksError as error:
        return [failed("sandbox", str(error), "No strangers' model is evaluated here.")]
    missing = "; ".join(f"{state.layer.value}: {state.detail}" for state in found.missing)
    detail = f"level {found.level.value}" + (f"; missing {missing}" if missing else ", every layer")
    if found.level.rank < Level(settings.sandbox_minimum).rank:
        return [
            failed(
                "sandbox",
                f"{detail}; FITCHAIN_SANDBOX_MINIMUM is {settings.sandbox_minimum}",
                "No strangers' model is evaluated here: allow the missing layers on this host.",
            )
        ]
    if missing:
        return [warning("sandbox", detail, "Allow the missing layers on this host.")]
    return [ok("sandbox", detail)]


def check_gpu(*, needed: bool) -> list[Check]:
    """The GPUs that the driver shows; TensorFlow is not asked, since that would take its memory."""
    tool = shutil.which("nvidia-smi")
    lines: list[str] = []
    if tool is not None:
        try:
            done = subprocess.run(
                [tool, "-L"], capture_output=True, text=True, timeout=GPU_PATIENCE_SECONDS, check=False
            )
            lines = [line.split(" (UUID")[0] for line in done.stdout.splitlines() if line.startswith("GPU")]
        except (OSError, subprocess.TimeoutExpired) as error:
            return [warning("gpu", f"nvidia-smi does not answer: {error}", "Check the driver.")]
    if lines:
        return [ok("gpu", "; ".join(lines))]
    if needed:
        return [failed("gpu", "no GPU is visible", "Install the driver, or give the container a GPU.")]
    return [ok("gpu", "none; evaluations run on the CPU")]


def check_flower(settings: WorkersSettings) -> list[Check]:
    """Whether Flower may start."""
    if settings.flower_auth is None:
        return [
            failed(
                "flower",
                "FITCHAIN_FLOWER_AUTH is not set",
                "Set it to user:password; whoever reaches Flower can enqueue work.",
            )
        ]
    return [ok("flower", f"{settings.flower_address}:{settings.flower_port}, with a password")]


def check_versions() -> list[Check]:
    """Python and the packages that matter; those that are pinned for a reason must be exactly that."""
    found = versions()
    checks = [ok("versions", ", ".join(f"{name} {number}" for name, number in found.items()))]
    for name, expected in PINNED.items():
        if found.get(name) != expected:
            checks.append(
                failed(
                    "versions",
                    f"{name} is {found.get(name)}, not {expected}",
                    f"pip install {name}=={expected}",
                )
            )
    return checks


def versions() -> dict[str, str]:
    """Versions by package, without importing any."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def _check_store(settings: StorageSettings) -> Check:
    folder = settings.store_dir
    if not _writable(folder):
        return failed("store", f"{folder} cannot be written", "Point FITCHAIN_STORE_DIR to a folder that can.")
    free = shutil.disk_usage(_existing(folder)).free
    detail = f"{folder}, {free / _GIB:.1f} GiB free; at most {settings.store_max_bytes / _GIB:.1f} GiB are used"
    if free < LEAST_FREE_BYTES:
        return failed("store", detail, "Make room, or point FITCHAIN_STORE_DIR to another disk.")
    if free < settings.store_max_bytes:
        return warning("store", detail, "The disk may fill up: lower FITCHAIN_STORE_MAX_BYTES, or make room.")
    return ok("store", detail)


def _writable(folder: Path) -> bool:
    """Whether files can be made there; a folder that is not there yet, in the nearest one that is."""
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return True
    except OSError:
        return False


def _existing(folder: Path) -> Path:
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place if os.access(place, os.X_OK) else folder
