"""A topic of attempts: plain functions run in threads, which cannot be stopped."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from typing import Any

import pytest
import structlog

from hookmill import Delivery, Handlers
from hookmill.handlers import Next
from hookmill.message import Message, Progress
from tests.support import eventually
from tests.worker.attempts import OWNER, Paid, Try, entry
from worker.outcome import (
    Done,
    Requeued,
    RetryLater,
)


async def test_a_plain_function_runs_in_a_thread_with_the_context_of_its_message(
    handlers: Handlers[Any], attempt: Try
) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")
    seen: list[Any] = []

    @handlers.middleware
    async def of_the_tenant(delivery: Delivery[Any], call_next: Next) -> None:
        tenant.set("blue")
        await call_next(delivery)

    @handlers.on(Paid)
    def book(delivery: Delivery[Paid]) -> None:
        seen.extend([threading.current_thread().name, tenant.get()])
        seen.append(structlog.contextvars.get_contextvars())
        tenant.set("red")  # stays in the thread

    assert await attempt(entry(id="msg_1")) == Done("book")
    name, colour, bound = seen
    assert name.startswith("handler")
    assert colour == "blue"
    assert bound == {"id": "msg_1", "source": "qstash", "type": "order.paid"}
    assert tenant.get() == "blue"


async def test_a_plain_function_beyond_its_timeout_keeps_its_slot_and_is_done_when_it_ends_well(
    handlers: Handlers[Any], attempt: Try
) -> None:
    go_on = threading.Event()

    @handlers.on(Paid, timeout=0.01)
    def book(delivery: Delivery[Paid]) -> None:
        assert go_on.wait(10)

    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(attempt())
        await eventually(lambda: logs)
        assert not task.done()
        assert attempt.threads.running()
        go_on.set()
        assert await task == Done("book")
    assert [line["event"] for line in logs] == ["handler overruns its timeout in a thread"]
    await eventually(lambda: not attempt.threads.running())


async def test_a_plain_function_that_waits_for_a_thread_is_not_said_to_be_slow(
    handlers: Handlers[Any], attempt: Try
) -> None:
    go_on = threading.Event()

    @handlers.on(Paid, timeout=30)
    def slow(delivery: Delivery[Paid]) -> None:
        assert go_on.wait(10)

    @handlers.on("quick", timeout=0.01)
    def quick(delivery: Delivery[Message]) -> None:
        pass

    with structlog.testing.capture_logs() as logs:
        both = [asyncio.create_task(attempt()) for _ in range(2)]  # as many as there are threads
        third = asyncio.create_task(attempt(entry(event_type="quick")))
        await eventually(lambda: logs)
        go_on.set()
        assert await asyncio.gather(*both, third) == [Done("slow"), Done("slow"), Done("quick")]
    assert [line["event"] for line in logs] == ["handler waits for a thread: give it more"]


async def test_a_plain_function_that_was_requeued_before_it_began_never_begins(
    handlers: Handlers[Any], attempt: Try
) -> None:
    go_on = threading.Event()
    ran: list[str] = []

    @handlers.on(Paid)
    def book(delivery: Delivery[Paid]) -> None:
        ran.append(delivery.id)
        assert go_on.wait(10)

    tasks = [asyncio.create_task(attempt(entry(id=f"m{n}"))) for n in range(4)]
    await eventually(lambda: len(ran) == 2)
    attempt.attempter.expect_cancellation()
    for task in tasks:
        task.cancel()
    requeued = Requeued(Progress(owner=OWNER))
    assert await asyncio.gather(*tasks) == [requeued] * 4
    assert attempt.threads.running()  # two cannot be stopped
    go_on.set()
    await eventually(lambda: not attempt.threads.running())
    assert ran == ["m0", "m1"]


async def test_a_plain_function_that_returns_a_coroutine_has_not_handled_its_message(
    handlers: Handlers[Any], attempt: Try
) -> None:
    async def book(delivery: Delivery[Paid]) -> None:
        pytest.fail("it ran")

    def undeclared(delivery: Delivery[Paid]) -> Any:
        return book(delivery)

    handlers.on(Paid)(undeclared)
    outcome = await attempt()
    assert isinstance(outcome, RetryLater)
    assert outcome.reason == (
        "TypeError: the handler returned an awaitable: declare it with `async def`"
    )


async def test_a_partial_of_an_async_function_is_awaited(
    handlers: Handlers[Any], attempt: Try
) -> None:
    ran = []

    async def book(delivery: Delivery[Paid], *, currency: str) -> None:
        ran.append(currency)

    handlers.on(Paid, name="book")(functools.partial(book, currency="EUR"))
    assert await attempt() == Done("book")
    assert ran == ["EUR"]
