"""Running the command as people do: a process of its own, its two streams, its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Command:
    """The command with an environment of its own: nothing of FITCHAIN_… is inherited, and files go to
    `folder`.
    """

    folder: Path
    settings: Mapping[str, str]

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FITCHAIN_")}
        return {
            **inherited,
            "FITCHAIN_IPFS_STORE": str(self.folder / "ipfs"),
            "FITCHAIN_STORE_DIR": str(self.folder / "blobs"),
            "FITCHAIN_JOURNAL": str(self.folder / "journal.sqlite"),
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **self.settings,
        }

    def with_settings(self, **settings: str) -> Command:
        """The same with more settings; names without the prefix."""
        added = {f"FITCHAIN_{name.upper()}": value for name, value in settings.items()}
        return Command(self.folder, {**self.settings, **added})

    def __call__(self, *arguments: object, stdin: str = "") -> Finished:
        done = subprocess.run(
            [sys.executable, "-m", "workers.cli", *(str(argument) for argument in arguments)],
            env=self.environment(),
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Finished(done.returncode, done.stdout, done.stderr)
