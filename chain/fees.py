"""What to offer for a unit of gas: pure decisions over what the chain asks, held under the operator's cap.

EIP-1559 where blocks have a base fee: twice the base fee plus a tip, which stays enough for six full blocks
in a row (https://eips.ethereum.org/EIPS/eip-1559); a plain gas price where they have none. A replacement
must raise both numbers by at least 12.5 %, the strictest rule among node implementations. All amounts are
wei per unit of gas.
"""

from dataclasses import dataclass

from chain.errors import FeeCapReached

_GWEI_WEI = 10**9
_RAISE_NUMERATOR, _RAISE_DENOMINATOR = 1125, 1000
_BASE_FEE_FACTOR = 2


@dataclass(frozen=True, slots=True)
class Market:
    """What the chain asks for now.

    Without a base fee it is a legacy chain, and `tip_wei` is the whole gas price.
    """

    base_fee_wei: int | None
    tip_wei: int


@dataclass(frozen=True, slots=True)
class Fees:
    """What an attempt offers: the most per unit of gas, and of that the tip; None for legacy transactions."""

    max_fee_wei: int
    tip_wei: int | None

    def fields(self) -> dict[str, int]:
        """The fee fields of an unsigned transaction; they decide its type."""
        if self.tip_wei is None:
            return {"gasPrice": self.max_fee_wei}
        return {"type": 2, "maxFeePerGas": self.max_fee_wei, "maxPriorityFeePerGas": self.tip_wei}


def opening_fees(market: Market, cap_wei: int) -> Fees:
    """Fees of a first attempt. Raises FeeCapReached if even the cap would not get it into a block."""
    asked = market.tip_wei if market.base_fee_wei is None else market.base_fee_wei
    if asked > cap_wei:
        raise FeeCapReached(
            f"Gas costs {_gwei(asked)} gwei now and FITCHAIN_MAX_FEE_GWEI allows {_gwei(cap_wei)}: nothing "
            f"was sent. "
            "It is tried again; raise the cap if a deadline is near."
        )
    most = min(cap_wei, _comfortable(market))
    return Fees(most, None if market.base_fee_wei is None else min(market.tip_wei, most))


def raised_fees(before: Fees, market: Market, cap_wei: int) -> Fees | None:
    """Fees of a replacement for an attempt that is stuck;

    None if no permitted replacement fits under the cap.
    """
    least = _raised(before.max_fee_wei)
    if least > cap_wei:
        return None
    most = min(cap_wei, max(least, _comfortable(market)))
    if before.tip_wei is None:
        return Fees(most, None)
    return Fees(most, min(most, max(_raised(before.tip_wei), market.tip_wei)))


def _comfortable(market: Market) -> int:
    """An offer that lasts for a while; never 0, which nodes refuse even where gas is free."""
    return max(1, (market.base_fee_wei or 0) * _BASE_FEE_FACTOR + market.tip_wei)


def _raised(amount: int) -> int:
    return max(amount + 1, -(-amount * _RAISE_NUMERATOR // _RAISE_DENOMINATOR))


def _gwei(amount_wei: int) -> str:
    return f"{amount_wei / _GWEI_WEI:.4g}"
