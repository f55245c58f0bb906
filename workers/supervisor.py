"""One process that runs several others as one: `fitchain-verifier worker all`.

It starts every child in a session of its own, hands on SIGTERM and SIGINT (once each, whoever pressed the
key), and restarts nothing: if one child ends, all are stopped and the whole ends with a code other than 0, so
that whoever supervises the supervisor (an init, an orchestrator) sees one thing that lives or does not.
Children die with it.
"""

from __future__ import annotations

import ctypes
import logging
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Child:
    """A process to run: its name for the log, its command line and its whole environment."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]


class Supervisor:
    """Runs children until a signal or the end of one of them; then stops all.

    `grace_seconds` is how long they may take to stop after SIGTERM before they are killed.
    """

    def __init__(self, children: Sequence[Child], *, grace_seconds: float) -> None:
        self._children = children
        self._grace_seconds = grace_seconds
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._asked: signal.Signals | None = None

    def run(self) -> int:
        """Start the children and wait. Returns 0 when a signal ended it and all stopped in order, else
        another code.

        Must be called from the main thread, since it takes over SIGTERM and SIGINT while it runs.
        """
        previous = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for child in self._children:
                self._start(child)
            ended = self._wait()
            return self._stop(ended)
        finally:
            self._kill()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self._asked = signal.Signals(number)

    def _start(self, child: Child) -> None:
        self._running[child.name] = subprocess.Popen(
            child.argv,
            env=dict(child.environment),
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
        )
        logger.info("started worker=%s pid=%d", child.name, self._running[child.name].pid)

    def _wait(self) -> str | None:
        """The name of the child that ended by itself, or None if a signal came first."""
        while self._asked is None:
            for name, process in self._running.items():
                if process.poll() is not None:
                    return name
            time.sleep(_POLL_SECONDS)
        return None

    def _stop(self, ended: str | None) -> int:
        code = 0
        if ended is not None:
            status = self._running[ended].returncode
            logger.error("worker=%s ended by itself with status=%d; stopping the others", ended, status)
            code = status if 0 < status < 128 else 1
        else:
            logger.info("stopping all workers after %s", self._asked.name if self._asked else "the end")
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_seconds
        for name, process in self._running.items():
            try:
                status = process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.error("worker=%s did not stop within %.0f s and is killed", name, self._grace_seconds)
                code = code or 1
            else:
                # A worker that SIGTERM ended before it had set up its handlers stopped in order too.
                if name != ended and status not in {0, -signal.SIGTERM}:
                    logger.warning("worker=%s stopped with status=%d", name, status)
        return code

    def _kill(self) -> None:
        """Whatever happened, nobody is left."""
        for process in self._running.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
