"""What the tests of the sandbox share: how to start one on the targets, and how to ask one for a deed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.sandbox import Sandbox
from tasks.settings import TasksSettings

TARGETS = Path(__file__).parent / "targets"
MIB = 1024**2


def sandbox_without(*layers: str, target: str = "sandbox_targets:main", **settings: Any) -> Sandbox:
    """A sandbox on the targets, with some layers left off and small bounds."""
    chosen: dict[str, Any] = {
        "sandbox_disable": ",".join(layers),
        "sandbox_minimum": "none",
        "evaluation_seconds": 20,
        "evaluation_memory_bytes": 256 * MIB,
        "scratch_max_bytes": 16 * MIB,
        "max_result_bytes": 2 * MIB,
    }
    return Sandbox(TasksSettings(**(chosen | settings)), target=target, warm=None, prepare=None, import_paths=[TARGETS])


def ask(
    sandbox: Sandbox, deed: str, *, readable: Any = (), bounds: dict[str, Any] | None = None, **arguments: Any
) -> Any:
    """Do a deed inside and return what it found."""
    request = json.dumps({"do": deed, **arguments}).encode()
    return json.loads(sandbox.run(request, readable=readable, **(bounds or {})))
