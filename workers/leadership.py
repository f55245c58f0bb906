"""One active dispatcher at a time, with stand-bys: a leased key in Redis.

Two that are active at once do no harm (each step has a lease of its own), so this only saves work; it is no fence.
"""

from __future__ import annotations

from tasks.leases import Leases


class Leadership:
    """The claim of one process to be the active dispatcher of a chain and pool."""

    def __init__(self, leases: Leases, name: str, *, seconds: float) -> None:
        self._leases = leases
        self._key = f"dispatcher:{name}"
        self._seconds = seconds
        self._token: str | None = None

    def hold(self) -> bool:
        """Become or stay the active one; false while another process is."""
        if self._token is not None and self._leases.claim(self._key, self._token, self._seconds):
            return True
        self._token = self._leases.acquire(self._key, self._seconds)
        return self._token is not None

    def resign(self) -> None:
        """Let a stand-by take over at once."""
        if self._token is not None:
            self._leases.release(self._key, self._token)
            self._token = None
