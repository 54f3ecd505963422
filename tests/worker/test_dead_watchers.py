"""Functions of `@handlers.on_dead` are told about dead letters, and can do no harm."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from hookmill import GivenUp, Handlers
from hookmill.message import Progress
from hookmill.stream.entries import STREAM, Entry, EntryRef
from tests.support import eventually, message
from tests.worker.attempts import OWNER, entry
from worker import dead_watchers as module
from worker.dead_watchers import DeadWatchers, given_up_of
from worker.outcome import DeadLettered

OUTCOME = DeadLettered(Progress(owner=OWNER, handler="book", attempts=3), "failed", "...\nX: no\n")


@asynccontextmanager
async def lifespan() -> AsyncIterator[str]:
    yield "pool"


def die(watchers: DeadWatchers, given: Entry | None = None) -> None:
    call = watchers.call_for(given or entry(id="m1"), OUTCOME)
    assert call is not None
    call()


async def test_a_function_gets_what_is_known_of_the_dead_letter() -> None:
    handlers = Handlers(lifespan)
    told: list[object] = []

    @handlers.on_dead
    async def on_the_loop(given_up: GivenUp) -> None:
        told.append(given_up)

    @handlers.on_dead
    async def with_resources(given_up: GivenUp, pool: str) -> None:
        told.append(pool)

    @handlers.on_dead
    def in_a_thread(given_up: GivenUp, pool: str) -> None:
        told.append((pool, threading.current_thread().name[:7]))

    handlers.check()
    watchers = DeadWatchers(handlers, "pool")
    die(watchers, entry(b"{}", id="m1"))
    await watchers.drain(5)

    given_up, *rest = told
    assert given_up == GivenUp(
        message=message(b"{}", id="m1", type="order.paid"),
        message_id="m1",
        source="qstash",
        type="order.paid",
        handler="book",
        attempts=3,
        reason="failed",
        error="...\nX: no\n",
    )
    assert rest == ["pool", ("pool", "on_dead")]
    assert not watchers.has_stragglers


def test_of_a_message_that_this_release_cannot_read_it_gets_what_can_be_read() -> None:
    unreadable = Entry(EntryRef(STREAM, OWNER), {b"version": b"9", b"id": b"m", b"type": b"push"})
    given_up = given_up_of(unreadable, OUTCOME)
    assert (given_up.message, given_up.message_id, given_up.type) == (None, "m", "push")


async def test_without_such_a_function_nothing_is_kept_for_the_call() -> None:
    assert DeadWatchers(Handlers(), None).call_for(entry(), OUTCOME) is None


def leave() -> None:
    sys.exit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


def cancel() -> None:
    raise asyncio.CancelledError


def stop_iteration() -> None:
    next(iter([]))


def fail() -> None:
    raise ValueError("no mail today")


@pytest.mark.parametrize("end", [leave, interrupt, cancel, stop_iteration, fail])
async def test_however_it_fails_that_is_only_logged_and_the_next_one_is_called(end: Any) -> None:
    handlers = Handlers()
    told = []

    @handlers.on_dead
    async def on_the_loop(given_up: GivenUp) -> None:
        end()

    @handlers.on_dead
    def in_a_thread(given_up: GivenUp) -> None:
        end()

    @handlers.on_dead
    async def good(given_up: GivenUp) -> None:
        told.append(given_up.message_id)

    watchers = DeadWatchers(handlers, None)
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logs:
        die(watchers)
        await watchers.drain(5)
    assert told == ["m1"]
    assert [(line["event"], line["id"]) for line in logs] == [("on_dead failed", "m1")] * 2
    assert {line["function"] for line in logs} == {"on_the_loop", "in_a_thread"}
    assert not watchers.has_stragglers


async def test_one_that_takes_too_long_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.01)
    handlers = Handlers()

    @handlers.on_dead
    async def slow(given_up: GivenUp) -> None:
        await asyncio.sleep(60)

    watchers = DeadWatchers(handlers, None)
    with structlog.testing.capture_logs() as logs:
        die(watchers)
        await watchers.drain(5)
    (line,) = logs
    assert line["error"].endswith("TimeoutError\n")


async def test_few_run_at_a_time_and_few_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    handlers = Handlers()
    go_on, running, told = asyncio.Event(), 0, []

    @handlers.on_dead
    async def slow(given_up: GivenUp) -> None:
        nonlocal running
        running += 1
        assert running <= 2
        await go_on.wait()
        running -= 1
        told.append(given_up.message_id)

    watchers = DeadWatchers(handlers, None)
    with structlog.testing.capture_logs() as logs:
        for number in range(7):
            die(watchers, entry(id=f"m{number}"))
        go_on.set()
        await watchers.drain(5)
    assert told == ["m0", "m1", "m2", "m3", "m4"]
    assert [line["event"] for line in logs] == ["on_dead not called: too many wait"] * 2


async def test_large_messages_wait_only_up_to_a_number_of_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 1000)
    handlers = Handlers()
    go_on, told = asyncio.Event(), []

    @handlers.on_dead
    async def slow(given_up: GivenUp) -> None:
        await go_on.wait()
        told.append(given_up.message_id)

    watchers = DeadWatchers(handlers, None)
    die(watchers, entry(b"x" * 5000, id="runs"))
    die(watchers, entry(b"x" * 5000, id="waits alone"))
    die(watchers, entry(b"x", id="left out"))
    go_on.set()
    await eventually(lambda: len(told) == 2)
    die(watchers, entry(b"x", id="later"))
    await watchers.drain(5)
    assert told == ["runs", "waits alone", "later"]


async def test_a_stop_gives_up_what_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    monkeypatch.setattr(module, "CANCEL_TIMEOUT", 0.02)
    handlers = Handlers()
    told, end = [], asyncio.Event()

    @handlers.on_dead
    async def stubborn(given_up: GivenUp) -> None:
        told.append(given_up.message_id)
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    watchers = DeadWatchers(handlers, None)
    with structlog.testing.capture_logs() as logs:
        die(watchers)
        die(watchers)
        await watchers.drain(0.01)
    assert [(line["event"], line["calls"]) for line in logs] == [("on_dead did not end", 2)]
    assert watchers.has_stragglers
    end.set()
    await eventually(lambda: not watchers.has_stragglers)
    assert told == ["m1"]


async def test_a_function_in_a_thread_that_does_not_end_is_noticed() -> None:
    handlers = Handlers()
    end = threading.Event()

    @handlers.on_dead
    def stuck(given_up: GivenUp) -> None:
        end.wait(30)

    watchers = DeadWatchers(handlers, None)
    die(watchers)
    await watchers.drain(0.05)
    assert watchers.has_stragglers
    end.set()
    await eventually(lambda: not watchers.has_stragglers)


async def test_a_full_disk_under_the_log_does_not_stop_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("worker.dead_watchers.log.warning", refuse)
    handlers = Handlers()

    @handlers.on_dead
    async def failing(given_up: GivenUp) -> None:
        raise ValueError

    watchers = DeadWatchers(handlers, None)
    die(watchers)
    await watchers.drain(5)
    assert not watchers.has_stragglers
