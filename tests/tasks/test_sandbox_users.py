"""The sandbox under an ordinary user: what root can do without asking, somebody else has to be able to do as well.

Where the tests run as root, they become an ordinary user by way of a user namespace: an id other than 0, no
capabilities, and no need for the checkout to be readable by others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BECOME_A_USER = """
import os, sys
from tasks.sandbox import primitives
proc_self = os.open("/proc/self", os.O_PATH)
user, group = os.geteuid(), os.getegid()
if user == 0:
    primitives.unshare(primitives.CLONE_NEWUSER)
    primitives.map_user(proc_self, 1000, user, group)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""

SMOKE = """
import json, os, sys
sys.path.insert(0, os.getcwd())
from tests.tasks.sandboxes import ask, sandbox_without
with sandbox_without() as sandbox:
    found = ask(sandbox, "look")
    status = open("/proc/self/status").read()
    print(json.dumps({
        "user": os.geteuid(),
        "own capabilities": int(status.split("CapEff:")[1].split()[0], 16),
        "level": sandbox.level.value,
        "inside": [found["user"], found["capabilities"], found["process"]],
        "file": ask(sandbox, "read", path=os.path.abspath("pyproject.toml")),
        "input": ask(sandbox, "read", readable=["pyproject.toml"], path=os.path.abspath("pyproject.toml"))[:9],
        "fork": ask(sandbox, "fork_bomb", count=1),
        "socket": ask(sandbox, "connect", family="AF_INET", kind="SOCK_STREAM", address=["127.0.0.1", 9]),
    }))
"""


def as_a_user(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments as somebody without privileges; skips where the host lets nobody do that."""
    command = [sys.executable, "-c", BECOME_A_USER, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip(f"this host has no user namespaces for ordinary users: {done.stderr.splitlines()[-1]}")
    return done


def test_an_ordinary_user_is_sandboxed_like_root() -> None:
    done = as_a_user("-c", SMOKE)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["user"] == (1000 if os.geteuid() == 0 else os.geteuid())
    assert found["own capabilities"] == 0
    assert found["inside"][1] == 0
    assert found["inside"][0] != 0
    assert found["file"]["stopped"] in {"ENOENT", "EACCES"}
    assert found["input"] == "[build-sy"
    assert found["fork"]["stopped"] == "EPERM"
    assert found["socket"]["stopped"] == "EPERM"
    if found["level"] == "full":
        assert found["inside"][2] == 1


@pytest.mark.soak
@pytest.mark.parametrize("module", ["test_sandbox_runs.py", "test_sandbox_layers.py"])
def test_everything_else_as_an_ordinary_user(module: str, tmp_path: Path) -> None:
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}"]
    done = as_a_user("-m", "pytest", *options, f"tests/tasks/{module}")
    assert done.returncode == 0, done.stdout[-5000:]
