"""Benchmarks: what the cluster costs, each figure beside a floor that was measured in the same run.

`python -m benchmarks` runs all of them, `python -m benchmarks NAME…` some. Each module opens with what it measures,
against which floor, and what its ratios mean; `benchmarks/README.md` keeps the last figures. Nothing here asserts on
time: what must hold is tested in `tests`.

Every benchmark is a module with a function `run(options) -> Findings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Name on the command line → module.
BENCHMARKS: Final[Mapping[str, str]] = {
    "ad-hoc": "benchmarks.ad_hoc",
    "road": "benchmarks.road",
    "dispatch": "benchmarks.dispatch",
    "sandbox": "benchmarks.sandbox",
    "content": "benchmarks.content",
    "chain": "benchmarks.transactions",
}
