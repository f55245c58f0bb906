"""The report: what an evaluation found, as signed JSON for verifiers and as a page for people.

`document` defines the JSON and its signature, `page` renders it, `schema`
publishes its JSON Schema. Building one from a job is `tasks.reporting`.
"""

from tasks.report.document import (
    Report,
    ReportedChallenge,
    ReportedInput,
    ReportedScoring,
    SignedReport,
    sign,
)
from tasks.report.page import render_html

__all__ = [
    "Report",
    "ReportedChallenge",
    "ReportedInput",
    "ReportedScoring",
    "SignedReport",
    "render_html",
    "sign",
]
