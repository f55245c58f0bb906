"""The dispatcher as a process: built from the settings, kept alive while Redis or the chain are away, stopped
by signals.

`build_dispatcher` is the factory; `DispatcherService` runs what it makes. What a tick does is in
`workers.dispatcher`.
"""

from __future__ import annotations

import functools
import logging
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import redis
from web3 import Web3

from chain import ChainSettings, ValidatorPool, connect
from chain.errors import ChainError
from tasks.leases import Leases
from tasks.settings import TasksSettings
from workers.app import create_app
from workers.dispatcher import Dispatcher, TickReport
from workers.errors import RoleMisconfigured
from workers.leadership import Leadership
from workers.planning import PlanningRules
from workers.queues import backlog
from workers.settings import WorkersSettings

logger = logging.getLogger(__name__)

# A dispatcher whose last tick is older than so many ticks is taken for stuck.
BEAT_TICKS = 5
SHORTEST_BEAT_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 15.0
_POLL_SECONDS = 0.2


def leadership_name(chain_id: int, pool: str) -> str:
    """The name under which dispatchers of one chain and pool compete."""
    return f"{chain_id}:{pool.lower()}"


def beat_key(host: str) -> str:
    """Where the dispatcher of a host leaves a sign of life."""
    return f"dispatcher-beat:{host}"


def broker_client(settings: TasksSettings, *, timeout_seconds: float = 10.0) -> redis.Redis:
    """A client of the broker's Redis."""
    return redis.Redis.from_url(
        settings.broker_url.get_secret_value(),
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        health_check_interval=25,
    )


def served_accounts(chosen: Sequence[str], settings: WorkersSettings) -> tuple[str, ...]:
    """The accounts that a dispatcher serves, checksummed: those named, else those of FITCHAIN_ACCOUNTS.

    Raises:
        RoleMisconfigured: there is none, or one is no address.
    """
    accounts = tuple(chosen) or settings.accounts
    if not accounts:
        raise RoleMisconfigured(
            "a dispatcher needs to know whom it serves: set FITCHAIN_ACCOUNTS to your verifiers' addresses"
        )
    wrong = [account for account in accounts if not Web3.is_address(account)]
    if wrong:
        raise RoleMisconfigured(
            f"{wrong[0]!r} is no address: write 0x and 40 hexadecimal digits (mixed case: a correct checksum)"
        )
    return tuple(dict.fromkeys(str(Web3.to_checksum_address(account)) for account in accounts))


def build_dispatcher(
    chain: ChainSettings, tasks: TasksSettings, workers: WorkersSettings, *, accounts: Sequence[str] = ()
) -> Dispatcher:
    """Build a dispatcher from settings; asks the chain for its id and for the pool.

    Raises:
        RoleMisconfigured: no account to serve.
        ChainError: no endpoint answers, or the pool is not there.
    """
    served = served_accounts(accounts, workers)
    w3 = connect(chain)
    pool = ValidatorPool(w3, chain.pool or None)
    client = broker_client(tasks)
    leases = Leases(client)
    chain_id = int(w3.eth.chain_id)
    return Dispatcher(
        app=create_app(tasks, workers),
        pool=pool,
        chain_id=chain_id,
        accounts=served,
        leases=leases,
        leadership=Leadership(leases, leadership_name(chain_id, pool.address), seconds=workers.leader_seconds),
        rules=PlanningRules(
            commit_reserve_seconds=workers.commit_reserve_seconds,
            queued_lease_seconds=workers.queued_lease_seconds,
        ),
        backlog=functools.partial(backlog, client),
        most_waiting=workers.most_waiting,
    )


class DispatcherService:
    """Runs a dispatcher until SIGTERM or SIGINT. `build` makes it and may fail until the parts it needs are
    up.
    """

    def __init__(
        self,
        build: Callable[[], Dispatcher],
        *,
        broker: redis.Redis,
        tick_seconds: float,
        on_tick: Callable[[TickReport], None],
    ) -> None:
        self._build = build
        self._broker = broker
        self._tick_seconds = tick_seconds
        self._on_tick = on_tick
        self._stop = threading.Event()
        self._failure: Exception | None = None

    def run(self) -> None:
        """Run until a signal stops it. Must be called from the main thread.

        Raises:
            ChainError, WorkersError: something that does not pass by waiting keeps it from starting.
        """
        # The main thread only waits for signals: a handler that sets an event which its own thread waits for
        # can deadlock on the event's lock.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        try:
            thread = threading.Thread(target=self._work, name="dispatcher", daemon=True)
            thread.start()
            while thread.is_alive():
                if signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, _POLL_SECONDS) is not None:
                    self._stop.set()
                    thread.join()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            dispatcher = self._built()
            if dispatcher is not None:
                dispatcher.run(self._stop, self._tick_seconds, self._ticked)
        except Exception as error:  # noqa: BLE001 - carried to the main thread, which raises it
            self._failure = error

    def _built(self) -> Dispatcher | None:
        """The dispatcher; tries again while what is missing may come up. None if stopped meanwhile."""
        pause = 1.0
        while not self._stop.is_set():
            try:
                return self._build()
            except ChainError as error:
                if not error.transient:
                    raise
                logger.error("cannot start yet, trying again in %.0f s: %s", pause, error)
            self._stop.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        return None

    def _ticked(self, report: TickReport) -> None:
        # Without a sign of life the health check fails; that must not stop the work.
        with suppress(redis.RedisError):
            beat_seconds = max(SHORTEST_BEAT_SECONDS, BEAT_TICKS * self._tick_seconds)
            self._broker.set(beat_key(socket.gethostname()), "1", px=int(beat_seconds * 1000))
        self._on_tick(report)
