"""The script of the demonstration: each step in order, and the exit code at the end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from chain import Registry, ValidatorPool
from compose.local import LocalStack
from compose.services import Mining
from storage import IPFS
from workers.demo.market import (
    OFFERS,
    Ending,
    OpenChallenge,
    ending,
    open_challenge,
    publish_data,
    publish_model,
)
from workers.demo.page import collect_reports, write_page
from workers.demo.provider import TEST_DATA
from workers.demo.show import Journey, Stage, Step, result_table
from workers.demo.world import World, WorldBuilder, private_folder
from workers.errors import DemoFailed

BLOCK_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 300.0
POLL_SECONDS: Final = 0.2


def run_demo(folder: Path | None, keep: bool, console: Console) -> int:
    """Run it; returns 0 if every challenge ended as it should, else 1.

    Raises:
        DemoFailed, compose.errors.StackError, ChainError, StorageError: a part could not be started or used.
    """
    home = private_folder(folder)
    stage = Stage(console)
    mining = Mining(block_seconds=BLOCK_SECONDS, at_once=True)
    with LocalStack(home, mining=mining, keep=keep) as stack:
        # LocalStack is entered before the display, so that its own errors are printed on a clean screen.
        with stage.shown():
            world = _build(stack, stage)
            opened = _trade(world, stage, home)
            journeys = _watch(world, opened, stage)
        endings = [ending(world, challenge) for challenge in opened]
        with console.status("reading the published reports"):
            reports = collect_reports(world, endings)
            page = write_page(home / "report", world, endings, reports)
        console.print()
        console.print(result_table(endings, journeys, reports.seconds()))
        console.print(f"HTML report: {page}", soft_wrap=True, highlight=False)
        if keep:
            _print_addresses(console, world, home)
    return _verdict(console, endings)


def _build(stack: LocalStack, stage: Stage) -> World:
    builder = WorldBuilder(stack)
    with stage.step("start Redis (broker, cache), chain and IPFS node") as step:
        step.detail = " ".join(stack.url(part) for part in ("broker", "cache", "chain", "ipfs"))
    with stage.step("deploy Registry and ValidatorPool") as step:
        deployment = builder.deploy()
        step.detail = f"{deployment.registry} {deployment.pool}"
    with stage.step("create, fund and stake three verifier accounts") as step:
        verifiers = builder.verifiers(deployment)
        step.detail = " ".join(f"{address[:8]}…" for address in verifiers)
    with stage.step("start workers, dispatcher and Flower") as step:
        flower_url, flower_auth = builder.start_cluster(deployment, verifiers)
        step.detail = flower_url
    provider = builder.actor("provider")
    w3 = builder.w3
    return World(
        stack=stack,
        deployment=deployment,
        registry=Registry(w3, deployment.registry),
        pool=ValidatorPool(w3, deployment.pool),
        ipfs=IPFS(stack.url("ipfs")),
        provider=provider,
        consumer=builder.actor("consumer"),
        verifiers=verifiers,
        flower_url=flower_url,
        flower_auth=flower_auth,
        builder=builder,
    )


def _trade(world: World, stage: Stage, home: Path) -> list[OpenChallenge]:
    files = home / "files"
    files.mkdir(exist_ok=True)
    with stage.step("provider trains on handwritten digits") as step:
        _train(files, step)
    with stage.step("provider publishes three models, curator the test data") as step:
        data_schema = publish_data(world.ipfs, files / TEST_DATA)
        models = [publish_model(world, offer, files) for offer in OFFERS]
        step.detail = f"models {', '.join(map(str, models))}, data schema {data_schema}"
    with stage.step("wait until all workers are ready"):
        world.builder.wait_for_workers()
    with stage.step("consumer opens three challenges with a bounty") as step:
        opened = [open_challenge(world, offer, model, data_schema) for offer, model in zip(OFFERS, models, strict=True)]
        step.detail = ", ".join(f"{challenge.challenge_id}: {challenge.offer.title}" for challenge in opened)
    return opened


def _train(folder: Path, step: Step) -> None:
    command = [sys.executable, "-m", "workers.demo.provider", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as provider:
        last_lines: list[str] = []
        for line in provider.stdout or ():
            try:
                said = json.loads(line)
            except ValueError:
                last_lines = [*last_lines[-10:], line]
                continue
            step.detail, step.share = said["text"], said["share"]
        errors = provider.stderr.read() if provider.stderr else ""
    if provider.returncode != 0:
        raise DemoFailed(f"training failed (exit {provider.returncode}):\n{errors[-2000:]}")


def _watch(world: World, opened: list[OpenChallenge], stage: Stage) -> list[Journey]:
    started = time.monotonic()
    journeys = [Journey(challenge, started) for challenge in opened]
    stage.follow(journeys)
    with stage.step("verifiers fetch, evaluate, commit, reveal and settle"):
        while time.monotonic() - started < LONGEST_SECONDS:
            for journey in journeys:
                journey.see(world.pool.challenge(journey.opened.challenge_id), time.monotonic())
            if all("settled" in journey.reached for journey in journeys):
                return journeys
            time.sleep(POLL_SECONDS)
    missing = ", ".join(str(j.opened.challenge_id) for j in journeys if "settled" not in j.reached)
    raise DemoFailed(
        f"challenges {missing} were not settled within {LONGEST_SECONDS:.0f} s;"
        f" the logs are in {world.stack.folder}/logs"
    )


def _print_addresses(console: Console, world: World, home: Path) -> None:
    console.print("\nStill running:", style="bold")
    for address in world.stack.addresses():
        console.print(f"  {address.title:26} {address.url or address.log}", highlight=False)
    console.print(f"  {'Flower':26} {world.flower_url}  user:password {world.flower_auth}", highlight=False)
    console.print("\nTo use it from a shell:", style="bold")
    for name, value in world.builder.environment(world.deployment).items():
        console.print(f"  export {name}={value}", highlight=False, soft_wrap=True)
    console.print(f"\nTo stop it: {sys.executable} -m compose stop {home}", highlight=False, soft_wrap=True)


def _verdict(console: Console, endings: list[Ending]) -> int:
    wrong = [item for item in endings if not item.as_it_should]
    for item in wrong:
        console.print(
            f"challenge {item.challenge.challenge_id} ({item.opened.offer.title}) ended as"
            f" {item.challenge.verdict.name}, passed={item.challenge.passed}: not as it should",
            style="bold red",
        )
    return 1 if wrong else 0
