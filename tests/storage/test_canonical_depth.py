"""Deeply nested JSON is refused before the parser sees it, whatever recursion limit a library has set."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.canonical import MAX_NESTING, refuse_deep_json, strict_json


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_the_last_allowed_level_passes_and_the_next_does_not(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    for levels, fine in ((MAX_NESTING, True), (MAX_NESTING + 1, False)):
        text = opening * levels + "1" + closing * levels
        if fine:
            strict_json(text)
        else:
            with pytest.raises(ValueError, match=f"nested deeper than {MAX_NESTING} levels"):
                strict_json(text)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps("[" * 5000),
        json.dumps({"{[" * 500 + '"\\': '\\"[[[' * 500}),
        "[" + ",".join(["[]"] * 5000) + "]",
        '"\\\\"' + ' "' + "[" * 5000,  # an open text swallows the rest, for the parser as well
    ],
    ids=["brackets in text", "quotes in text", "wide", "open text"],
)
def test_what_is_not_nested_is_let_through(text: str) -> None:
    refuse_deep_json(text)


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_the_depth_is_that_of_the_document(document: object) -> None:
    def depth(value: object) -> int:
        if isinstance(value, dict):
            return 1 + max(map(depth, value.values()), default=0)
        return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0

    text, levels = json.dumps(document, ensure_ascii=False), depth(document)
    refuse_deep_json(text, most=levels)
    if levels:
        with pytest.raises(ValueError, match="nested deeper"):
            refuse_deep_json(text, most=levels - 1)


def test_a_raised_recursion_limit_does_not_let_it_crash_the_process() -> None:
    program = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "sys.setrecursionlimit(10**6)\n"
        "from storage.canonical import strict_json\n"
        "try: strict_json('[' * 2_000_000)\n"
        "except ValueError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, f"JSON is nested deeper than {MAX_NESTING} levels")
