"""Amounts, durations and scores: what people write and what the protocol counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.cli.values import (
    format_amount,
    format_duration,
    format_score,
    parse_amount,
    parse_duration,
    parse_score,
)


@pytest.mark.parametrize(
    ("text", "wei"),
    [
        ("0.3eth", 3 * 10**17),
        ("1 ETH", 10**18),
        (".5ether", 5 * 10**17),
        ("250gwei", 250 * 10**9),
        ("7wei", 7),
        ("0eth", 0),
        ("0.000000000000000001eth", 1),
    ],
)
def test_amounts(text: str, wei: int) -> None:
    assert parse_amount(text) == wei


@pytest.mark.parametrize(
    "text", ["1", "", "eth", "-1eth", "1e3eth", "0.5wei", "1btc", "1eth2", "٣eth", "9" * 80 + "eth"]
)
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_amount(text)


@given(st.integers(0, 2**200))
def test_an_amount_shown_is_the_amount(wei: int) -> None:
    assert parse_amount(format_amount(wei).replace("ETH", "eth")) == wei


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("10min", 600), ("1h30m", 5400), ("2d", 172800), ("1.5h", 5400)],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "ten", "-5m", "5x", "0.3s", "10m!"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.2 s"),
        (9.96, "10.0 s"),
        (42, "42 s"),
        (61, "1 min 1 s"),
        (600, "10 min"),
        (5400, "1 h 30 min"),
        (-70, "-1 min 10 s"),
    ],
)
def test_durations_are_shown(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "units"), [("0.9", 900_000), ("0.675127", 675_127), ("-1.5", -1_500_000), ("1e-6", 1)]
)
def test_scores(text: str, units: int) -> None:
    assert parse_score(text) == units


@pytest.mark.parametrize("text", ["", "high", "nan", "inf", "0.0000001"])
def test_scores_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_score(text)


@given(st.integers(-(10**30), 10**30))
def test_a_score_shown_is_the_score(units: int) -> None:
    assert parse_score(format_score(units)) == units
