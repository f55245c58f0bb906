"""Leases: who works on a step right now, as expiring keys in Redis.

A step in flight holds `lease:{step key}` with a random token (`SET NX PX`). The dispatcher takes it when it enqueues
the step; the task claims it when it starts, extends it while it works and releases it by compare-and-delete. A worker
that dies lets the lease run out and the dispatcher enqueues the step again. A message whose lease belongs to a newer
token is superseded and does nothing. Losing a lease costs duplicate work, never a wrong vote: each step asks the chain
whether it is still owed before it acts.

The counters of attempts that bound crash loops live here too. What is owed is decided elsewhere (`chain.owed`).
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import redis

ATTEMPTS_KEPT_SECONDS = 7 * 24 * 3600
SHORTEST_LEASE_SECONDS = 5.0

# KEYS[1] lease; ARGV token, milliseconds. 1: ours (now or still); 0: somebody else's.
_CLAIM = """
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) return 1 end
if not holder then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1 end
return 0
"""

# KEYS[1] lease; ARGV token. Deletes only the lease that the token holds.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class Leases:
    """Expiring, token-guarded claims on steps. All durations are seconds.

    Raises `redis.RedisError` when Redis does not answer: a caller that cannot know whether it holds a lease must not
    assume that it does.
    """

    def __init__(self, client: redis.Redis, *, prefix: str = "lease:") -> None:
        self._redis = client
        self._prefix = prefix
        self._claim_script = client.register_script(_CLAIM)
        self._release_script = client.register_script(_RELEASE)

    def acquire(self, key: str, ttl: float) -> str | None:
        """Take a free lease and return its token; None while somebody holds it."""
        token = secrets.token_hex(12)
        taken = self._redis.set(self._prefix + key, token, nx=True, px=_milliseconds(ttl))
        return token if taken else None

    def claim(self, key: str, token: str, ttl: float) -> bool:
        """Make the lease ours for `ttl` more, unless another token holds it; whether it is ours now."""
        return bool(self._claim_script(keys=[self._prefix + key], args=[token, _milliseconds(ttl)]))

    def release(self, key: str, token: str) -> bool:
        """Free the lease if the token still holds it."""
        return bool(self._release_script(keys=[self._prefix + key], args=[token]))

    def rest(self, key: str, token: str, seconds: float) -> None:
        """Keep the step from being enqueued for a while (back-off after a failure), if the token still holds it."""
        self.claim(key, token, seconds)

    def held(self, keys: list[str]) -> list[bool]:
        """Which of the keys are leased now; one round trip for all."""
        if not keys:
            return []
        values = cast("list[bytes | None]", self._redis.mget([self._prefix + key for key in keys]))
        return [value is not None for value in values]

    def count_attempt(self, key: str) -> int:
        """Count one more attempt at a step, over all workers, and return how many there have been."""
        name = f"attempts:{key}"
        pipe = self._redis.pipeline()
        pipe.incr(name)
        pipe.expire(name, ATTEMPTS_KEPT_SECONDS)
        return int(pipe.execute()[0])

    def forget_attempts(self, key: str) -> None:
        """Start counting afresh: the step has succeeded."""
        self._redis.delete(f"attempts:{key}")


def bounded_lease(longest: float, deadline: float | None, now: float) -> float:
    """How long a claim may last: `longest`, but not more than a quarter of the time left until the deadline.

    So whatever is lost leaves time for other tries; at least 5 s, so that a beat can keep it alive.
    """
    if deadline is None:
        return longest
    return max(SHORTEST_LEASE_SECONDS, min(longest, (deadline - now) / 4))


@contextmanager
def beating(beat: Callable[[], object], interval_seconds: float) -> Iterator[None]:
    """Call `beat` every interval from a thread of its own while the body runs, and stop before leaving.

    An exception of the beat is not raised into the body: what keeps a claim alive must not kill the work that it
    guards. The claim then runs out, which costs duplicate work.
    """
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(interval_seconds):
            try:
                beat()
            except redis.RedisError:
                continue

    thread = threading.Thread(target=run, name="lease-beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
