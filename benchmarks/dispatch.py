"""One tick of the dispatcher over many open assignments: RPC calls, Redis commands and seconds.

Real contracts on a real chain with 1,000 open challenges (and 10,000), all assigned to one account, and a real Redis
as the broker; nobody consumes. Two kinds of tick:

- *first*: nothing is leased, every assignment is planned, leased and enqueued as a chain of three tasks. This happens
  once after an outage, and here with the bound on waiting messages lifted; the row *first, default bound* has it.
- *steady*: all is leased, nothing is enqueued. This is what every tick costs while the workers work.

Floors, in turns with them: *bare read*, the same pages of the same `eth_call` with nothing decoded; *bare enqueue*, the
same chains of tasks sent with nothing leased or planned. "N× bare" is the steady tick against the bare read, and the
first tick against bare read plus bare enqueue. RPC calls should be one a page of 100 and a few for the block.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import redis
from celery import Celery
from pydantic import SecretStr
from web3 import HTTPProvider
from web3.types import RPCEndpoint

from benchmarks.bare_chain import BareChain
from benchmarks.counting import RpcCounter, redis_commands
from benchmarks.errors import WrongAnswer
from benchmarks.findings import Findings, Options, Table, seconds, spread, times
from benchmarks.measure import Sample
from chain import Registry, Terms, ValidatorPool, deploy
from chain.calls import load_artifact
from chain.challenges import PoolTerms
from chain.connection import web3_for
from compose.local import LocalStack
from compose.services import CHAIN_ID
from tasks.chains import commit_chain
from tasks.leases import Leases
from tasks.settings import TasksSettings
from tasks.wire import wire_options
from workers.dispatcher import Dispatcher
from workers.leadership import Leadership
from workers.planning import PlannedStep, PlanningRules, job_of
from workers.queues import backlog
from workers.settings import WorkersSettings

ROUNDS: Final = 5
SIZES: Final = (1_000, 10_000)
_DEPLOYER, _CONSUMER, _VERIFIER = 0, 1, 2
_PAGE = 100
_SLOT_WEI = 10**15
_SCHEMA = '{"cid":"QmZFwmSaniaqGaw8r7PxYDBkkoTUbTibSsDpRetRrBFMKi"}'
_TERMS = Terms(
    k=1,
    metric="accuracy",
    pass_mark=600_000,
    higher_passes=True,
    tolerance=100,
    commit_seconds=24 * 3600,
    reveal_seconds=24 * 3600,
)
_GAS = 2_000_000
_BLOCK = 100
_FIRST, _BOUNDED, _STEADY = "first tick", "first tick, default bound", "steady tick"
_READ, _ENQUEUE = "bare read", "bare enqueue"


@dataclass
class Cost:
    """What one kind of work cost: seconds round by round; of the last round RPC calls by method, Redis commands, and
    steps enqueued.
    """

    taken: list[float] = field(default_factory=list)
    rpc: Counter[str] = field(default_factory=Counter)
    redis: int = 0
    enqueued: int = 0

    @property
    def seconds(self) -> Sample:
        """The rounds."""
        return Sample(tuple(self.taken))


class Bench:
    """A dispatcher with `count` open assignments before it, and its services."""

    def __init__(self, stack: LocalStack, count: int) -> None:
        self.count = count
        self._broker_url = stack.url("broker")
        self._redis = redis.Redis.from_url(self._broker_url)
        chain = BareChain(stack.url("chain"))
        pool = open_challenges(chain, count)
        self._account = chain.signer(_VERIFIER).address
        w3 = web3_for(stack.url("chain"))
        self._pool = ValidatorPool(w3, pool)
        self._counter = RpcCounter(w3)
        self._raw = HTTPProvider(stack.url("chain"))
        self._app = Celery("benchmarks", set_as_current=False)
        self._app.conf.update(wire_options(TasksSettings(broker_url=SecretStr(self._broker_url))))
        self._defaults = WorkersSettings(accounts=())
        self._dispatcher = self._new(0)
        self._steps: tuple[PlannedStep, ...] = ()
        self.costs: dict[str, Cost] = {name: Cost() for name in (_FIRST, _BOUNDED, _STEADY, _READ, _ENQUEUE)}

    def round(self) -> None:
        """One round of everything; the steady tick follows the first one, as it does in life."""
        self._anew(self._defaults.most_waiting)
        self._measure(_BOUNDED, self._tick)
        self._anew(self.count)
        self._measure(_FIRST, self._tick)
        self._measure(_STEADY, self._tick)
        self._measure(_READ, self._read_bare)
        self._measure(_ENQUEUE, self._enqueue_bare)
        if self.costs[_FIRST].enqueued != self.count or self.costs[_STEADY].enqueued:
            raise WrongAnswer(f"the first tick enqueued {self.costs[_FIRST].enqueued} of {self.count} steps")

    def _measure(self, name: str, work: Callable[[], int]) -> None:
        cost = self.costs[name]
        self._counter.taken()
        with redis_commands(self._broker_url) as processed:
            started = time.perf_counter()
            cost.enqueued = work()
            cost.taken.append(time.perf_counter() - started)
            cost.redis = processed()
        cost.rpc = self._counter.taken()

    def _anew(self, most_waiting: int) -> None:
        """Nothing leased, nothing waiting, and a dispatcher that has just started."""
        self._redis.flushall()
        self._dispatcher = self._new(most_waiting)

    def _new(self, most_waiting: int) -> Dispatcher:
        """A dispatcher as `workers.service` builds it, reading through the connection that is counted."""
        leases = Leases(self._redis)
        return Dispatcher(
            app=self._app,
            pool=self._pool,
            chain_id=CHAIN_ID,
            accounts=[self._account],
            leases=leases,
            leadership=Leadership(leases, "benchmark", seconds=600),
            rules=PlanningRules(
                commit_reserve_seconds=self._defaults.commit_reserve_seconds,
                queued_lease_seconds=self._defaults.queued_lease_seconds,
            ),
            backlog=lambda: backlog(self._redis),
            most_waiting=most_waiting,
        )

    def _tick(self) -> int:
        enqueued = self._dispatcher.tick().enqueued
        self._steps = enqueued or self._steps
        return len(enqueued)

    def _read_bare(self) -> int:
        contract = self._pool.w3.eth.contract(abi=load_artifact("ValidatorPool").abi)
        for start in range(0, self.count + 1, _PAGE):
            data = contract.encode_abi("assignments", args=[self._account, start, _PAGE])
            call = {"to": self._pool.address, "data": data}
            self._raw.make_request(RPCEndpoint("eth_call"), [call, "latest"])
        return 0

    def _enqueue_bare(self) -> int:
        for step in self._steps:
            commit_chain(job_of(step), app=self._app, priority=step.priority).apply_async()
        return len(self._steps)


def run(options: Options) -> Findings:
    """Measure each size on services of its own."""
    tables, figures = [], {}
    for count in (200,) if options.quick else SIZES:
        with LocalStack(options.folder / str(count), parts=("broker", "chain")) as stack:
            bench = Bench(stack, count)
            for _ in range(options.rounds(ROUNDS if count < SIZES[-1] else 3)):
                bench.round()
        tables.append(_table(count, bench.costs))
        figures.update({f"{count}_{name}": value for name, value in _figures(bench.costs).items()})
    return Findings(tuple(tables), figures)


def open_challenges(chain: BareChain, count: int) -> str:
    """Deploy, stake and open that many challenges, all of which fall to one account; the pool's address."""
    terms = PoolTerms(
        stake_per_slot_wei=_SLOT_WEI, minimum_share_wei=1, withdrawal_delay_seconds=60, minimum_window_seconds=5
    )
    deployment = deploy(chain.w3, chain.signer(_DEPLOYER), terms=terms)
    registry, pool = Registry(chain.w3, deployment.registry), ValidatorPool(chain.w3, deployment.pool)
    consumer = chain.signer(_CONSUMER)
    receipt = chain.do(registry.create_model_call(_SCHEMA), consumer, gas=_GAS)
    model = registry.created_model(receipt["transactionHash"])
    chain.do(pool.deposit_call(count * _SLOT_WEI), chain.signer(_VERIFIER), gas=_GAS)
    call = pool.create_challenge_call(model, _SCHEMA, _TERMS, 10)
    for _ in range(count // _BLOCK):
        with chain.one_block():
            sent = [chain.send(call, consumer, gas=_GAS) for _ in range(_BLOCK)]
        chain.receipt(sent[-1])
    if (opened := pool.number_of_assignments(chain.signer(_VERIFIER).address)) != count:
        raise WrongAnswer(f"{opened} challenges are open, not {count}")
    return pool.address


def _figures(costs: dict[str, Cost]) -> dict[str, float]:
    first, steady, read, enqueue = (costs[name].seconds.median for name in (_FIRST, _STEADY, _READ, _ENQUEUE))
    return {
        "first_tick_seconds": first,
        "steady_tick_seconds": steady,
        "bare_read_seconds": read,
        "bare_enqueue_seconds": enqueue,
        "first_tick_times_bare": first / (read + enqueue),
        "steady_tick_times_bare": steady / read,
        "first_tick_rpc_calls": costs[_FIRST].rpc.total(),
        "steady_tick_rpc_calls": costs[_STEADY].rpc.total(),
        "first_tick_redis_commands": costs[_FIRST].redis,
        "steady_tick_redis_commands": costs[_STEADY].redis,
    }


def _table(count: int, costs: dict[str, Cost]) -> Table:
    figures = _figures(costs)
    ratios = {_FIRST: times(figures["first_tick_times_bare"]), _STEADY: times(figures["steady_tick_times_bare"])}
    rows = tuple(
        (
            name,
            seconds(cost.seconds.median),
            spread(cost.seconds),
            ratios.get(name, ""),
            f"{cost.rpc.total()}",
            f"{cost.rpc['eth_call']}",
            f"{cost.redis:,}",
            f"{cost.enqueued:,}",
        )
        for name, cost in costs.items()
    )
    columns = ("", "median", "lowest … highest", "× bare", "RPC", "eth_call", "Redis", "enqueued")
    rounds = len(costs[_FIRST].taken)
    return Table(f"{count:,} open assignments of one account", columns, rows, f"{rounds} rounds, in turns")
