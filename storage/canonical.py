"""JSON in one canonical spelling, so that equal objects have equal bytes, and hence one CID.

Keys sorted by code point, no white space, UTF-8 without escapes where none is needed, no NaN or infinity, no
duplicate keys when reading. Numbers are spelled as Python spells them (shortest form that reads back the
same).
"""

import json
import re
from typing import Any

MAX_NESTING = 200
"""Levels of lists and objects in a document. Nothing that is published here needs more than a few."""

_TEXT_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def canonical_json(obj: Any) -> bytes:
    """The canonical bytes of an object made of dicts with text keys, lists, text, numbers, booleans and None.

    Raises ValueError for NaN, infinity and lone surrogates, TypeError for other types and for keys that are
    not text.
    """
    _check_keys(obj)
    text = json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def strict_json(text: str | bytes) -> Any:
    """Read JSON as RFC 8259 has it, without the liberties that Python takes.

    Raises ValueError with a sentence for broken JSON, duplicate keys, NaN and infinity, and nesting beyond
    reason.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 text: {error.reason} at byte {error.start}") from error
    refuse_deep_json(text)
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"broken JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error


def refuse_deep_json(text: str, *, most: int = MAX_NESTING) -> None:
    """Raise ValueError if parsing `text` as JSON would go deeper than `most` levels.

    To be asked before `json.loads` sees a stranger's text. Its parser recurses in C, and the guard against that is
    the process-wide recursion limit, which libraries raise far beyond what the stack holds (py_ecc, which web3
    imports, sets 100,000): then a few kilobytes of brackets end the process instead of raising RecursionError.
    """
    depth = 0
    for match in _TEXT_OR_BRACKET.finditer(text):
        mark = match[0]
        if mark in "[{":
            depth += 1
            if depth > most:
                raise ValueError(f"JSON is nested deeper than {most} levels")
        elif mark in "]}":
            depth -= 1


def _check_keys(obj: Any) -> None:
    """json.dumps would turn 1 and "1" into the same key; two objects must not share one spelling."""
    if isinstance(obj, dict):
        for key, value in obj.items():
            if not isinstance(key, str):
                raise TypeError(f"JSON keys are text, not {type(key).__name__}: {key!r}")
            _check_keys(value)
    elif isinstance(obj, list | tuple):
        for value in obj:
            _check_keys(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise ValueError(f"the key {key!r} occurs twice")
        out[key] = value
    return out


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
