"""The page of a report: it says what the document says, and nothing that a stranger wrote does anything on it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.report import Report, ReportedScoring, SignedReport, render_html, wording
from tasks.report.page import confusions, matrix, ordered_metrics, scale, spans, verdict
from tests.tasks.reports import VERIFIER, evaluation, report

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """The elements and the text of a page; fails on elements that are not closed."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def count(self, tag: str, name: str = "") -> int:
        return sum(1 for found, attrs in self.elements if found == tag and name in (attrs.get("class") or "").split())


def plain_report(**changes: Any) -> Report:
    return report(**changes)


def test_page_says_what_the_document_says() -> None:
    document = report()
    page = Page(render_html(SignedReport(report=document, signer=VERIFIER, signature="0x" + "ab" * 65)))
    for expected in (
        "Challenge 12 · model 3", "Passed", "0.750000", "at least 0.700000", VERIFIER, "QmModel", "QmData", "aa" * 32,
        document.sha256(), "0x" + "ab" * 65, "The last column holds the label.", "1,234 parameters", "64 → 3",
        "Log loss 0.500000", "AUC –", "tensorflow 2.21.0", "namespaces missing", "not permitted", "3.1 MiB", "300 ms",
    ):  # fmt: skip
        assert expected in page.text, expected


@pytest.mark.parametrize(
    ("changes", "word", "tone"),
    [
        ({}, "Passed", "good"),
        ({"passed": False}, "Failed", "bad"),
        ({"passed": None, "challenge": None}, "Evaluated", "plain"),
        ({"verdict": "invalid", "score": None, "rule": "forbidden-layer", "reason": "A Lambda."}, "Invalid", "bad"),
        ({"verdict": "unavailable", "score": None, "evaluation": None, "sandbox": None}, "No result", "none"),
    ],
)
def test_every_verdict_has_its_banner(changes: dict[str, Any], word: str, tone: str) -> None:
    document = report(**changes)
    page = Page(render_html(document))
    assert (verdict(document).word, verdict(document).tone) == (word, tone)
    assert word in page.text
    assert page.count("section", tone) == 1
    assert (document.reason or "") in page.text


@pytest.mark.parametrize(("classes", "numbers"), [(2, True), (16, True), (17, False), (46, False), (200, False)])
def test_matrix_grows_with_the_classes(classes: int, numbers: bool) -> None:
    source = render_html(report(evaluation(classes)))
    page = Page(source)
    assert page.count("td", "c") == 2 * classes
    assert page.count("td", "d") == classes
    shown = [attrs for tag, attrs in page.elements if tag == "td" and "title" in attrs]
    assert shown[0]["title"] == "true 0, predicted 0: 3"
    assert ('title="true 0, predicted 0: 3">3</td>' in source) == numbers


def test_regression_has_no_matrix() -> None:
    found = evaluation(
        task="regression", metric="rmse", value=2.5, score=2_500_000, metrics={"rmse": 2.5, "r2": 0.9}, classes=None,
        confusion=None, per_class=None, correct=None,
    )  # fmt: skip
    scoring = ReportedScoring(metric="rmse", pass_mark=3_000_000, higher_passes=False, tolerance=100)
    document = report(found, scoring=scoring)
    page = Page(render_html(document))
    assert "RMSE 2.500000 reaches the mark of at most 3.000000" in page.text
    assert page.count("table", "heat") == 0
    assert scale(document) is None


def test_page_needs_nothing_and_runs_nothing() -> None:
    source = render_html(report())
    page = Page(source)
    assert page.count("script") == 0
    assert not [attrs for _, attrs in page.elements if attrs.get("src") or any(name.startswith("on") for name in attrs)]
    links = [attrs.get("href") for _, attrs in page.elements if "href" in attrs]
    assert links == ["data:,"]
    assert "url(" not in source
    assert "@import" not in source
    policy = [attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0] is not None
    assert "default-src 'none'" in policy[0]
    assert 'name="viewport"' in source
    assert "prefers-color-scheme: dark" in source


HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'`{{7*7}}{% raw %}"


def test_no_foreign_text_becomes_markup() -> None:
    honest = Page(render_html(report()))
    found = evaluation(
        inferred=[HOSTILE], environment={HOSTILE: HOSTILE, "device": HOSTILE}, timings={HOSTILE: 1.0, "predict": 1.0},
        metrics={"accuracy": 0.75, "log_loss": 0.5, HOSTILE: 0.75, "auc": None},
        hashes={"model": HOSTILE, "data": HOSTILE},
    )  # fmt: skip
    document = report(
        found, job_id=HOSTILE, software=HOSTILE, created_at=HOSTILE, model_schema={HOSTILE: HOSTILE},
        data_schema={"uuid": HOSTILE}, timings={HOSTILE: 1.0},
    )  # fmt: skip
    page = Page(render_html(document))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in honest.elements]
    assert HOSTILE in page.text


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=80))
def test_any_text_can_be_shown(text: str) -> None:
    document = report(job_id=text, reason=text, rule=text, verdict="invalid", score=None)
    source = render_html(document)
    Page(source)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", source)


def test_confusions_are_the_largest_mistakes() -> None:
    found = evaluation(confusion=[[5, 1, 0], [3, 0, 0], [0, 2, 9]])
    assert [(cell.actual, cell.predicted, cell.count) for cell in confusions(found)] == [
        (1, 0, 3),
        (2, 1, 2),
        (0, 1, 1),
    ]
    assert matrix(found)[1][0].share == 1.0
    assert matrix(None) == []


def test_metrics_are_ordered_by_what_matters() -> None:
    found = evaluation(
        metric="log_loss", metrics={"a": 1.0, "f1": 0.5, "f1_macro": 0.5, "accuracy": 0.1, "log_loss": 2.0}
    )
    assert [name for name, _ in ordered_metrics(found)] == ["log_loss", "accuracy", "a", "f1_macro"]


def test_spans_leave_out_the_sum() -> None:
    parts = spans({"read_data": 1.0, "predict": 3.0, "total": 4.0})
    assert [(span.name, span.share) for span in parts] == [("read data", 0.25), ("predict", 0.75)]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (wording.score(675_127), "0.675127"),
        (wording.score(-1), "−0.000001"),
        (wording.score(12_345_678_901), "12,345.678901"),
        (wording.score(None), "–"),
        (wording.figure(0.675126903), "0.675127"),
        (wording.figure(1e-9), "1.0000e-09"),
        (wording.figure(123456.789), "123,456.789"),
        (wording.figure(float("inf")), "–"),
        (wording.figure(0.0), "0.000000"),
        (wording.seconds(0.0042), "4.2 ms"),
        (wording.seconds(0.42), "420 ms"),
        (wording.seconds(4.2), "4.20 s"),
        (wording.seconds(42.0), "42.0 s"),
        (wording.seconds(200.0), "3 min 20 s"),
        (wording.size(0), "0 bytes"),
        (wording.size(2048), "2.0 KiB"),
        (wording.size(5 * 1024**3), "5.0 GiB"),
        (wording.metric_name("f1_macro"), "F1, macro"),
        (wording.metric_name("top_5_accuracy"), "Top 5 accuracy"),
        (wording.plain("a\u202eb\x00c\nd"), "a�b�c\nd"),
    ],
)
def test_wording(written: str, expected: str) -> None:
    assert written == expected
