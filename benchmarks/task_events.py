"""What Celery's own events tell about the tasks of a cluster: when each was sent, received, started and done.

Times are those of the workers' clocks, which on one host is one clock. A benchmark listens in a thread of its own; the
workers send these events anyway, so listening changes nothing for them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from celery import Celery


@dataclass
class TaskLife:
    """One task: its name, its readable arguments, and Unix seconds of its stations (0: not reached)."""

    id: str
    name: str = ""
    about: str = ""
    sent: float = 0.0
    received: float = 0.0
    started: float = 0.0
    done: float = 0.0

    @property
    def queued(self) -> float:
        """When it was put into its queue: the sender notes it a moment after, and a quick worker may note it before."""
        return min(at for at in (self.sent, self.received) if at)


class TaskEvents:
    """The lives of all tasks since listening began, by id."""

    def __init__(self) -> None:
        self._lives: dict[str, TaskLife] = {}
        self._guard = threading.Lock()

    def lives(self, *, name: str | None = None, about: str | None = None) -> list[TaskLife]:
        """Tasks by name and by what their readable arguments contain, oldest first."""
        with self._guard:
            chosen = [
                life
                for life in self._lives.values()
                if (name is None or life.name == name) and (about is None or about in life.about)
            ]
        return sorted(chosen, key=lambda life: life.sent or life.received)

    def note(self, event: dict[str, Any]) -> None:
        """Take in one event."""
        kind, task = str(event.get("type", "")), event.get("uuid")
        if not kind.startswith("task-") or task is None:
            return
        with self._guard:
            life = self._lives.setdefault(str(task), TaskLife(str(task)))
            life.name = str(event.get("name") or life.name)
            life.about = str(event.get("args") or life.about)
            at = float(event["timestamp"])
            match kind:
                case "task-sent":
                    life.sent = at
                case "task-received":
                    life.received = at
                case "task-started":
                    life.started = at
                case "task-succeeded" | "task-failed":
                    life.done = at


@contextmanager
def listening(app: Celery) -> Iterator[TaskEvents]:
    """Listen to the events of a cluster while the body runs."""
    events = TaskEvents()
    ready = threading.Event()
    stop = threading.Event()
    thread = threading.Thread(target=_listen, args=(app, events, ready, stop), name="task-events", daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield events
    finally:
        stop.set()
        thread.join(5)


def _listen(app: Celery, events: TaskEvents, ready: threading.Event, stop: threading.Event) -> None:
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": events.note})
        with receiver.consumer_context() as (own, _, _):
            _drain(own, 0.1)  # the subscription is made by the first look
            ready.set()
            while not stop.is_set():
                _drain(own, 0.5)


def _drain(connection: Any, patience_seconds: float) -> None:
    with suppress(TimeoutError):
        connection.drain_events(timeout=patience_seconds)
