"""The command `deploy`: putting the contracts on a chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.cli.options import AccountOption, AsJson, amount, duration


def deploy(
    out: Annotated[
        Path,
        typer.Option("--out", dir_okay=False, help="Where to write the record of the deployment (JSON)."),
    ] = Path("deployment.json"),
    stake_per_slot: Annotated[
        int,
        typer.Option(parser=amount, metavar="AMOUNT", help="Stake behind each assignment that a verifier holds."),
    ] = "0.1eth",  # type: ignore[assignment] # typer parses defaults as well
    minimum_share: Annotated[
        int,
        typer.Option(parser=amount, metavar="AMOUNT", help="Least share of a bounty that the pool accepts."),
    ] = "0.001eth",  # type: ignore[assignment]
    withdrawal_delay: Annotated[
        int,
        typer.Option(parser=duration, metavar="DURATION", help="From the request of a withdrawal to the money."),
    ] = "1d",  # type: ignore[assignment]
    minimum_window: Annotated[
        int, typer.Option(parser=duration, metavar="DURATION", help="Shortest time to commit, and to reveal.")
    ] = "1m",  # type: ignore[assignment]
    account: AccountOption = None,
    as_json: AsJson = False,
) -> None:
    """Deploy registry and validator pool, and say what to export."""
    from chain.challenges import PoolTerms
    from chain.deployment import deploy as deploy_contracts
    from workers.cli.output import emit, jsonable, note, stages
    from workers.cli.parts import ChainParts

    parts = ChainParts.load()
    signer = parts.signer(account)
    terms = PoolTerms(
        stake_per_slot_wei=stake_per_slot,
        minimum_share_wei=minimum_share,
        withdrawal_delay_seconds=withdrawal_delay,
        minimum_window_seconds=minimum_window,
    )
    with stages(f"Deploying from {signer.address}"):
        deployment = deploy_contracts(parts.w3, signer, terms=terms)
    deployment.save(out)
    note(f"Deployed on chain {deployment.chain_id} by {deployment.deployer}; the record is in {out}.")
    if as_json:
        emit(jsonable(deployment))
        return
    typer.echo(f"export FITCHAIN_REGISTRY={deployment.registry}")
    typer.echo(f"export FITCHAIN_POOL={deployment.pool}")
