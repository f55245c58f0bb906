"""The report as a document: canonical, signed, bounded, and described by the published schema."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.accounts import LocalSigner
from chain.errors import SignatureInvalid
from tasks.errors import ReportInvalid
from tasks.report import ReportedChallenge, SignedReport, sign
from tasks.report.schema import PUBLISHED, main, report_schema
from tests.tasks.reports import POOL, evaluation, report

KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"


@pytest.fixture(scope="module")
def signer() -> LocalSigner:
    return LocalSigner.from_key(KEY)


def test_canonical_bytes_do_not_depend_on_order() -> None:
    first = report(model_schema={"a": 1, "b": 2})
    second = report(model_schema={"b": 2, "a": 1})
    assert first.canonical() == second.canonical()
    assert first.sha256() == hashlib.sha256(first.canonical()).hexdigest()
    assert first.sha256() != report(job_id="job-2").sha256()


def test_signed_report_survives_publication(signer: LocalSigner) -> None:
    signed = sign(report(), signer)
    again = SignedReport.from_bytes(signed.to_bytes())
    assert again == signed
    assert again.to_bytes() == signed.to_bytes()
    assert again.verify() == signer.address


@pytest.mark.parametrize(
    "change",
    [
        {"score": 750_001},
        {"verdict": "invalid"},
        {"job_id": "job-2"},
        {"rule": "added"},
        {"evaluation": evaluation(correct=8)},
        {"challenge": ReportedChallenge(chain_id=1, pool=POOL, challenge_id=12, model_id=3, verifier="0x" + "00" * 20)},
    ],
)
def test_any_change_breaks_the_signature(signer: LocalSigner, change: dict[str, Any]) -> None:
    signed = sign(report(), signer)
    forged = signed.model_copy(update={"report": signed.report.model_copy(update=change)})
    with pytest.raises(SignatureInvalid):
        forged.verify()


def test_somebody_else_cannot_sign(signer: LocalSigner) -> None:
    other = LocalSigner.from_key("0x" + "11" * 32)
    with pytest.raises(SignatureInvalid, match="speaks for"):
        sign(report(), other).verify()


def test_ad_hoc_reports_are_not_signed(signer: LocalSigner) -> None:
    with pytest.raises(ReportInvalid, match="nothing to sign for"):
        sign(report(challenge=None), signer)
    with pytest.raises(SignatureInvalid, match="not signed"):
        SignedReport(report=report(challenge=None)).verify()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"not json", "broken JSON"),
        (b'{"report": {"version": 2}}', "version"),
        (b"[]", "report"),
        (b'{"report": NaN}', "NaN"),
        (b'{"report": {}, "report": {}}', "twice"),
        (b"\xff", "UTF-8"),
    ],
)
def test_other_documents_are_refused_in_words(document: bytes, message: str) -> None:
    with pytest.raises(ReportInvalid, match=message):
        SignedReport.from_bytes(document)


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
)
def test_no_document_crashes_the_reader(document: bytes) -> None:
    with pytest.raises(ReportInvalid):
        SignedReport.from_bytes(document)


@pytest.mark.parametrize("classes", [3, 46, 200])
def test_small_enough_reports_stay_whole(classes: int) -> None:
    whole = report(evaluation(classes))
    assert whole.fitted(10**7) is whole


def test_tables_go_before_anything_that_the_verdict_rests_on() -> None:
    whole = report(evaluation(200))
    sizes, notes = [], []
    for limit in (60_000, 30_000, 4_000, 1_000):
        fitted = whole.fitted(limit)
        sizes.append(len(fitted.canonical()))
        notes.append(len(fitted.notes))
        assert (fitted.score, fitted.verdict, fitted.challenge) == (whole.score, whole.verdict, whole.challenge)
        assert fitted.evaluation is not None
        assert fitted.evaluation.metrics == evaluation(200).metrics
    assert sizes == sorted(sizes, reverse=True)
    assert all(size <= limit for size, limit in zip(sizes[:3], (60_000, 30_000, 4_000), strict=True))
    assert notes == sorted(notes)
    shortened = report(evaluation(200, confusion=None)).fitted(15_000)
    assert shortened.evaluation is not None
    assert shortened.evaluation.per_class is not None
    assert len(shortened.evaluation.per_class) == 100
    assert shortened.notes == ["The table of classes holds the 100 largest of 200."]


def test_large_schemas_go_last() -> None:
    fitted = report(model_schema={"uuid": "x" * 60_000}).fitted(16_384)
    assert fitted.model_schema is None
    assert len(fitted.canonical()) <= 16_384


def test_published_schema_is_up_to_date_and_describes_reports(signer: LocalSigner) -> None:
    assert PUBLISHED.read_text(encoding="utf-8") == report_schema(), "run: python -m tasks.report.schema"
    assert main(["--check"]) == 0
    schema = json.loads(report_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(sign(report(), signer).to_bytes())
    jsonschema.validate(document, schema)
    document["report"]["verdict"] = "perhaps"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)
