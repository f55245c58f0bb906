"""What the road adds to a challenge beyond its evaluation: from the block that opened it to the one that settled it.

Measured on a running cluster (dispatcher that ticks every half second, one fetch worker, two evaluate workers, a submit
worker of four processes for each of three verifiers, all on this host) with challenges of the reference example, k = 3.
*The road* is the time from opened to settled in which no evaluation of the challenge runs. Each is carried through
alone first, which gives the latency and its stages; then many are opened at once, which gives the throughput.

- Floor of the latency: *by hand*, the same seven transactions on the same chain in turns with ours, sent by accounts
  that know their vote, each wave as soon as the one before is mined. "N× by hand" is our time divided by its: what is
  above 1 are ticks, queues, signatures, journal and simulation. The road is below 1 where an evaluation ran while one
  would have waited for the next block anyway.
- Floor of the throughput: two workers that do nothing but evaluate. "Evaluating" is the share of the two workers' time
  that went into evaluations; 100 % would mean that the road costs no throughput at all.

Both on a chain that mines each transaction at once ("instant"), and on one with a block every second, where most is
waiting for blocks.

Stages follow each other without gaps: dispatch of fetch (opened until the first verifier's fetch is enqueued), fetch
(until the first evaluation starts), evaluate (until the third, which waits for one of two workers, has ended), commit
(sign, send, until the third is mined), dispatch of reveal (until the third is enqueued), reveal (publish the report,
send, until the third is mined), dispatch of settle, settle (until mined).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.bare_chain import BareChain, BlockWatch, watching_blocks
from benchmarks.by_hand import ByHand
from benchmarks.cluster import (
    BOUNTY_WEI,
    EVERY_SECOND,
    EVERY_TRANSACTION,
    SCORE,
    TERMS,
    Cluster,
    running_cluster,
)
from benchmarks.errors import WrongAnswer
from benchmarks.findings import Findings, Options, Table, seconds, spread, times
from benchmarks.measure import Sample, interleaved, ratio
from benchmarks.settings import BenchmarkSettings
from benchmarks.task_events import TaskEvents, TaskLife, listening
from chain import Phase
from chain.history import challenge_events
from compose.services import Mining
from workers.demo.world import EVALUATE_WORKERS, SLOT_STAKE_WEI, TICK_SECONDS

ROUNDS: Final = 10
AT_ONCE: Final = 30
_CONSUMER_AT_ONCE = 15
_OPEN_GAS = 3_000_000
_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 600.0
_CHAINS: Final = {"instant": EVERY_TRANSACTION, "1 s blocks": EVERY_SECOND}
_STAGES: Final = (
    "dispatch of fetch",
    "fetch",
    "evaluate",
    "commit",
    "dispatch of reveal",
    "reveal",
    "dispatch of settle",
    "settle",
)


@dataclass(frozen=True)
class Passage:
    """One challenge's time, in seconds: opened to settled, of that evaluating, and each stage."""

    total: float
    evaluating: float
    stages: tuple[float, ...]

    @property
    def road(self) -> float:
        """What is not evaluation."""
        return self.total - self.evaluating


@dataclass(frozen=True)
class Throughput:
    """Many challenges at once. `busy` is the share of the evaluate workers' time that went into evaluations;
    `evaluations` are those that ran, of which three a challenge are owed.
    """

    challenges: int
    span_seconds: float
    busy: float
    evaluations: int

    @property
    def per_minute(self) -> float:
        """Challenges settled a minute."""
        return 60 * self.challenges / self.span_seconds


