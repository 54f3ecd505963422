"""Nothing is lost in a rolling deploy, in which old and new handlers run side by side."""

from __future__ import annotations

import functools
from collections import Counter

import pytest

from hookmill import Delivery, Handlers, Message, Retry
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.producer import Producer
from tests.peers.view import View
from tests.peers.work import (
    LONG,
    MakeSettings,
    Work,
    names,
    send,
    working,
)
from tests.support import (
    dead_letters,
    eventually,
)
from worker import attempt


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "GRACE_STEP", 0.1)


def release(*types: str, suffix: str = "") -> tuple[Handlers[None], Counter[str]]:
    """A release of the user's code that knows these event types."""
    handlers = Handlers()
    ran: Counter[str] = Counter()

    async def note(delivery: Delivery[Message]) -> None:
        ran[delivery.id] += 1

    for event_type in types:
        handlers.on(event_type, name=f"{event_type}{suffix}")(note)
    return handlers, ran


async def test_what_the_old_release_does_not_know_waits_for_the_new_one(
    stream: Producer, settings: MakeSettings, view: View, quick_looks: None
) -> None:
    """chrisguidry/docket#437, #247: an old worker acknowledged and dropped the new tasks."""
    old, ran_by_old = release("known")
    new, ran_by_new = release("known", "new")
    async with working(settings(), old) as leaving:
        await send(stream, *names(20), type="new")
        await eventually(lambda: view.client.zcard(view.delayed), what="the old one to look")
        async with working(settings(), new):  # both at once, as in any rolling deploy
            looks = view.calls("zadd") + 20
            await eventually(lambda: ran_by_new or view.calls("zadd") >= looks)
            await leaving.stop(5)
            await eventually(lambda: len(ran_by_new) == 20)
            await view.drained()
    assert ran_by_new == Counter(names(20))
    assert not ran_by_old
    assert view.dead_letters() == []


async def test_a_retry_of_a_handler_that_the_old_release_lacks_waits_for_the_new_one(
    stream: Producer, settings: MakeSettings, view: View, quick_looks: None
) -> None:
    """chrisguidry/docket#437: the same for what the new release itself had put there."""
    old, ran_by_old = release("order")
    first = Handlers()
    tried: Counter[str] = Counter()

    @first.on("order", name="order-v2")
    async def try_once(delivery: Delivery[Message]) -> None:
        tried[delivery.id] += 1
        raise Retry(after=0.1)

    async with working(settings(), first) as worker:
        await send(stream, "m0", type="order")
        await eventually(lambda: tried)
        await worker.stop(5)
    async with working(settings(), old):
        looked = view.calls("zadd")
        await eventually(lambda: view.calls("zadd") >= looked + 2, what="two looks of the old one")
    new, ran_by_new = release("order", suffix="-v2")
    async with working(settings(), new):
        await eventually(lambda: ran_by_new)
        await view.drained()
    assert (ran_by_new, ran_by_old) == (Counter(["m0"]), Counter())


async def test_what_no_release_knows_is_neither_pending_for_ever_nor_gone(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """taskiq-python/taskiq#569: a task that was not found stayed pending in limbo.

    Its release 0.13 and docket acknowledge it instead, and it is gone.
    """
    handlers, _ = release("known")
    async with working(settings(grace=0), handlers):
        await send(stream, "m0", type="new")
        await eventually(view.dead_letters)
        await view.drained()
    handlers, ran = release("new")
    async with working(settings(), handlers):
        found = [one.id for one in await dead_letters(stream)]
        assert await DeadLetters(stream.client, "main").replay(found) == 1
        await eventually(lambda: ran)
        await view.drained()
    assert ran == Counter(["m0"])


async def test_workers_that_are_replaced_every_few_messages_leave_none_behind(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """taskiq-python/taskiq#556, #646: with --max-tasks-per-child tasks stay in the queue."""
    work = Work()
    sent = 0

    def is_done(count: int) -> bool:
        return sum(work.done.values()) >= count

    while sent < 150:
        async with working(settings(lease=LONG, concurrency=5), work.handlers) as worker:
            await send(stream, *names(15, sent))
            sent += 15
            enough = sum(work.done.values()) + 5
            await eventually(functools.partial(is_done, enough))
            await worker.stop(5)
        assert view.pending() == 0
    async with working(settings(lease=LONG), work.handlers):
        await view.drained()
    assert work.began == work.done == Counter(names(150))
