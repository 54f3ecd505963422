"""A worker keeps what became of each of its attempts."""

from __future__ import annotations

from collections.abc import Callable

from hookmill import Backoff, Delivery, Discard, Handlers
from hookmill.config.settings import Settings
from hookmill.message import Message
from hookmill.stream.attempts import Attempt
from hookmill.stream.history import History
from hookmill.stream.producer import Producer
from tests.support import eventually, message
from worker.app import Worker


async def attempts_of(stream: Producer, *tokens: str) -> list[list[Attempt]]:
    history = History(stream.client)
    return [await history.attempts("main", 0, token) for token in tokens]


async def test_a_worker_writes_each_attempt_with_its_handler_and_its_error(
    stream: Producer, settings: Callable[..., Settings]
) -> None:
    handlers = Handlers()
    runs = 0

    @handlers.on("order.*", name="book", attempts=3, backoff=Backoff(first=0.01))
    async def book(delivery: Delivery[Message]) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("the first one fails")

    @handlers.on("order.paid", name="mail")
    async def mail(delivery: Delivery[Message]) -> None:
        raise Discard("no address")

    worker = Worker(settings(), handlers, None)
    worker.start()
    try:
        await worker.opened.wait()
        one, two = [
            (await stream.append([message(id=event_type, type=event_type)]))[0]
            for event_type in ("order.made", "order.paid")
        ]
        await eventually(lambda: runs == 3)
    finally:
        await worker.stop(5.0)
    failed, done = (await attempts_of(stream, one))[0]
    assert (failed.kind, failed.handler, failed.attempt) == ("retry", "book", 1)
    assert failed.error.endswith("ValueError: the first one fails\n")
    assert (done.kind, done.attempt, done.worker) == ("done", 2, worker.consumer_name)
    assert failed.began_ms <= done.began_ms
    fanned_out, *others = (await attempts_of(stream, two))[0]
    assert (fanned_out.kind, fanned_out.handler) == ("fanned_out", "")
    assert {(one.kind, one.handler, one.reason) for one in others} == {
        ("done", "book", ""),
        ("discarded", "mail", "no address"),
    }


async def test_a_worker_with_a_history_of_0_keeps_none(
    stream: Producer, settings: Callable[..., Settings]
) -> None:
    handlers, ran = Handlers(), []

    @handlers.on("*")
    async def book(delivery: Delivery[Message]) -> None:
        ran.append(delivery.id)

    worker = Worker(settings(history=0), handlers, None)
    worker.start()
    try:
        await worker.opened.wait()
        (token,) = await stream.append([message(id="m")])
        await eventually(lambda: ran == ["m"])
    finally:
        await worker.stop(5.0)
    assert await attempts_of(stream, token) == [[]]
