"""The HTML report of the demonstration: an index of the challenges and the full report of every verifier.

The reports are read the way a stranger would read them: by the CID that the verifier revealed on chain, with the
signature checked against the account that voted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import jinja2

from chain import ChallengeEvent, Verdict, challenge_events
from tasks.report import SignedReport, render_html
from workers.demo.market import Ending
from workers.demo.world import ETHER, World
from workers.errors import DemoFailed

_TEMPLATE: Final = "demo.html.j2"


@dataclass(frozen=True)
class PublishedReport:
    """A report as found on IPFS: by whom, under which CID."""

    challenge_id: int
    verifier: str
    cid: str
    signed: SignedReport


@dataclass(frozen=True)
class Reports:
    """All reports of the demonstration."""

    published: tuple[PublishedReport, ...]

    def of(self, challenge_id: int) -> list[PublishedReport]:
        """Those of one challenge."""
        return [report for report in self.published if report.challenge_id == challenge_id]

    def seconds(self) -> dict[int, tuple[float, float]]:
        """Median seconds of fetch and of evaluation, by challenge."""
        found = {}
        for challenge_id in {report.challenge_id for report in self.published}:
            timings = [report.signed.report.timings for report in self.of(challenge_id)]
            found[challenge_id] = (
                median(timing.get("fetch", 0.0) for timing in timings),
                median(timing.get("evaluate", 0.0) for timing in timings),
            )
        return found


def collect_reports(world: World, endings: Sequence[Ending]) -> Reports:
    """Read every revealed report from IPFS and check its signature.

    Raises:
        DemoFailed: a report is signed by somebody else than the verifier who revealed it.
        StorageError, ReportInvalid, SignatureInvalid: it cannot be read, or is not what it should be.
    """
    published = []
    for ending in endings:
        for vote in ending.votes:
            if not vote.report_cid:
                continue
            signed = SignedReport.from_bytes(world.ipfs.get(vote.report_cid))
            if signed.verify().lower() != vote.verifier.lower():
                raise DemoFailed(f"the report {vote.report_cid} was not signed by {vote.verifier}, who revealed it")
            published.append(PublishedReport(ending.challenge.challenge_id, vote.verifier, vote.report_cid, signed))
    return Reports(tuple(published))


def write_page(folder: Path, world: World, endings: Sequence[Ending], reports: Reports) -> Path:
    """Write index and reports; return the path of the index."""
    folder.mkdir(parents=True, exist_ok=True)
    for report in reports.published:
        name = report_file(report.challenge_id, report.verifier)
        (folder / name).write_text(render_html(report.signed), encoding="utf-8")
    index = folder / "index.html"
    index.write_text(_index(world, endings, reports), encoding="utf-8")
    return index


def report_file(challenge_id: int, verifier: str) -> str:
    """Name of the page of one verifier's report."""
    return f"challenge-{challenge_id}-{verifier[2:10].lower()}.html"


def _index(world: World, endings: Sequence[Ending], reports: Reports) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["ether"] = lambda wei: f"{wei / ETHER:.4g}"
    return environment.get_template(_TEMPLATE).render(
        deployment=world.deployment,
        endings=endings,
        reports=reports,
        report_file=report_file,
        transactions={
            ending.challenge.challenge_id: _transactions(challenge_events(world.pool, ending.challenge.challenge_id))
            for ending in endings
        },
        seconds=reports.seconds(),
        verdicts=Verdict,
    )


def _transactions(events: Sequence[ChallengeEvent]) -> list[ChallengeEvent]:
    """One event a transaction: the first that tells what it did."""
    return list({event.transaction: event for event in reversed(events)}.values())[::-1]
