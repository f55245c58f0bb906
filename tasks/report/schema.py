"""The published JSON Schema of a report: `python -m tasks.report.schema` writes it, `--check` compares it.

The schema describes the signed document as it lies on IPFS. It follows from the models in `tasks.report.document`;
the file is there for those who read reports without this program.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from tasks.report.document import REPORT_VERSION, SignedReport

PUBLISHED: Final = Path(__file__).parents[2] / "docs" / "schemas" / f"report-{REPORT_VERSION}.json"


def report_schema() -> str:
    """The schema as indented JSON."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **SignedReport.model_json_schema(mode="serialization"),
        "title": f"Signed report of a verification, version {REPORT_VERSION}",
    }
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the published file, or with `--check` say whether it is what the models give."""
    if "--check" in arguments:
        same = PUBLISHED.is_file() and PUBLISHED.read_text(encoding="utf-8") == report_schema()
        sys.stdout.write(
            f"{PUBLISHED.name} is {'up to date' if same else 'out of date: python -m tasks.report.schema'}\n"
        )
        return 0 if same else 1
    PUBLISHED.parent.mkdir(parents=True, exist_ok=True)
    PUBLISHED.write_text(report_schema(), encoding="utf-8")
    sys.stdout.write(f"{PUBLISHED}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
