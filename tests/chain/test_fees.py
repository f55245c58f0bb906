"""What is offered for gas: tables, and the two rules that always hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import FeeCapReached
from chain.fees import Fees, Market, opening_fees, raised_fees

CAP = 1_000


@pytest.mark.parametrize(
    ("market", "fees"),
    [
        (Market(100, 10), Fees(210, 10)),
        (Market(600, 10), Fees(CAP, 10)),  # twice the base fee is beyond the cap, the base fee is not
        (Market(CAP, 10), Fees(CAP, 10)),
        (Market(1, 5_000), Fees(CAP, CAP)),
        (Market(0, 0), Fees(1, 0)),
        (Market(None, 300), Fees(300, None)),
        (Market(None, CAP), Fees(CAP, None)),
    ],
)
def test_opening(market: Market, fees: Fees) -> None:
    assert opening_fees(market, CAP) == fees


@pytest.mark.parametrize("market", [Market(CAP + 1, 0), Market(None, CAP + 1)])
def test_above_the_cap_nothing_is_offered(market: Market) -> None:
    with pytest.raises(FeeCapReached, match="FITCHAIN_MAX_FEE_GWEI") as caught:
        opening_fees(market, CAP)
    assert caught.value.transient


@pytest.mark.parametrize(
    ("before", "market", "fees"),
    [
        (Fees(200, 10), Market(50, 10), Fees(225, 12)),
        (Fees(200, 10), Market(300, 40), Fees(640, 40)),  # the market moved further than the rule asks
        (Fees(800, 10), Market(600, 10), Fees(CAP, 12)),
        (Fees(889, 10), Market(1, 1), None),  # 12.5 % more would be 1,001
        (Fees(CAP, 10), Market(1, 1), None),
        (Fees(200, None), Market(None, 100), Fees(225, None)),
        (Fees(1, 0), Market(0, 0), Fees(2, 1)),
    ],
)
def test_raising(before: Fees, market: Market, fees: Fees | None) -> None:
    assert raised_fees(before, market, CAP) == fees


amounts = st.integers(0, 10**13)


@given(st.one_of(st.none(), amounts), amounts, st.integers(1, 10**13), st.lists(amounts, max_size=8))
def test_never_above_the_cap_and_every_replacement_is_one(
    base: int | None, tip: int, cap: int, later: list[int]
) -> None:
    try:
        fees = opening_fees(Market(base, tip), cap)
    except FeeCapReached:
        return
    for moved in later:
        assert 0 < fees.max_fee_wei <= cap
        assert (fees.tip_wei or 0) <= fees.max_fee_wei
        raised = raised_fees(fees, Market(None if base is None else moved, tip), cap)
        if raised is None:
            return
        assert raised.max_fee_wei * 1000 >= fees.max_fee_wei * 1125
        assert raised.tip_wei is None or raised.tip_wei * 1000 >= (fees.tip_wei or 0) * 1125
        fees = raised


def test_kind_of_transaction_follows_from_the_fields() -> None:
    assert Fees(5, None).fields() == {"gasPrice": 5}
    assert Fees(5, 2).fields() == {"type": 2, "maxFeePerGas": 5, "maxPriorityFeePerGas": 2}
