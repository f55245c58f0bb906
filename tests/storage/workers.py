"""What processes of their own do in the tests of shared stores: run as ``python -m tests.storage.workers``."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from storage import Content, StorageSettings


def main(arguments: dict[str, Any]) -> dict[str, Any]:
    """Open a blob as the settings say, and tell what came."""
    settings = StorageSettings(**arguments["settings"])
    content = Content.from_settings(settings)
    while not Path(arguments["start"]).exists():
        time.sleep(0.005)
    kill_at = arguments.get("kill_at_bytes")

    def progress(done: int, total: int | None) -> None:
        if kill_at is not None and done >= kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    with content.open(arguments["cid"], progress=progress) as blob:
        digest = hashlib.sha256(blob.path.read_bytes()).hexdigest()
        if arguments.get("hold_until"):
            sys.stdout.write("open\n")
            sys.stdout.flush()
            while not Path(arguments["hold_until"]).exists():
                time.sleep(0.01)
        return {"tier": blob.tier, "sha256": digest}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
