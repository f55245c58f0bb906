"""How figures and foreign text are written on a report's page. Pure functions from a value to a short text."""

from __future__ import annotations

import json
import math
import unicodedata
from typing import Any, Final

SCORE_UNITS: Final = 1_000_000
_HIDDEN_CATEGORIES: Final = ("Cc", "Cf", "Cs", "Co")
_MAX_TEXT: Final = 20_000

METRIC_NAMES: Final = {
    "auc": "AUC",
    "brier": "Brier score",
    "f1": "F1",
    "log_loss": "Log loss",
    "mae": "MAE",
    "mse": "MSE",
    "r2": "R²",
    "rmse": "RMSE",
}
# Of these a smaller figure is the better one, and no bar from 0 to 1 makes sense.
_UNBOUNDED: Final = frozenset({"log_loss", "mae", "mse", "rmse", "r2", "max_error", "mape"})


def metric_name(name: str) -> str:
    """The name of a metric for people: `balanced_accuracy` is *Balanced accuracy*, `f1_macro` is *F1, macro*."""
    for average in ("macro", "micro"):
        if name.endswith(f"_{average}"):
            return f"{metric_name(name.removesuffix(f'_{average}'))}, {average}"
    return METRIC_NAMES.get(name) or name.replace("_", " ").capitalize()


def is_share(name: str, value: float | None) -> bool:
    """Whether a metric is a share of 1, so that it can be drawn as a bar."""
    return name not in _UNBOUNDED and value is not None and 0 <= value <= 1


def figure(value: float | None) -> str:
    """A metric's value with six decimals, or in powers of ten where that hides it; a dash for None."""
    if value is None or not math.isfinite(value):
        return "–"
    if value != 0 and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.4e}"
    return f"{value:.6f}" if abs(value) < 1000 else f"{value:,.3f}"


def score(units: int | None) -> str:
    """A score of 1e-6 units as a decimal number, exactly."""
    if units is None:
        return "–"
    whole, rest = divmod(abs(units), SCORE_UNITS)
    return f"{'−' if units < 0 else ''}{whole:,}.{rest:06d}"


def share(value: float | None) -> str:
    """A number from 0 to 1 with three decimals; a dash for None."""
    return "–" if value is None else f"{value:.3f}"


def seconds(value: float) -> str:
    """A duration: `12 ms`, `1.24 s`, `3 min 20 s`."""
    if value < 0.9995:
        return f"{value * 1000:.1f} ms" if value < 0.00995 else f"{value * 1000:.0f} ms"
    if value < 119.95:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


def size(count: int) -> str:
    """A number of bytes: `3.1 MiB`."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def plain(text: Any) -> str:
    """Foreign text with everything that could disguise it made visible: control, format and direction characters."""
    shown = str(text)[:_MAX_TEXT]
    return "".join(
        "�" if unicodedata.category(character) in _HIDDEN_CATEGORIES and character not in "\n\t" else character
        for character in shown
    )


def pretty(document: Any) -> str:
    """A JSON document, indented."""
    return plain(json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True))
