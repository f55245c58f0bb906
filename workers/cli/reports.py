"""The group `report`: reading the signed reports of verifiers, and holding them to their signatures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.errors import bad_input
from workers.cli.exits import ExitCode
from workers.cli.options import AsJson, examples

if TYPE_CHECKING:
    from tasks.report import ReportedChallenge, SignedReport

MOST_REPORT_BYTES = 16 * 1024**2

group = typer.Typer(name="report", no_args_is_help=True, help="Reports of verifications: show, verify.")

SourceArgument = Annotated[str, typer.Argument(metavar="CID|FILE", help="The report: its CID, or a JSON file.")]


@group.command(
    epilog=examples(
        "fitchain-verifier report show QmReport --html report.html",
        "fitchain-verifier report show report.json --json",
    )
)
def show(
    source: SourceArgument,
    html: Annotated[Path | None, typer.Option("--html", dir_okay=False, help="Where to write the page.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a report and write it as a page that needs nothing else."""
    from tasks.report import render_html
    from workers.cli.output import emit, err, out

    signed = _read(source)[0]
    if as_json:
        emit(signed.model_dump(mode="json"))
    target = html or (None if as_json else Path("report.html"))
    if target is not None:
        target.write_text(render_html(signed), encoding="utf-8")
        (err() if as_json else out()).print(str(target.absolute()), markup=False)


@group.command(
    epilog=examples(
        "fitchain-verifier report verify QmReport",
        "fitchain-verifier report verify report.json --on-chain --json",
    )
)
def verify(
    source: SourceArgument,
    on_chain: Annotated[
        bool, typer.Option("--on-chain", help="Also compare it with the vote that was revealed on chain.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a report's form and its signature: that the verifier that it names has signed exactly this.

    Exit code 1: it has not.
    """
    from chain.errors import SignatureInvalid
    from workers.cli.output import emit, facts_table, out

    signed, cid = _read(source)
    challenge = signed.report.challenge
    problems: list[str] = []
    try:
        signed.verify()
    except SignatureInvalid as error:
        problems.append(str(error))
    if on_chain and challenge is not None:
        problems += _differences(signed, challenge, cid)
    facts: dict[str, Any] = {
        "authentic": not problems,
        "verifier": challenge.verifier if challenge else None,
        "challenge": challenge.challenge_id if challenge else None,
        "verdict": signed.report.verdict,
        "score": signed.report.score,
        "problems": problems,
    }
    if as_json:
        emit(facts)
    else:
        shown = {**facts, "authentic": "no" if problems else "yes", "problems": "; ".join(problems)}
        out().print(facts_table({name: str(value) for name, value in shown.items() if value is not None}))
    raise typer.Exit(ExitCode.NEGATIVE if problems else ExitCode.OK)


def _read(source: str) -> tuple[SignedReport, str | None]:
    """A report from a file or from IPFS, and its CID if it was named by one.

    Raises:
        CommandError, TasksError: it is no report.
        StorageError: it could not be fetched.
    """
    from storage import Content, StorageSettings
    from tasks.report import SignedReport
    from workers.cli.output import stages

    path = Path(source).expanduser()
    if len(source) < 4096 and path.is_file():
        if path.stat().st_size > MOST_REPORT_BYTES:
            raise bad_input(f"{path} is too large for a report.")
        return SignedReport.from_bytes(path.read_bytes()), None
    with stages("Fetching the report"):
        content = Content.from_settings(StorageSettings())
        with content.open(source, max_bytes=MOST_REPORT_BYTES) as blob:
            return SignedReport.from_bytes(blob.path.read_bytes()), str(blob.cid)


def _differences(signed: SignedReport, challenge: ReportedChallenge, cid: str | None) -> list[str]:
    """What the chain says otherwise."""
    from workers.cli.parts import ChainParts

    number, report = challenge.challenge_id, signed.report
    votes = {vote.verifier.lower(): vote for vote in ChainParts.load().pool.votes(number)}
    vote = votes.get(challenge.verifier.lower())
    if vote is None:
        return [f"{challenge.verifier} does not judge challenge {number}"]
    if not vote.revealed:
        return [f"{challenge.verifier} has not revealed its vote on challenge {number}"]
    problems = []
    if vote.verdict.name.lower() != report.verdict:
        problems.append(f"on chain the verdict is {vote.verdict.name.lower()}")
    if vote.score != (report.score or 0):
        problems.append(f"on chain the score is {vote.score}")
    if cid is not None and vote.report_cid != cid:
        problems.append(f"on chain the report is {vote.report_cid or 'none'}")
    return problems
