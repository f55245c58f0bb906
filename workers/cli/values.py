"""Values as people write them on a command line, to and from the numbers of the protocol.

Amounts (`0.3eth`, `250gwei`, `1000wei`) and wei, durations (`90s`, `10m`, `2h`, `1d`) and seconds, marks and
scores and their units of 1e-6. Pure functions on exact decimals: a float never decides about money.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, InvalidOperation
from typing import Final

SCORE_UNITS: Final = 1_000_000
MOST_WEI: Final = 2**255

_WEI_BY_UNIT: Final = {"wei": 1, "gwei": 10**9, "eth": 10**18, "ether": 10**18}
_SECONDS_BY_UNIT: Final = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
# Python's default of 28 digits would round amounts that fit into 256 bits.
_EXACT = Context(prec=200)

_AMOUNT = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)\s*(?P<unit>[a-z]+)", re.IGNORECASE | re.ASCII)
_DURATION_PART = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>min|[smhd]|)", re.IGNORECASE | re.ASCII)


def parse_amount(text: str) -> int:
    """An amount of money in wei. The unit must be written, so that nobody pays 10^18 times too much by
    omission.

    Raises ValueError with a sentence.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no amount: write a number and its unit, for example 0.3eth, 250gwei or 1000wei")
    factor = _WEI_BY_UNIT.get(match["unit"].lower())
    if factor is None:
        raise ValueError(f"{match['unit']!r} is no unit of money: write eth, gwei or wei")
    wei = _EXACT.multiply(Decimal(match["number"]), factor)
    if wei >= MOST_WEI:
        raise ValueError(f"{text!r} is more than there is")
    if wei != wei.to_integral_value():
        raise ValueError(f"{text!r} is not a whole number of wei")
    return int(wei)


def format_amount(wei: int) -> str:
    """An amount as it is shown: in ether without loss, or in wei where ether would need more than nine
    decimals.
    """
    if wei != 0 and wei % 10**9:
        return f"{wei} wei"
    ether = _EXACT.scaleb(Decimal(wei), -18).normalize(_EXACT)
    return f"{ether:f} ETH"


def parse_duration(text: str) -> int:
    """A duration in whole seconds: `90`, `90s`, `10m`, `1h30m`, `2d`. Raises ValueError with a sentence."""
    stripped = text.strip()
    parts = list(_DURATION_PART.finditer(stripped))
    if not stripped or "".join(part[0] for part in parts).replace(" ", "") != stripped.replace(" ", ""):
        raise ValueError(f"{text!r} is no duration: write for example 90s, 10m, 1h30m or 2d")
    seconds = sum(Decimal(part["number"]) * _SECONDS_BY_UNIT[part["unit"].lower()] for part in parts)
    if seconds != int(seconds):
        raise ValueError(f"{text!r} is not a whole number of seconds")
    return int(seconds)


def format_duration(seconds: float) -> str:
    """A duration as it is shown: the two largest units that matter."""
    sign = "-" if seconds < 0 else ""
    left = abs(seconds)
    if left < 10:
        return f"{sign}{left:.1f} s"
    whole = round(left)
    if whole < 60:
        return f"{sign}{whole} s"
    for unit, size, smaller, small in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // small
            return f"{sign}{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{sign}{whole} s"


def parse_score(text: str) -> int:
    """A mark or a metric's value as an integer of 1e-6; more digits than that are refused, not rounded."""
    try:
        units = _EXACT.multiply(Decimal(text.strip()), SCORE_UNITS)
    except InvalidOperation:
        raise ValueError(f"{text!r} is no number: write for example 0.9") from None
    if not units.is_finite() or units != units.to_integral_value():
        raise ValueError(f"{text!r} has more than six decimals, which the chain does not keep")
    return int(units)


def format_score(units: int) -> str:
    """A score with its six decimals."""
    return f"{_EXACT.scaleb(Decimal(units), -6):.6f}"


def format_bytes(size: int) -> str:
    """A size in binary units."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def short_address(address: str) -> str:
    """An address short enough for a table, long enough to recognise."""
    return f"{address[:8]}…{address[-4:]}" if len(address) > 14 else address
