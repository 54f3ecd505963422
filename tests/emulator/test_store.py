"""The stand-in's state in Redis: written down whole, read back equal, by one process at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import redis

from hookmill.emulator import store as store_module
from hookmill.emulator.broker import Desk
from hookmill.emulator.models import (
    Answer,
    Callback,
    Endpoint,
    Filter,
    FlowControl,
    Order,
    Template,
)
from hookmill.emulator.state import State
from hookmill.emulator.store import InUseError, Store
from hookmill.errors import StreamUnavailableError
from tests.emulator.brokers import BROKEN, START
from tests.support import Server, eventually

Open = Callable[[], Store]


@pytest.fixture
async def open_store(server: Server, prefix: str) -> AsyncIterator[Open]:
    opened: list[Store] = []

    def open_one() -> Store:
        opened.append(Store(server.url, prefix))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


async def written(open_store: Open, state: State) -> Store:
    store = open_store()
    await store.take()
    await store.save(state)
    return store


def busy_desk() -> tuple[State, Desk]:
    """A desk with something of everything."""
    state = State()
    desk = Desk(state, clock=lambda: START)
    template = Template(
        method="PUT", headers=(("X-A", "ä"), ("X-A", "2")), body=b"\xff\0", retries=0,
        retry_delay="retried", timeout=2.5, callback=Callback("http://cb.example/"),
        labels=("l",), flow_control=FlowControl("k", 2, 3, 4.5), caller_ip="::1", redact=("body",),
    )  # fmt: skip
    desk.topics.add("site", [Endpoint("http://a.example/", "a"), Endpoint("http://b.example/")])
    desk.publish(Order("site", template, deduplication_id="d"))
    for message in desk.begin(9).messages:
        desk.settle(message, Answer(500, (("Server", "s"),), b"\xfe", ""))
    for number in range(3):
        desk.publish(Order(f"http://{number}.example/", Template(), queue="q", delay_ms=9))
    desk.schedules.put(Order("site", template), "* * * * *")
    desk.gates.pin("other", rate=3, period=9)
    desk.rotate_keys()
    return state, desk


async def test_what_was_written_down_is_read_back_equal_and_in_order(open_store: Open) -> None:
    before, _ = busy_desk()
    await written(open_store, before)
    after = State()
    await open_store().load(after)
    for old, new in zip(before.tables, after.tables, strict=True):
        assert len(new) > 0, f"nothing of {new.name} was tried"
        assert {key: new.find(key) for key in new} == {key: old.find(key) for key in old}
    assert after.messages.all() == before.messages.all()
    assert after.log == before.log
    assert after.journal == []


async def test_after_a_restart_an_attempt_that_was_under_way_is_made_again(
    open_store: Open,
) -> None:
    before = State()
    desk = Desk(before, clock=lambda: START)
    (receipt,) = desk.publish(Order("http://a.example/", Template()))
    desk.begin(9)
    await written(open_store, before)

    after = State()
    await open_store().load(after)
    again = Desk(after, clock=lambda: START)
    (message,) = again.begin(9).messages
    assert (message.id, message.retried) == (receipt.message_id, 0)
    again.settle(message, BROKEN)
    (new,) = again.publish(Order("http://b.example/", Template()))
    assert again.message(new.message_id).number > message.number


async def test_only_what_changed_is_written_and_what_is_gone_is_removed(
    open_store: Open, redis_client: redis.Redis, prefix: str
) -> None:
    state, desk = busy_desk()
    store = await written(open_store, state)
    assert state.journal == []
    redis_client.delete(f"{prefix}:{{qstash}}:topics")
    desk.cancel(Filter())
    desk.drop_dead(Filter())
    await store.save(state)
    assert not redis_client.exists(f"{prefix}:{{qstash}}:topics"), "it had not changed"
    assert not redis_client.exists(f"{prefix}:{{qstash}}:messages")
    assert not redis_client.exists(f"{prefix}:{{qstash}}:letters")


async def test_what_redis_did_not_take_is_written_with_the_next_change(
    own_server: Callable[..., Server],
) -> None:
    server = own_server("--save", "", "--appendonly", "no")
    store = Store(server.url, "t")
    state, _ = busy_desk()
    await store.take()
    await store.save(state)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1")
        state.topics.put("x", state.topics.get("site"))
        with pytest.raises(StreamUnavailableError):
            await store.save(state)
        assert client.hlen("t:{qstash}:topics") == 1
        client.config_set("maxmemory", "0")
    await store.save(state)
    after = State()
    await store.load(after)
    assert after.topics.find("x") == state.topics.get("site")
    await store.close()


async def test_the_log_is_bounded(
    open_store: Open, redis_client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MOST_LOG_ENTRIES", 5)
    state, _ = busy_desk()
    assert len(state.log) > 5
    await written(open_store, state)
    assert redis_client.llen(f"{prefix}:{{qstash}}:log") == 5


async def test_only_one_works_on_the_keys_and_the_next_takes_over_when_it_ends(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LEASE", 2.0)  # renewed every half second
    one, other = open_store(), open_store()
    await one.take()
    holding = asyncio.create_task(one.hold())
    with pytest.raises(InUseError, match="another stand-in uses the keys"):
        await other.take()
    await one.close()
    await other.take()
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)


async def test_one_that_was_killed_is_followed_when_its_lease_is_over(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LEASE", 0.4)
    await open_store().take()
    await open_store().take()


async def test_one_that_was_frozen_while_another_took_over_ends_and_writes_nothing(
    open_store: Open, redis_client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LEASE", 0.4)
    frozen, other = open_store(), open_store()
    await frozen.take()
    await other.take()
    state, _ = busy_desk()
    with pytest.raises(InUseError, match="took over"):
        await frozen.save(state)
    with pytest.raises(InUseError, match="took over"):
        await frozen.hold()
    await frozen.close()
    assert not redis_client.exists(f"{prefix}:{{qstash}}:messages")
    assert redis_client.exists(f"{prefix}:{{qstash}}:owner")


async def test_one_that_was_frozen_while_nobody_else_came_goes_on(
    open_store: Open, redis_client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LEASE", 0.4)
    store = open_store()
    await store.take()
    redis_client.delete(f"{prefix}:{{qstash}}:lease")  # as it does when it runs out
    holding = asyncio.create_task(store.hold())
    await eventually(lambda: redis_client.exists(f"{prefix}:{{qstash}}:lease"))
    await store.save(busy_desk()[0])
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)


async def test_a_redis_that_is_full_takes_what_the_courier_changed(
    own_server: Callable[..., Server],
) -> None:
    server = own_server("--save", "", "--appendonly", "no")
    store = Store(server.url, "t")
    await store.take()
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1")
        await store.save(busy_desk()[0], drains=True)
        assert client.hlen("t:{qstash}:messages") > 0
    await store.close()
