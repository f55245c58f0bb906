"""The lengths of queues, held to what kombu itself puts there and counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from celery import Celery

from tasks.settings import TasksSettings
from tasks.wire import EVALUATE_CPU_QUEUE, FETCH_QUEUE, submit_queue, wire_options
from workers.queues import PRIORITIES, backlog, in_hand, lengths, submit_queues

ACCOUNT = "0x" + "Ab" * 20


@pytest.fixture
def app(broker_url: str) -> Iterator[Celery]:
    made = Celery("queues", set_as_current=False)
    made.conf.update(wire_options(TasksSettings(broker_url=broker_url)))
    yield made
    made.close()


@pytest.fixture
def client(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as made:
        yield made


def send(app: Celery, queue: str, priority: int) -> None:
    app.send_task("anything", queue=queue, priority=priority)


def test_messages_are_counted_over_all_priorities(app: Celery, client: redis.Redis) -> None:
    for priority in PRIORITIES:
        for _ in range(priority + 1):
            send(app, FETCH_QUEUE, priority)
    send(app, EVALUATE_CPU_QUEUE, 5)  # between two steps: kombu rounds down to the lower one
    found = lengths(client, [FETCH_QUEUE, EVALUATE_CPU_QUEUE, "empty"])
    assert found[FETCH_QUEUE] == {priority: priority + 1 for priority in PRIORITIES}
    assert sum(found[EVALUATE_CPU_QUEUE].values()) == 1
    assert sum(found["empty"].values()) == 0
    with app.connection_for_read() as connection, connection.channel() as channel:
        counted = channel.queue_declare(FETCH_QUEUE, passive=True).message_count
    assert counted == sum(found[FETCH_QUEUE].values())


def test_the_backlog_leaves_out_what_is_only_to_be_submitted(app: Celery, client: redis.Redis) -> None:
    send(app, FETCH_QUEUE, 0)
    send(app, EVALUATE_CPU_QUEUE, 6)
    send(app, submit_queue(ACCOUNT), 0)
    assert backlog(client) == 2
    assert submit_queues(client) == [submit_queue(ACCOUNT)]


def test_what_was_taken_is_in_hand_and_no_longer_waits(app: Celery, client: redis.Redis) -> None:
    send(app, FETCH_QUEUE, 6)
    with app.connection_for_read() as connection, connection.channel() as channel:
        message = channel.basic_get(FETCH_QUEUE)
        assert message is not None
        assert (backlog(client), in_hand(client)) == (0, 1)
        message.ack()
    assert in_hand(client) == 0
