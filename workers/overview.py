"""The state of a cluster at one moment: queues, workers, running tasks, dispatcher, open assignments.

Read from the broker, from the workers themselves and, where a pool is configured, from the chain. What cannot
be read becomes a sentence in `notes`, since a status with a gap is worth more than none. How it is shown is
said elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import redis
from celery import Celery

from chain import Assignment, ChainSettings, Phase, ValidatorPool, connect
from chain.errors import ChainError
from chain.owed import owed_step
from tasks.wire import EVALUATE_CPU_QUEUE, EVALUATE_GPU_QUEUE, FETCH_QUEUE, submit_queue
from workers.queues import in_hand, lengths, submit_queues

ANSWER_SECONDS = 1.0
_LEADER_PREFIX = "lease:dispatcher:"


@dataclass(frozen=True)
class QueueState:
    """Messages that wait in a queue, in all and by priority (0 is served first), and the workers that serve
    it.
    """

    name: str
    waiting: int
    by_priority: dict[int, int]
    workers: tuple[str, ...]


@dataclass(frozen=True)
class RunningTask:
    """A task that a worker has taken. `seconds` is how long it has run (None: it has not begun)."""

    worker: str
    name: str
    id: str
    arguments: str
    seconds: float | None


@dataclass(frozen=True)
class WorkerState:
    """A worker that answers: its queues, its processes, how many tasks it has begun since it started."""

    name: str
    queues: tuple[str, ...]
    processes: int
    tasks: int


@dataclass(frozen=True)
class LeaderState:
    """The active dispatcher of a chain and pool, and the seconds after which a stand-by would take over."""

    name: str
    seconds_left: float


@dataclass(frozen=True)
class AssignmentState:
    """An open assignment of one of our accounts: phase, the step that it owes, seconds to its deadline."""

    account: str
    challenge_id: int
    model_id: int
    phase: str
    owes: str | None
    seconds_left: float | None
    share_wei: int


@dataclass(frozen=True)
class Overview:
    """All of it. `in_hand` counts messages that were taken and not yet finished."""

    queues: tuple[QueueState, ...]
    in_hand: int
    workers: tuple[WorkerState, ...]
    running: tuple[RunningTask, ...]
    leaders: tuple[LeaderState, ...]
    assignments: tuple[AssignmentState, ...]
    notes: tuple[str, ...]


class Observer:
    """Reads overviews. Connections are kept between them, so that watching costs little."""

    def __init__(self, app: Celery, broker: redis.Redis, chain: ChainSettings | None, accounts: Sequence[str]) -> None:
        self._app = app
        self._broker = broker
        self._chain = chain
        self._accounts = tuple(accounts)
        self._pool: ValidatorPool | None = None

    def read(self) -> Overview:
        """Look once.

        Raises:
            redis.RedisError: the broker does not answer: there is no cluster to speak of.
        """
        notes: list[str] = []
        with ThreadPoolExecutor(max_workers=5) as threads:
            active, reserved, served, stats = (
                threads.submit(self._ask, question) for question in ("active", "reserved", "active_queues", "stats")
            )
            open_ones = threads.submit(self._assignments, notes)
            workers = tuple(_workers(served.result(), stats.result()))
            now = time.time()
            running = (*_tasks(active.result(), now), *_tasks(reserved.result(), None))
            assignments = tuple(open_ones.result())
        return Overview(
            queues=tuple(self._queues(workers)),
            in_hand=in_hand(self._broker),
            workers=workers,
            running=running,
            leaders=tuple(self._leaders()),
            assignments=assignments,
            notes=tuple(notes),
        )

    def _ask(self, question: str) -> dict[str, Any]:
        """Ask all workers; each question waits for whoever answers within a second."""
        answer = getattr(self._app.control.inspect(timeout=ANSWER_SECONDS), question)()
        return cast("dict[str, Any]", answer or {})

    def _queues(self, workers: Sequence[WorkerState]) -> Iterator[QueueState]:
        names = [FETCH_QUEUE, EVALUATE_CPU_QUEUE, EVALUATE_GPU_QUEUE]
        submit = {submit_queue(account) for account in self._accounts} | set(submit_queues(self._broker))
        for name, by_priority in lengths(self._broker, [*names, *sorted(submit)]).items():
            serving = tuple(worker.name for worker in workers if name in worker.queues)
            yield QueueState(name, sum(by_priority.values()), by_priority, serving)

    def _leaders(self) -> Iterator[LeaderState]:
        for key in self._broker.scan_iter(match=_LEADER_PREFIX + "*", count=500):
            left = self._broker.pttl(key)
            if left > 0:
                name = key.decode() if isinstance(key, bytes) else str(key)
                yield LeaderState(name.removeprefix(_LEADER_PREFIX), left / 1000)

    def _assignments(self, notes: list[str]) -> list[AssignmentState]:
        if self._chain is None or not self._chain.pool:
            notes.append("FITCHAIN_POOL is not set: assignments are not shown.")
            return []
        if not self._accounts:
            notes.append("No account is configured (FITCHAIN_ACCOUNTS): assignments are not shown.")
            return []
        try:
            if self._pool is None:
                self._pool = ValidatorPool(connect(self._chain), self._chain.pool)
            block = self._pool.latest_block()
            now = max(time.time(), block.timestamp)
            found = [
                _assignment(account, one, now)
                for account in self._accounts
                for one in self._pool.assignments(account, block=block.number)
            ]
        except ChainError as error:
            self._pool = None
            notes.append(f"Assignments cannot be read: {error}")
            return []
        return sorted(found, key=lambda one: (one.seconds_left is None, one.seconds_left or 0.0, one.challenge_id))


def _assignment(account: str, assignment: Assignment, now: float) -> AssignmentState:
    phase, step = assignment.phase_at(now), owed_step(assignment, now)
    deadline = {Phase.COMMIT: assignment.commit_deadline, Phase.REVEAL: assignment.reveal_deadline}.get(phase)
    return AssignmentState(
        account=account,
        challenge_id=assignment.challenge_id,
        model_id=assignment.model_id,
        phase=phase.name.lower(),
        owes=step.value if step else None,
        seconds_left=None if deadline is None else deadline - now,
        share_wei=assignment.share_wei,
    )


def _workers(served: dict[str, Any], stats: dict[str, Any]) -> Iterator[WorkerState]:
    for name in sorted(served):
        told = stats.get(name) or {}
        yield WorkerState(
            name=name,
            queues=tuple(sorted(str(queue["name"]) for queue in served[name])),
            processes=int((told.get("pool") or {}).get("max-concurrency") or 0),
            tasks=sum(int(count) for count in (told.get("total") or {}).values()),
        )


def _tasks(answer: dict[str, Any], now: float | None) -> Iterator[RunningTask]:
    """Tasks as workers tell them; `now` None: those that have not begun."""
    for worker in sorted(answer):
        for task in answer[worker]:
            begun = task.get("time_start")
            seconds = None if now is None or begun is None else max(0.0, now - float(begun))
            arguments = str(task.get("args") or "")
            yield RunningTask(worker, str(task["name"]), str(task["id"]), arguments, seconds)
