"""Checks of everything that this project needs around it: what `fitchain-verifier doctor` runs.

Each module looks at one neighbour (Redis, chain, content, keys, host) and returns `Check`s: what was found,
whether it will do, and what to do if not. Checks never raise for what they look at, and never change
anything.
"""

from workers.checks.model import Check, Status

__all__ = ["Check", "Status"]
