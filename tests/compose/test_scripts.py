"""The scripts beside the compose files, run as they run inside and outside the containers."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from compose.services import LOOPBACK, find_program, free_port
from compose.settings import StackSettings

PASSWORD = 'a "secret" \\word$'
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "compose"


@pytest.fixture
def secrets_script(tmp_path: Path) -> Path:
    copied = shutil.copy(FOLDER / "secrets.sh", tmp_path / "secrets.sh")
    return Path(copied)


def test_secrets_are_made_once_and_what_is_missing_is_said(secrets_script: Path) -> None:
    first = subprocess.run(["bash", str(secrets_script)], capture_output=True, text=True, check=False)
    assert first.returncode == 1
    assert "bring compose/secrets/keystore:" in first.stdout
    folder = secrets_script.parent / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    password = (folder / "redis_broker_password").read_text()
    assert len(password) == 48
    assert (folder / "fitchain_broker_url").read_text() == f"redis://:{password}@redis-broker:6379/0"
    assert password != (folder / "redis_cache_password").read_text()
    for name in ("keystore", "keystore_password", "fitchain_rpc_url"):
        (folder / name).write_text("mine")
    second = subprocess.run(["bash", str(secrets_script)], capture_output=True, text=True, check=False)
    assert (second.returncode, second.stdout) == (0, "")
    assert (folder / "redis_broker_password").read_text() == password
    assert (folder / "keystore").read_text() == "mine"


def run_entry(tmp_path: Path, name: str, *arguments: str) -> list[str]:
    """Run the entry point with a `fitchain-verifier` that prints what it is given, and secrets in a folder."""
    program = tmp_path / "bin" / "fitchain-verifier"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$FITCHAIN_BROKER_URL" "$*"\n')
    program.chmod(0o755)
    text = (FOLDER / "entrypoint.sh").read_text()
    secrets = tmp_path / "run"
    secrets.mkdir()
    (secrets / "fitchain_broker_url").write_text("redis://:p a$s@broker/0\n")
    (secrets / "keystore").write_text("not a variable")
    entry = tmp_path / name
    assert "/run/secrets/" in text
    entry.write_text(text.replace("/run/secrets/", f"{secrets}/"))
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    run = subprocess.run(["sh", str(entry), *arguments], env=environment, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


def test_the_entry_turns_secrets_into_variables(tmp_path: Path) -> None:
    assert run_entry(tmp_path, "fitchain-entry", "worker", "fetch") == ["redis://:p a$s@broker/0", "worker fetch"]


def test_the_health_entry_asks_for_the_role(tmp_path: Path) -> None:
    assert run_entry(tmp_path, "fitchain-health", "submit") == ["redis://:p a$s@broker/0", "health submit"]


@pytest.mark.parametrize("name", ["broker", "cache"])
def test_redis_accepts_its_settings_and_wants_the_password(tmp_path: Path, name: str) -> None:
    server = find_program("redis-server", StackSettings().redis_server, "FITCHAIN_REDIS_SERVER")
    port = free_port()
    (tmp_path / "redis.conf").write_text(
        (FOLDER / "redis" / f"{name}.conf").read_text().replace("dir /data", f"dir {tmp_path}\nport {port}")
    )
    (tmp_path / "password").write_text(PASSWORD)
    start = (FOLDER / "redis" / "start.sh").read_text()
    start = start.replace("/etc/fitchain/redis.conf", f"{tmp_path}/redis.conf").replace(
        "/tmp/redis.conf", f"{tmp_path}/run"
    )
    (tmp_path / "start.sh").write_text(start.replace("exec redis-server", f"exec {server}"))
    process = subprocess.Popen(
        ["sh", str(tmp_path / "start.sh"), str(tmp_path / "password")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ready to accept connections" in line:
                break
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(host=LOOPBACK, port=port, retry=Retry(NoBackoff(), 0)).ping()
        client = redis.Redis(host=LOOPBACK, port=port, password=PASSWORD, decode_responses=True)
        expected = {"broker": "noeviction", "cache": "allkeys-lfu"}[name]
        assert dict(client.config_get("maxmemory-policy"))["maxmemory-policy"] == expected
        assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o600
        command_line = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert "secret" not in command_line
        client.close()
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()


def test_the_set_up_script_says_what_it_does_when_asked_nothing() -> None:
    run = subprocess.run(["bash", str(FOLDER / "setup.sh")], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "compose/setup.sh services" in run.stdout


def test_the_set_up_refuses_an_old_python_with_a_sentence(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(old)}
    run = subprocess.run(
        ["bash", str(FOLDER / "setup.sh"), "python"], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "is Python 3.9.2, and 3.11 is the oldest that works" in run.stderr