class Observer:
    """A cluster, its events and its blocks: what is needed to tell a challenge's story."""

    def __init__(self, cluster: Cluster, events: TaskEvents, watch: BlockWatch) -> None:
        self.cluster = cluster
        self._events = events
        self._watch = watch
        self.passages: list[Passage] = []

    def carry_through(self, model: int) -> float:
        """Open one challenge and follow it to its end; its road in seconds."""
        number = self.cluster.challenge(model)
        self.wait([number])
        passage = self.passage(number)
        self.passages.append(passage)
        return passage.road

    def wait(self, numbers: Iterable[int]) -> None:
        """Wait until all are settled.

        Raises:
            WrongAnswer: one was settled with another score, or none in ten minutes.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        for number in numbers:
            while (challenge := self.cluster.world.pool.challenge(number)).phase is not Phase.SETTLED:
                if time.monotonic() > deadline:
                    raise WrongAnswer(f"challenge {number} is still not settled")
                time.sleep(_POLL_SECONDS)
            if challenge.score != SCORE:
                raise WrongAnswer(f"challenge {number} was settled with {challenge.score}, not {SCORE}")

    def passage(self, number: int) -> Passage:
        """The story of a settled challenge."""
        block = {event.name: event.block for event in challenge_events(self.cluster.world.pool, number)}
        opened, committed, revealed, settled = (
            self._watch.seen(block[name]) for name in ("ChallengeCreated", "Committed", "Revealed", "Settled")
        )
        runs = list({life.about: life for life in reversed(self._runs("evaluate", number))}.values())
        points = (
            opened,
            min(life.queued for life in self._lives("fetch", number)),
            min(life.started for life in runs),
            max(life.done for life in runs),
            committed,
            max(self._first_queued("submit.reveal", number)),
            revealed,
            min(life.queued for life in self._lives("submit.settle", number)),
            settled,
        )
        stages = tuple(later - earlier for earlier, later in itertools.pairwise(points))
        return Passage(settled - opened, covered(runs), stages)

    def throughput(self, numbers: list[int]) -> Throughput:
        """What the settled challenges, opened together, tell about the cluster."""
        pool = self.cluster.world.pool
        blocks = [{event.name: event.block for event in challenge_events(pool, number)} for number in numbers]
        started = min(self._watch.seen(block["ChallengeCreated"]) for block in blocks)
        ended = max(self._watch.seen(block["Settled"]) for block in blocks)
        runs = [life for number in numbers for life in self._runs("evaluate", number)]
        busy = sum(life.done - life.started for life in runs)
        share = busy / (EVALUATE_WORKERS * (ended - started))
        return Throughput(len(numbers), ended - started, share, len(runs))

    def _first_queued(self, name: str, number: int) -> list[float]:
        """When each account's first task of a name was enqueued: what is still leased may be enqueued again."""
        first: dict[str, float] = {}
        for life in self._lives(name, number):
            first[life.about] = min(life.queued, first.get(life.about, life.queued))
        return list(first.values())

    def _runs(self, name: str, number: int) -> list[TaskLife]:
        return [life for life in self._lives(name, number) if life.started and life.done]

    def _lives(self, name: str, number: int) -> list[TaskLife]:
        return self._events.lives(name=name, about=f"challenge {number} ·")


def run(options: Options) -> Findings:
    """Measure both chains, one after the other."""
    latency: dict[str, tuple[dict[str, Sample], list[Passage]]] = {}
    throughput: dict[str, Throughput] = {}
    for name, mining in _CHAINS.items():
        folder = options.folder / name.replace(" ", "-")
        latency[name], throughput[name] = measure(folder, mining, options)
    figures: dict[str, float] = {}
    for name, (samples, passages) in latency.items():
        key = name.replace(" ", "_")
        figures[f"{key}_road_seconds"] = samples["road"].median
        figures[f"{key}_by_hand_seconds"] = samples["by hand"].median
        figures[f"{key}_times_by_hand"] = ratio(samples["road"], samples["by hand"])
        total = Sample(tuple(passage.total for passage in passages))
        figures[f"{key}_total_times_by_hand"] = ratio(total, samples["by hand"])
        figures[f"{key}_total_seconds"] = total.median
        figures[f"{key}_challenges_per_minute"] = throughput[name].per_minute
        figures[f"{key}_evaluating_share"] = throughput[name].busy
        figures[f"{key}_evaluations_per_challenge"] = throughput[name].evaluations / throughput[name].challenges
    return Findings((_latency(latency), _stages(latency), _throughput(throughput)), figures)


