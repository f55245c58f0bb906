"""The dispatcher: reads what the accounts owe to the chain and enqueues it, tick after tick.

Level-triggered: there is no cursor and no memory between ticks. Whatever is owed and not leased is enqueued, so a lost
message, a dead worker, a restart or a reorg repairs itself on the next tick. What to do with an assignment is decided
in `workers.planning`; who is the active dispatcher in `workers.leadership`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import redis
from celery import Celery, Signature
from kombu.exceptions import OperationalError

from chain import Assignment, ValidatorPool, Verdict
from chain.errors import ChainError
from tasks.chains import commit_chain, commit_step, reveal_step, settle_step
from tasks.leases import Leases
from tasks.messages import Evaluated, Job, Refusal, StepLease
from tasks.reporting import refusal_report
from workers.leadership import Leadership
from workers.planning import Action, PlannedStep, PlanningRules, job_of, lease_seconds, order, plan

logger = logging.getLogger(__name__)

# A step that has been enqueued so often without success keeps killing its workers: abstain instead of trying again.
MOST_EVALUATIONS = 5


@dataclass(frozen=True)
class TickReport:
    """What one tick saw and did. `nearest_deadline` is Unix seconds of this host's clock."""

    active: bool
    assignments: int = 0
    owed: int = 0
    enqueued: tuple[PlannedStep, ...] = ()
    nearest_deadline: float | None = None
    seconds: float = 0.0
    failures: tuple[str, ...] = field(default=())


class Dispatcher:
    """Serves a set of accounts at one pool. `backlog` tells how many messages wait in the fetch and evaluate queues."""

    def __init__(
        self,
        *,
        app: Celery,
        pool: ValidatorPool,
        chain_id: int,
        accounts: Sequence[str],
        leases: Leases,
        leadership: Leadership,
        rules: PlanningRules,
        backlog: Callable[[], int],
        most_waiting: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._pool = pool
        self._chain_id = chain_id
        self._accounts = tuple(accounts)
        self._leases = leases
        self._leadership = leadership
        self._rules = rules
        self._backlog = backlog
        self._most_waiting = most_waiting
        self._clock = clock

    def run(self, stop: threading.Event, tick_seconds: float, on_tick: Callable[[TickReport], None]) -> None:
        """Tick until told to stop. A tick that fails is logged and the next one tries again."""
        while not stop.is_set():
            started = time.monotonic()
            try:
                on_tick(self.tick())
            except (ChainError, redis.RedisError, OperationalError) as error:
                logger.error("tick failed, trying again in %.0f s: %s", tick_seconds, error)
            stop.wait(max(0.1, tick_seconds - (time.monotonic() - started)))
        try:
            self.resign()
        except redis.RedisError as error:
            logger.warning("could not resign, a stand-by takes over when the lease ends: %s", error)

    def resign(self) -> None:
        """Let a stand-by take over at once. Raises redis.RedisError: it will when the claim has run out."""
        self._leadership.resign()

    def tick(self) -> TickReport:
        """Read, plan and enqueue once.

        Raises:
            ChainError: the chain cannot be read.
            redis.RedisError, kombu.exceptions.OperationalError: Redis does not answer.
        """
        started = time.monotonic()
        if not self._leadership.hold():
            return TickReport(active=False)
        steps, seen = self._owed()
        free = [step for step, held in zip(steps, self._held(steps), strict=True) if not held]
        enqueued = [step for step in self._within_backlog(free) if self._enqueue(step)]
        return TickReport(
            active=True,
            assignments=seen,
            owed=len(steps),
            enqueued=tuple(enqueued),
            nearest_deadline=min((step.deadline for step in steps if step.deadline is not None), default=None),
            seconds=time.monotonic() - started,
        )

    def _owed(self) -> tuple[list[PlannedStep], int]:
        steps: dict[str, PlannedStep] = {}
        seen = 0
        block = self._pool.latest_block()
        for account in self._accounts:
            for assignment in self._pool.assignments(account, block=block.number):
                seen += 1
                wall = self._clock()
                step = self._plan(assignment, account, chain_now=max(wall, block.timestamp), wall_now=wall)
                if step is not None:
                    steps.setdefault(step.lease_key, step)
        return order(steps.values()), seen

    def _plan(self, assignment: Assignment, account: str, *, chain_now: float, wall_now: float) -> PlannedStep | None:
        return plan(
            assignment,
            chain_id=self._chain_id,
            pool=self._pool.address,
            account=account,
            chain_now=chain_now,
            wall_now=wall_now,
            rules=self._rules,
        )

    def _held(self, steps: Sequence[PlannedStep]) -> list[bool]:
        return self._leases.held([step.lease_key for step in steps])

    def _within_backlog(self, steps: Sequence[PlannedStep]) -> list[PlannedStep]:
        """All submit steps, and as many evaluations as the queues have room for, most urgent first.

        What is held back stays owed and comes with a later tick: so queues stay short enough to be ordered by what is
        urgent now, not by what was urgent when it was enqueued.
        """
        room = self._most_waiting - self._backlog() if any(s.action is Action.EVALUATE for s in steps) else 0
        chosen = []
        for step in steps:
            if step.action is Action.EVALUATE:
                if room <= 0:
                    continue
                room -= 1
            chosen.append(step)
        return chosen

    def _enqueue(self, step: PlannedStep) -> bool:
        token = self._leases.acquire(step.lease_key, lease_seconds(step, self._clock(), self._rules))
        if token is None:
            return False
        step = self._give_up_on_poison(step)
        job = job_of(step).model_copy(update={"lease": StepLease(key=step.lease_key, token=token)})
        try:
            self._signature(step, job).apply_async()
        except OperationalError:
            self._leases.release(step.lease_key, token)
            raise
        logger.info("enqueued challenge=%d step=%s account=%s", step.ref.challenge_id, step.action, step.ref.account)
        return True

    def _give_up_on_poison(self, step: PlannedStep) -> PlannedStep:
        if step.action is not Action.EVALUATE or self._leases.count_attempt(step.lease_key) <= MOST_EVALUATIONS:
            return step
        logger.error("abstaining challenge=%d after=%d evaluations", step.ref.challenge_id, MOST_EVALUATIONS)
        return replace(step, action=Action.ABSTAIN)

    def _signature(self, step: PlannedStep, job: Job) -> Signature:
        match step.action:
            case Action.EVALUATE:
                return commit_chain(job, app=self._app, priority=step.priority)
            case Action.ABSTAIN:
                return commit_step(abstention(job), app=self._app, priority=step.priority)
            case Action.REVEAL:
                return reveal_step(job, app=self._app, priority=step.priority)
            case Action.SETTLE:
                return settle_step(job, app=self._app, priority=step.priority)


def abstention(job: Job) -> Evaluated:
    """The vote of a job that could be neither fetched nor evaluated in its window."""
    refusal = Refusal(
        verdict=Verdict.UNAVAILABLE,
        rule="deadline",
        reason="the challenge could not be evaluated before its commit deadline",
    )
    return Evaluated(
        job=job,
        verdict=refusal.verdict,
        rule=refusal.rule,
        reason=refusal.reason,
        report=refusal_report(job, refusal),
    )
