"""The report as a document: what one evaluation found, in a form that others can check byte by byte.

The canonical bytes of a `Report` (`storage.canonical_json`) are what is hashed and signed; a `SignedReport` carries the
report beside the signature and is what gets published. The signature is EIP-712, see `chain.signatures`. Nothing that
tells about the operator's host beyond versions and processor features is in it: reports are public.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chain.accounts import Signer
from chain.challenges import Verdict
from chain.errors import SignatureInvalid
from chain.signatures import recover_report_signer, sign_report
from storage import canonical_json
from storage.canonical import strict_json
from tasks.errors import ReportInvalid
from tasks.evaluation.models import EvaluationResult
from tasks.sandbox.layers import Confinement

REPORT_VERSION: Final = 1
MOST_CLASSES_WHEN_SHORT: Final = 100

_Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ReportedChallenge(_Part):
    """The challenge that a report answers, and who answers."""

    chain_id: int
    pool: str
    challenge_id: int
    model_id: int
    verifier: str


class ReportedInput(_Part):
    """One file that was evaluated: its CID, its size in bytes, and the cache tier that had it."""

    cid: str
    size_bytes: int
    tier: str


class ReportedScoring(_Part):
    """The metric that became the score; mark, tolerance and score in units of 1e-6."""

    metric: str
    pass_mark: int | None
    higher_passes: bool
    tolerance: int


class Report(_Part):
    """What one evaluation found.

    `evaluation` is there unless the job was refused before any evaluation; then `rule` and `reason` say why.
    `timings` are seconds.
    """

    version: Literal[1] = REPORT_VERSION
    job_id: str
    created_at: str = Field(description="UTC, ISO 8601, whole seconds")
    software: str = Field(description="name and version of the program that made the report")
    challenge: ReportedChallenge | None = None
    model_schema: dict[str, Any] | None = None
    data_schema: dict[str, Any] | None = None
    model: ReportedInput | None = None
    data: ReportedInput | None = None
    scoring: ReportedScoring
    verdict: Literal["valid", "invalid", "unavailable"]
    score: int | None = None
    passed: bool | None = None
    rule: str | None = None
    reason: str | None = None
    evaluation: EvaluationResult | None = None
    sandbox: Confinement | None = None
    timings: dict[str, _Finite] = {}
    notes: list[str] = Field(default=[], description="what was left out of this document, and why")

    def fitted(self, max_bytes: int) -> Report:
        """This report, with its largest tables shortened or left out until it has at most `max_bytes`.

        What the verdict rests on is never left out; each omission is noted.
        """
        report = self
        for shorten in (_shorten_classes, _without_confusion, _without_classes, _without_schemas):
            if len(report.canonical()) <= max_bytes:
                break
            report = min(report, shorten(report), key=lambda candidate: len(candidate.canonical()))
        return report

    def canonical(self) -> bytes:
        """The bytes that are hashed and signed."""
        return canonical_json(self.model_dump(mode="json"))

    def sha256(self) -> str:
        """Hash of the canonical bytes, hexadecimal."""
        return hashlib.sha256(self.canonical()).hexdigest()


class SignedReport(_Part):
    """A report with the signature of the account that stands for it. Ad-hoc reports have neither."""

    report: Report
    signer: str | None = None
    signature: str | None = None

    def to_bytes(self) -> bytes:
        """The bytes that are published."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, document: bytes) -> SignedReport:
        """Read a published report, with or without its signature.

        Raises:
            ReportInvalid: it is not JSON, or not a report of a known version.
        """
        try:
            raw = strict_json(document)
            return cls.model_validate(raw if isinstance(raw, dict) and "report" in raw else {"report": raw})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ReportInvalid(f"this is no report of version {REPORT_VERSION}: {place}: {first['msg']}") from error
        except ValueError as error:
            raise ReportInvalid(f"a report is JSON, and this is not: {error}") from error

    def verify(self) -> str:
        """Check the signature and return the account that made it.

        Raises:
            SignatureInvalid: there is none, it is malformed, or somebody else than the verifier made it.
        """
        challenge = self.report.challenge
        if challenge is None or self.signature is None:
            raise SignatureInvalid("the report is not signed: only reports for a challenge are")
        made_by = recover_report_signer(
            self.signature,
            chain_id=challenge.chain_id,
            pool=challenge.pool,
            challenge_id=challenge.challenge_id,
            verdict=verdict_of(self.report),
            score=self.report.score or 0,
            report_sha256=self.report.sha256(),
        )
        if made_by.lower() != challenge.verifier.lower() or made_by.lower() != (self.signer or "").lower():
            raise SignatureInvalid(
                f"the signature was made by {made_by}, but the report speaks for {challenge.verifier}, or was changed"
            )
        return made_by


def sign(report: Report, signer: Signer) -> SignedReport:
    """Sign a report for its challenge.

    Raises:
        ReportInvalid: the report is for no challenge.
    """
    challenge = report.challenge
    if challenge is None:
        raise ReportInvalid(f"report {report.job_id} is for no challenge: there is nothing to sign for")
    signature = sign_report(
        signer,
        chain_id=challenge.chain_id,
        pool=challenge.pool,
        challenge_id=challenge.challenge_id,
        verdict=verdict_of(report),
        score=report.score or 0,
        report_sha256=report.sha256(),
    )
    return SignedReport(report=report, signer=signer.address, signature=signature)


def _shorten_classes(report: Report) -> Report:
    found = report.evaluation
    if found is None or found.per_class is None or len(found.per_class) <= MOST_CLASSES_WHEN_SHORT:
        return report
    largest = sorted(found.per_class, key=lambda row: (-row.support, row.label))[:MOST_CLASSES_WHEN_SHORT]
    note = f"The table of classes holds the {len(largest)} largest of {len(found.per_class)}."
    return _with(report, note, per_class=sorted(largest, key=lambda row: row.label))


def _without_confusion(report: Report) -> Report:
    if report.evaluation is None or report.evaluation.confusion is None:
        return report
    return _with(report, "The confusion matrix was left out: it is too large for a report.", confusion=None)


def _without_classes(report: Report) -> Report:
    if report.evaluation is None or report.evaluation.per_class is None:
        return report
    return _with(report, "The table of classes was left out: it is too large for a report.", per_class=None)


def _without_schemas(report: Report) -> Report:
    note = "The schemas were left out: they are too large for a report. The challenge on chain names them."
    notes = [*report.notes, note]
    return report.model_copy(update={"model_schema": None, "data_schema": None, "notes": notes})


def _with(report: Report, note: str, **changes: object) -> Report:
    evaluation = report.evaluation.model_copy(update=changes) if report.evaluation else None
    return report.model_copy(update={"evaluation": evaluation, "notes": [*report.notes, note]})


def verdict_of(report: Report) -> Verdict:
    """The verdict of a report as the chain counts it."""
    return Verdict[report.verdict.upper()]