def measure(
    folder: Path, mining: Mining, options: Options
) -> tuple[tuple[dict[str, Sample], list[Passage]], Throughput]:
    """Latency in turns with the same by hand, then throughput, on a cluster of its own."""
    example = BenchmarkSettings().example()
    with running_cluster(folder, example, mining=mining) as cluster:
        url = cluster.world.stack.url("chain")
        with listening(cluster.app) as events, watching_blocks(url) as watch:
            chain = BareChain(url)
            stake(cluster, chain, slots=AT_ONCE)
            observer = Observer(cluster, events, watch)
            by_hand = ByHand(chain, watch, cluster.example.data_schema)
            cluster.warm()
            model = cluster.register()
            for _ in range(2):  # the submit workers' first transactions are slower
                observer.carry_through(model)
            observer.passages.clear()
            subjects = {"road": lambda: observer.carry_through(model), "by hand": by_hand.run}
            samples = interleaved(options.rounds(ROUNDS), subjects)
            numbers = open_at_once(cluster, chain, model, 4 if options.quick else AT_ONCE)
            observer.wait(numbers)
            time.sleep(1)  # the last events are on their way
            return (samples, observer.passages), observer.throughput(numbers)


def stake(cluster: Cluster, chain: BareChain, *, slots: int) -> None:
    """Give the verifiers stake for so many open challenges, before their submit workers send anything."""
    for verifier in cluster.world.verifiers:
        chain.act_as(verifier, cluster.world.pool.deposit_call(slots * SLOT_STAKE_WEI))


def open_at_once(cluster: Cluster, chain: BareChain, model: int, count: int) -> list[int]:
    """Open challenges without waiting in between; their numbers."""
    pool, consumer = cluster.world.pool, chain.signer(_CONSUMER_AT_ONCE)
    call = pool.create_challenge_call(model, cluster.example.data_schema, TERMS, BOUNTY_WEI)
    sent = [chain.send(call, consumer, gas=_OPEN_GAS) for _ in range(count)]
    return [pool.created_challenge(chain.receipt(one)["transactionHash"]) for one in sent]


def covered(runs: list[TaskLife]) -> float:
    """Seconds during which at least one of the tasks ran."""
    total, until = 0.0, 0.0
    for life in sorted(runs, key=lambda one: one.started):
        total += max(0.0, life.done - max(life.started, until))
        until = max(until, life.done)
    return total


def _latency(latency: dict[str, tuple[dict[str, Sample], list[Passage]]]) -> Table:
    rows = []
    for name, (samples, passages) in latency.items():
        road, hand = samples["road"], samples["by hand"]
        total = Sample(tuple(passage.total for passage in passages))
        evaluating = Sample(tuple(passage.evaluating for passage in passages))
        rows.append(
            (f"{name}: opened → settled", seconds(total.median), spread(total), f"{times(ratio(total, hand))} by hand")
        )
        rows.append(("  of that evaluating", seconds(evaluating.median), spread(evaluating), ""))
        rows.append(("  the road", seconds(road.median), spread(road), f"{times(ratio(road, hand))} by hand"))
        rows.append(("  by hand", seconds(hand.median), spread(hand), ""))
    return Table(
        "One challenge alone (k = 3)",
        ("", "median", "lowest … highest", "ratio"),
        tuple(rows),
        f"{len(next(iter(latency.values()))[1])} rounds in turns; the dispatcher ticks every {TICK_SECONDS:g} s",
    )


def _stages(latency: dict[str, tuple[dict[str, Sample], list[Passage]]]) -> Table:
    rows = []
    for number, stage in enumerate(_STAGES):
        samples = [Sample(tuple(p.stages[number] for p in passages)) for _, passages in latency.values()]
        rows.append((stage, *(text for sample in samples for text in (seconds(sample.median), spread(sample)))))
    columns = ("stage", *(text for name in latency for text in (name, "lowest … highest")))
    return Table("Where one challenge's time goes", columns, tuple(rows))


def _throughput(throughput: dict[str, Throughput]) -> Table:
    rows = tuple(
        (
            name,
            str(found.challenges),
            seconds(found.span_seconds),
            f"{found.per_minute:.1f}",
            f"{100 * found.busy:.0f} %",
            f"{found.evaluations} ({TERMS.k * found.challenges} owed)",
        )
        for name, found in throughput.items()
    )
    return Table(
        f"Many challenges at once, {EVALUATE_WORKERS} evaluate workers",
        ("", "challenges", "first opened → last settled", "challenges/min", "evaluating", "evaluations"),
        rows,
        "three evaluations a challenge: each verifier does its own",
    )
