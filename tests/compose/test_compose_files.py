"""The compose files: what keeps keys, queues and strangers' files apart must stay in them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "compose"
BASE, GPU, USERNS = "docker-compose.yml", "docker-compose.gpu.yml", "docker-compose.userns.yml"
ROLES = {"dispatcher", "fetch", "evaluate", "submit", "flower"}
REQUIRED = {
    "FITCHAIN_CHAIN_ID": "1",
    "FITCHAIN_REGISTRY": "0x0000000000000000000000000000000000000001",
    "FITCHAIN_POOL": "0x0000000000000000000000000000000000000002",
    "FITCHAIN_ACCOUNTS": "0x0000000000000000000000000000000000000003",
}


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / BASE).read_text())
    return loaded


@pytest.fixture(scope="module")
def compose_command() -> list[str]:
    """`docker compose`, as a plugin or built by `make compose-tool`."""
    built = ROOT / ".local" / "bin" / "docker-compose"
    if built.exists():
        return [str(built)]
    if (
        shutil.which("docker")
        and not subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    ):
        return ["docker", "compose"]
    pytest.skip("docker compose is not here; `make compose-tool` builds it")


def services(base: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from base["services"].items()


def who_has(base: dict[str, Any], kind: str, name: str) -> set[str]:
    return {service for service, body in services(base) if name in body.get(kind, [])}


def test_every_service_is_hardened_limited_and_checked(base: dict[str, Any]) -> None:
    for name, body in services(base):
        assert body["healthcheck"]["test"][0] == "CMD", name
        assert body["read_only"] is True, name
        assert body["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in body["security_opt"], name
        assert "privileged" not in body, name
        user, _, group = body["user"].partition(":")
        assert int(user) > 0, f"{name} runs as root"
        assert int(group) > 0, name
        assert body["init"] is True, name
        assert body["restart"] == "unless-stopped", name
        assert set(body["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name


def test_the_roles_check_their_own_health(base: dict[str, Any]) -> None:
    assert set(base["services"]) == ROLES | {"redis-broker", "redis-cache", "kubo"}
    for role in ROLES:
        assert base["services"][role]["healthcheck"]["test"] == ["CMD", "fitchain-health", role]


def test_images_are_pinned(base: dict[str, Any]) -> None:
    for name, body in services(base):
        tag = body["image"].rpartition(":")[2]
        assert tag not in {"latest", body["image"]}, name
    for dockerfile in ("Dockerfile", "Dockerfile.gpu"):
        arguments = re.findall(r"^ARG \w+_IMAGE=(\S+)$", (FOLDER / dockerfile).read_text(), re.MULTILINE)
        assert len(arguments) == 1
        assert re.search(r":\d+\.\d+\.\d+", arguments[0]), f"{dockerfile}: {arguments[0]} names no version"


def test_only_submit_gets_the_keys(base: dict[str, Any]) -> None:
    assert who_has(base, "secrets", "keystore") == {"submit"}
    assert who_has(base, "secrets", "keystore_password") == {"submit"}
    for name, body in services(base):
        if name != "submit":
            assert not {key for key in body.get("environment", {}) if "KEY" in key}, name


def test_secrets_are_files_and_never_values(base: dict[str, Any]) -> None:
    assert all(body["file"].startswith("./secrets/") for body in base["secrets"].values())
    used = {name for _, body in services(base) for name in body.get("secrets", [])}
    assert used == set(base["secrets"])
    text = (FOLDER / BASE).read_text()
    assert not re.search(r"redis://\S*@|PASSWORD: |requirepass", text)
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", "compose/secrets/keystore"], cwd=ROOT, capture_output=True, check=False
    )
    assert ignored.returncode in {0, 128}, "compose/secrets could be committed"


def test_who_reaches_whom(base: dict[str, Any]) -> None:
    reaches = {name: set(body["networks"]) for name, body in services(base)}
    internal = {name for name, body in base["networks"].items() if (body or {}).get("internal")}
    assert internal == {"queue", "content", "publish"}
    # Evaluate reaches Redis and content, and nothing outside; submit reaches Redis, its node and the chain.
    assert reaches["evaluate"] == {"queue", "content"}
    assert reaches["submit"] == {"queue", "publish", "chain"}
    assert who_has(base, "networks", "publish") == {"submit", "kubo"}
    assert who_has(base, "networks", "chain") == {"dispatcher", "submit"}
    # Neither Redis can be reached from a network with a way out.
    assert reaches["redis-broker"] == {"queue"}
    assert reaches["redis-cache"] == {"content"}


def test_ports_on_the_host(base: dict[str, Any]) -> None:
    published = {name: body["ports"] for name, body in services(base) if "ports" in body}
    assert set(published) == {"flower", "kubo"}
    assert all(port.startswith("127.0.0.1:") for port in published["flower"])
    assert not any("5001" in port or "8080" in port for port in published["kubo"])


def test_broker_and_cache_are_different_processes_with_different_rules() -> None:
    rules = {
        name: dict(
            line.split(" ", 1)
            for line in (FOLDER / "redis" / f"{name}.conf").read_text().splitlines()
            if line and not line.startswith("#")
        )
        for name in ("broker", "cache")
    }
    assert rules["broker"]["maxmemory-policy"] == "noeviction"
    assert (rules["broker"]["appendonly"], rules["broker"]["appendfsync"]) == ("yes", "everysec")
    assert rules["cache"]["maxmemory-policy"] == "allkeys-lfu"
    assert rules["cache"]["appendonly"] == "no"


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def test_a_stopped_worker_has_time_to_give_its_task_back(base: dict[str, Any]) -> None:
    for role in ("fetch", "evaluate", "submit"):
        body = base["services"][role]
        assert body["environment"]["REMAP_SIGTERM"] == "SIGQUIT"
        soft = int(body["environment"]["FITCHAIN_SOFT_SHUTDOWN_SECONDS"])
        assert seconds(body["stop_grace_period"]) > soft


def test_versions_agree(base: dict[str, Any]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for role in ROLES:
        assert base["services"][role]["image"] == f"fitchain-verifier:${{FITCHAIN_VERSION:-{version}}}"
    assert f"#FITCHAIN_VERSION={version}\n" in (FOLDER / "env.example").read_text()


def test_every_variable_of_the_files_is_explained() -> None:
    explained = set(re.findall(r"^#?(FITCHAIN_\w+)=", (FOLDER / "env.example").read_text(), re.MULTILINE))
    used: set[str] = set()
    for name in (BASE, GPU, USERNS):
        used |= set(re.findall(r"\$\{(\w+)", (FOLDER / name).read_text()))
    assert used == explained


def test_images_run_as_nobody_in_particular_and_copy_no_secrets() -> None:
    for dockerfile in ("Dockerfile", "Dockerfile.gpu"):
        text = (FOLDER / dockerfile).read_text()
        last_stage = text[text.rindex("\nFROM ") :]
        assert "\nUSER 10001:10001\n" in last_stage
        assert "pip install" not in last_stage, "the last stage builds nothing"
        assert text.count("\nFROM ") >= 2
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert not [line for line in ignored if line.startswith("!") and "secret" in line]


def test_the_seccomp_profile_allows_namespaces_and_forbids_the_kernel() -> None:
    profile = json.loads((FOLDER / "seccomp-evaluate.json").read_text())
    (rule,) = profile["syscalls"]
    assert rule["action"] == "SCMP_ACT_ERRNO"
    denied = set(rule["names"])
    assert not denied & {"unshare", "setns", "mount", "umount2", "pivot_root", "mount_setattr", "clone", "seccomp"}
    assert denied >= {"bpf", "ptrace", "keyctl", "init_module", "kexec_load", "perf_event_open", "userfaultfd"}


@pytest.mark.parametrize("extra", [(), (GPU,), (USERNS,), (GPU, USERNS)], ids=lambda files: "+".join(files) or "base")
def test_docker_compose_accepts_it(compose_command: list[str], extra: tuple[str, ...], tmp_path: Path) -> None:
    files = [argument for name in (BASE, *extra) for argument in ("-f", str(FOLDER / name))]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **REQUIRED}
    run = subprocess.run(
        [*compose_command, *files, "config", "--format", "json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    resolved = json.loads(run.stdout)["services"]
    assert set(resolved) == ROLES | {"redis-broker", "redis-cache", "kubo"} | (
        {"evaluate-gpu"} if GPU in extra else set()
    )
    for name, body in resolved.items():
        assert body["healthcheck"]["test"], name
        assert body["cap_drop"] == ["ALL"], name
    if GPU in extra:
        devices = resolved["evaluate-gpu"]["deploy"]["resources"]["reservations"]["devices"]
        assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
        assert set(resolved["evaluate-gpu"]["networks"]) == {"queue", "content"}
        assert resolved["dispatcher"]["environment"]["FITCHAIN_EVALUATE_QUEUE"] == "evaluate.gpu"
    if USERNS in extra:
        assert any(option.endswith("seccomp-evaluate.json") for option in resolved["evaluate"]["security_opt"])
        assert resolved["evaluate"]["environment"]["FITCHAIN_SANDBOX_MINIMUM"] == "full"


def test_a_setting_that_is_missing_is_named(compose_command: list[str], tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **REQUIRED}
    del environment["FITCHAIN_POOL"]
    run = subprocess.run(
        [*compose_command, "-f", str(FOLDER / BASE), "config"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert "address of the ValidatorPool contract, see compose/env.example" in run.stderr
