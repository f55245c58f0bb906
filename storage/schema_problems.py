"""From pydantic's errors to one sentence about one field, with what to write instead.

Only the wording lives here; which values are good is said by the models of ``storage.schemas``.
"""

from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_HINTS: Final = {
    "uuid": 'write the identifier as text, for example "0x0123456789"',
    "type": 'write "keras" for a model, or a word such as "collection" for data',
    "input_signature": "write the text that the model's schema has, the same in both schemas",
    "stored_as": 'write "file", or the format itself, for example "h5"',
    "format": 'write the short name of a file format, for example "h5", "keras", "csv" or "parquet"',
    "location": 'write {"provider": "ipfs", "endpoint": "<CID>"} or a list of these',
    "provider": 'write "ipfs"',
    "endpoint": "write the CID of the file, for example QmZFwm… or bafybei…",
    "task": 'write "classification" or "regression"',
    "label": 'write an object such as {"column": "class", "classes": 10}',
    "column": "write the name of a column or its position, a whole number (-1 is the last)",
    "columns": "write a list of column names or positions",
    "classes": "write the number of classes, a whole number of at least 2",
    "features": 'write an object such as {"encoding": "numeric"}',
    "size": "write the width of the multi-hot vector, a whole number",
    "scale": "write the positive number by which values are divided",
    "shape": "write the shape of one row as positive whole numbers, for example [28, 28, 1]",
}
_ENCODINGS: Final = {
    "label": 'write "index", "one_hot", "binary" or "value"',
    "features": 'write "numeric" or "multi_hot"',
}
_MAX_SHOWN: Final = 60


def problem_of(error: ValidationError, *, single_location: bool) -> tuple[str, str]:
    """The path of the first bad field and the sentence about it.

    ``single_location``: the document gave one location as an object, so no index belongs into the path.
    """
    details = error.errors(include_url=False)[0]
    keys = list(details["loc"])
    if single_location and keys[:2] == ["location", 0]:
        del keys[1]
    path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")
    what = _what(details)
    hint = _hint([key for key in keys if isinstance(key, str)])
    return path, f"{what}; {hint}" if hint and "; write" not in what else what


def _hint(names: list[str]) -> str:
    if not names:
        return ""
    if names[-1] == "encoding" and len(names) > 1:
        return _ENCODINGS.get(names[-2], "")
    return _HINTS.get(names[-1], "")


def _what(details: ErrorDetails) -> str:
    kind = details["type"]
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(details["ctx"]["error"])
    shown = _shown(details["input"])
    if kind == "literal_error":
        return f"{shown} is not known"
    if kind in {"tuple_type", "list_type", "model_type", "too_short"}:
        return f"{shown} does not fit"
    message = details["msg"]
    return f"{shown} is refused: {message[:1].lower()}{message[1:]}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
