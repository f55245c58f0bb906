"""How long the queues are: kombu keeps one Redis list for each priority of a queue, so a length is a sum over
lists.

The length is of what waits; what workers have taken and not finished is in the hash `unacked`. Names and
separator are kombu's (a test holds this module to what kombu itself counts).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import redis
from kombu.transport.redis import Channel

from tasks.wire import (
    AD_HOC_PRIORITY,
    CHALLENGE_PRIORITY,
    EVALUATE_CPU_QUEUE,
    EVALUATE_GPU_QUEUE,
    FETCH_QUEUE,
    PATIENT_PRIORITY,
    URGENT_PRIORITY,
)

PRIORITIES = (URGENT_PRIORITY, AD_HOC_PRIORITY, CHALLENGE_PRIORITY, PATIENT_PRIORITY)
EVALUATION_QUEUES = (FETCH_QUEUE, EVALUATE_CPU_QUEUE, EVALUATE_GPU_QUEUE)

_SEPARATOR: str = Channel.sep
_BINDINGS = "_kombu.binding."


def lengths(client: redis.Redis, queues: Iterable[str]) -> dict[str, dict[int, int]]:
    """Waiting messages by queue and priority, in one round trip.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    names = list(queues)
    pipe = client.pipeline(transaction=False)
    for name in names:
        for priority in PRIORITIES:
            pipe.llen(_list_of(name, priority))
    counts = iter(pipe.execute())
    return {name: {priority: int(next(counts)) for priority in PRIORITIES} for name in names}


def backlog(client: redis.Redis) -> int:
    """Messages that wait for being fetched or evaluated.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    return sum(sum(by_priority.values()) for by_priority in lengths(client, EVALUATION_QUEUES).values())


def submit_queues(client: redis.Redis) -> list[str]:
    """The submit queues that this broker has ever seen, sorted."""
    keys = cast("Iterable[bytes]", client.scan_iter(match=f"{_BINDINGS}submit.*", count=500))
    return sorted(key.decode().removeprefix(_BINDINGS) for key in keys)


def in_hand(client: redis.Redis) -> int:
    """Messages that workers have taken and not yet finished."""
    return int(client.hlen("unacked"))


def _list_of(queue: str, priority: int) -> str:
    return queue if priority == 0 else f"{queue}{_SEPARATOR}{priority}"
