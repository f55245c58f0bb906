"""The dispatcher against a real chain and a real Redis: what it enqueues, in which order, and after which loss."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from celery import Celery

from tasks.leases import Leases
from tasks.settings import TasksSettings
from tasks.wire import FETCH_QUEUE, submit_queue, wire_options
from tests.evm import TERMS, Evm, Market, anvil, valid
from workers.dispatcher import MOST_EVALUATIONS, Dispatcher
from workers.leadership import Leadership
from workers.planning import Action, PlanningRules

RULES = PlanningRules(commit_reserve_seconds=10, queued_lease_seconds=5)


@pytest.fixture(scope="module")
def deployed() -> Iterator[Market]:
    with anvil() as url:
        market = Market.open(Evm(url))
        market.publish('{"model": 1}')
        market.stake(3, slots=400)
        yield market


@pytest.fixture
def market(deployed: Market) -> Iterator[Market]:
    with deployed.evm.undone():
        yield deployed


class Bench:
    """A dispatcher with its queues in sight. Its clock is the chain's."""

    def __init__(self, market: Market, broker_url: str) -> None:
        self.market = market
        self.redis = redis.Redis.from_url(broker_url)
        self.leases = Leases(self.redis)
        self.app = Celery("test")
        self.app.conf.update(wire_options(TasksSettings(broker_url=broker_url)))
        self.shift = 0.0

    def dispatcher(self, *, accounts: list[str] | None = None, most_waiting: int = 1000) -> Dispatcher:
        return Dispatcher(
            app=self.app,
            pool=self.market.pool,
            chain_id=self.market.evm.chain_id,
            accounts=accounts or self.market.verifiers[:3],
            leases=self.leases,
            leadership=Leadership(self.leases, "test", seconds=60),
            rules=RULES,
            backlog=lambda: len(self.messages(FETCH_QUEUE)),
            most_waiting=most_waiting,
            clock=lambda: self.market.evm.now() + self.shift,
        )

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """What waits in a queue, all priorities, oldest first."""
        names = [queue, *(f"{queue}\x06\x16{priority}" for priority in (3, 6, 9))]
        found: list[dict[str, Any]] = []
        for name in names:
            found += [json.loads(raw) for raw in reversed(self.redis.lrange(name, 0, -1))]
        return found

    def forget_leases(self) -> None:
        for key in self.redis.scan_iter("lease:*evaluate*"):
            self.redis.delete(key)


@pytest.fixture
def bench(market: Market, broker_url: str) -> Bench:
    return Bench(market, broker_url)


def test_each_account_gets_its_chain_of_tasks_once(bench: Bench) -> None:
    bench.market.challenge()
    dispatcher = bench.dispatcher()

    first, second = dispatcher.tick(), dispatcher.tick()

    assert (first.assignments, first.owed, len(first.enqueued)) == (3, 3, 3)
    assert (second.assignments, second.owed, len(second.enqueued)) == (3, 3, 0)
    messages = bench.messages(FETCH_QUEUE)
    assert [message["headers"]["task"] for message in messages] == ["fetch"] * 3
    body = [json.loads(base64.b64decode(message["body"])) for message in messages]
    chains = [[link["task"] for link in reversed(embedded["chain"])] for _, _, embedded in body]
    assert chains == [["evaluate", "submit.commit"]] * 3
    queues = {embedded["chain"][0]["options"]["queue"] for _, _, embedded in body}
    assert queues == {submit_queue(account) for account in bench.market.verifiers[:3]}
    assert all("challenge 1" in message["headers"]["argsrepr"] for message in messages)


def test_what_is_lost_is_enqueued_again(bench: Bench) -> None:
    bench.market.challenge()
    dispatcher = bench.dispatcher()
    dispatcher.tick()
    bench.redis.flushall()
    assert len(dispatcher.tick().enqueued) == 3


def test_a_step_whose_worker_died_is_enqueued_again_when_its_lease_runs_out(bench: Bench) -> None:
    bench.market.challenge()
    dispatcher = bench.dispatcher(accounts=bench.market.verifiers[:1])
    assert len(dispatcher.tick().enqueued) == 1
    (key,) = bench.redis.scan_iter("lease:*evaluate*")
    bench.redis.pexpire(key, 50)
    time.sleep(0.1)
    assert len(dispatcher.tick().enqueued) == 1


def test_reveals_and_the_settlement_follow(bench: Bench) -> None:
    market = bench.market
    number = market.challenge()
    panel = market.panel(number)
    dispatcher = bench.dispatcher()
    for verifier in panel:
        market.commit(number, verifier, valid(5))
    assert {step.action for step in dispatcher.tick().enqueued} == {Action.REVEAL}
    assert all(len(bench.messages(submit_queue(verifier))) == 1 for verifier in panel)
    for verifier in panel:
        market.reveal(number, verifier, valid(5))
    settle = dispatcher.tick().enqueued
    assert [step.action for step in settle] == [Action.SETTLE]
    market.settle(number)
    assert dispatcher.tick().assignments == 0


def test_without_time_to_evaluate_it_abstains(bench: Bench) -> None:
    number = bench.market.challenge()
    bench.shift = TERMS.commit_seconds - 3
    enqueued = bench.dispatcher().tick().enqueued
    assert {step.action for step in enqueued} == {Action.ABSTAIN}
    for verifier in bench.market.panel(number):
        (message,) = bench.messages(submit_queue(verifier))
        assert message["headers"]["task"] == "submit.commit"


def test_a_step_that_keeps_killing_its_workers_ends_in_an_abstention(bench: Bench) -> None:
    bench.market.challenge()
    dispatcher = bench.dispatcher(accounts=bench.market.verifiers[:1])
    actions = []
    for _ in range(MOST_EVALUATIONS + 1):
        actions += [step.action for step in dispatcher.tick().enqueued]
        bench.forget_leases()
    assert actions == [Action.EVALUATE] * (MOST_EVALUATIONS + 1)
    tasks = [message["headers"]["task"] for message in bench.messages(submit_queue(bench.market.verifiers[0]))]
    assert tasks == ["submit.commit"]


def test_the_backlog_bounds_what_waits_and_the_most_urgent_go_first(bench: Bench) -> None:
    slow = replace(TERMS, commit_seconds=5000)
    numbers = [bench.market.challenge(terms) for terms in (slow, TERMS, slow)]
    enqueued = bench.dispatcher(accounts=bench.market.verifiers[:1], most_waiting=1).tick().enqueued
    assert [step.ref.challenge_id for step in enqueued] == [numbers[1]]


def test_only_one_dispatcher_is_active_and_a_stand_by_takes_over(bench: Bench) -> None:
    bench.market.challenge()
    active, standby = bench.dispatcher(), bench.dispatcher()
    assert active.tick().active
    assert not standby.tick().active
    active._leadership.resign()
    assert standby.tick().active


def test_two_that_are_active_at_once_enqueue_nothing_twice(bench: Bench) -> None:
    bench.market.challenge()
    one = bench.dispatcher()
    one.tick()
    for key in bench.redis.scan_iter("lease:dispatcher*"):
        bench.redis.delete(key)
    assert bench.dispatcher().tick().enqueued == ()
    assert len(bench.messages(FETCH_QUEUE)) == 3
