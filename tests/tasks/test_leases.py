"""Leases on a real Redis: one holder at a time, none for ever, and never taken from somebody else by mistake."""

from __future__ import annotations

import threading
import time

import pytest
import redis

from tasks.leases import Leases, beating

KEY = "31337:0xpool:1:evaluate:0xaccount"


@pytest.fixture
def leases(broker_url: str) -> Leases:
    return Leases(redis.Redis.from_url(broker_url))


def test_a_lease_has_one_holder(leases: Leases) -> None:
    token = leases.acquire(KEY, 30)
    assert token is not None
    assert leases.acquire(KEY, 30) is None
    assert leases.claim(KEY, token, 30)
    assert not leases.claim(KEY, "somebody-else", 30)


def test_of_many_that_ask_at_once_one_gets_it(leases: Leases) -> None:
    barrier = threading.Barrier(16)
    got: list[str | None] = []

    def ask() -> None:
        barrier.wait()
        got.append(leases.acquire(KEY, 30))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(token is not None for token in got) == 1


def test_a_lease_ends_by_itself(leases: Leases) -> None:
    leases.acquire(KEY, 0.05)
    time.sleep(0.1)
    assert leases.held([KEY]) == [False]
    assert leases.acquire(KEY, 30) is not None


def test_a_message_whose_lease_ran_out_takes_it_again_unless_a_newer_one_has_it(leases: Leases) -> None:
    old = leases.acquire(KEY, 0.05)
    assert old is not None
    time.sleep(0.1)
    assert leases.claim(KEY, old, 0.05)
    time.sleep(0.1)
    new = leases.acquire(KEY, 30)
    assert new is not None
    assert not leases.claim(KEY, old, 30)
    assert not leases.release(KEY, old)
    assert leases.held([KEY]) == [True]


def test_release_frees_only_ones_own(leases: Leases) -> None:
    token = leases.acquire(KEY, 30)
    assert token is not None
    assert not leases.release(KEY, "somebody-else")
    assert leases.release(KEY, token)
    assert leases.held([KEY, "other"]) == [False, False]
    assert leases.held([]) == []


def test_attempts_are_counted_over_all_and_forgotten_on_success(leases: Leases) -> None:
    assert [leases.count_attempt(KEY) for _ in range(3)] == [1, 2, 3]
    leases.forget_attempts(KEY)
    assert leases.count_attempt(KEY) == 1


def test_a_beat_keeps_a_lease_beyond_its_time_and_ends_with_the_work(leases: Leases) -> None:
    token = leases.acquire(KEY, 0.2)
    assert token is not None
    with beating(lambda: leases.claim(KEY, token, 0.2), 0.05):
        time.sleep(0.6)
        assert leases.held([KEY]) == [True]
    time.sleep(0.3)
    assert leases.held([KEY]) == [False]


def test_a_beat_that_fails_does_not_stop_the_work_or_the_next_beat() -> None:
    beats: list[int] = []

    def beat() -> None:
        beats.append(1)
        raise redis.ConnectionError("gone")

    with beating(beat, 0.02):
        time.sleep(0.2)
    assert len(beats) > 2
