"""The emulator's state in Redis: saved in one step, loaded unchanged, used by one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
import redis

from hookmill.emulator import store as store_module
from hookmill.emulator.broker import Broker
from hookmill.emulator.filters import Filter
from hookmill.emulator.models import (
    AttemptResult,
    CallbackTarget,
    CronSchedule,
    DlqMessage,
    Endpoint,
    FlowControlKey,
    FlowLimits,
    LogEntry,
    PublishRequest,
    QStashMessage,
    Record,
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


def busy_broker() -> tuple[State, Broker]:
    """A broker with something of everything."""
    state = State()
    broker = Broker(state, clock=lambda: START)
    template = Template(
        method="PUT", headers=(("X-A", "ä"), ("X-A", "2")), body=b"\xff\0", retries=0,
        retry_delay="retried", timeout=2.5, callback=CallbackTarget("http://cb.example/"),
        labels=("l",), flow_control=FlowLimits("k", 2, 3, 4.5), caller_ip="::1", redact=("body",),
    )  # fmt: skip
    broker.url_groups.add(
        "site", [Endpoint("http://a.example/", "a"), Endpoint("http://b.example/")]
    )
    broker.publish(PublishRequest("site", template, deduplication_id="d"))
    for message in broker.start_attempts(9).messages:
        broker.finish_attempt(message, AttemptResult(500, (("Server", "s"),), b"\xfe", ""))
    for number in range(3):
        broker.publish(
            PublishRequest(f"http://{number}.example/", Template(), queue="q", delay_ms=9)
        )
    broker.schedules.put(PublishRequest("site", template), "* * * * *")
    broker.flow_controls.pin("other", rate=3, period=9)
    broker.rotate_keys()
    return state, broker


async def test_saved_state_is_loaded_unchanged_and_in_order(open_store: Open) -> None:
    before, _ = busy_broker()
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
    broker = Broker(before, clock=lambda: START)
    (receipt,) = broker.publish(PublishRequest("http://a.example/", Template()))
    broker.start_attempts(9)
    await written(open_store, before)

    after = State()
    await open_store().load(after)
    again = Broker(after, clock=lambda: START)
    (message,) = again.start_attempts(9).messages
    assert (message.id, message.retried) == (receipt.message_id, 0)
    again.finish_attempt(message, BROKEN)
    (new,) = again.publish(PublishRequest("http://b.example/", Template()))
    assert again.message(new.message_id).number > message.number


async def test_only_changes_are_saved_and_deleted_records_are_removed(
    open_store: Open, redis_client: redis.Redis, prefix: str
) -> None:
    state, broker = busy_broker()
    store = await written(open_store, state)
    assert state.journal == []
    redis_client.delete(f"{prefix}:{{qstash}}:topics")
    broker.cancel(Filter())
    broker.dlq.delete(Filter())
    await store.save(state)
    assert not redis_client.exists(f"{prefix}:{{qstash}}:topics"), "it had not changed"
    assert not redis_client.exists(f"{prefix}:{{qstash}}:messages")
    assert not redis_client.exists(f"{prefix}:{{qstash}}:letters")


async def test_changes_that_redis_did_not_take_are_saved_with_the_next_change(
    own_server: Callable[..., Server],
) -> None:
    server = own_server("--save", "", "--appendonly", "no")
    store = Store(server.url, "t")
    state, _ = busy_broker()
    await store.take()
    await store.save(state)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1")
        state.url_groups.put("x", state.url_groups.get("site"))
        with pytest.raises(StreamUnavailableError):
            await store.save(state)
        assert client.hlen("t:{qstash}:topics") == 1
        client.config_set("maxmemory", "0")
    await store.save(state)
    after = State()
    await store.load(after)
    assert after.url_groups.find("x") == state.url_groups.get("site")
    await store.close()


async def test_the_log_is_bounded(
    open_store: Open, redis_client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_LOG_ENTRIES", 5)
    state, _ = busy_broker()
    assert len(state.log) > 5
    await written(open_store, state)
    assert redis_client.llen(f"{prefix}:{{qstash}}:log") == 5


async def test_only_one_emulator_uses_the_keys_and_the_next_takes_over_when_it_ends(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LEASE", 2.0)  # renewed every half second
    one, other = open_store(), open_store()
    await one.take()
    holding = asyncio.create_task(one.hold())
    with pytest.raises(InUseError, match="another emulator uses the keys"):
        await other.take()
    await one.close()
    await other.take()
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)


async def test_a_killed_emulator_is_replaced_when_its_lease_expires(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LEASE", 0.4)
    await open_store().take()
    await open_store().take()


async def test_a_frozen_emulator_ends_without_saving_if_another_took_over(
    open_store: Open, redis_client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LEASE", 0.4)
    frozen, other = open_store(), open_store()
    await frozen.take()
    await other.take()
    state, _ = busy_broker()
    with pytest.raises(InUseError, match="took over"):
        await frozen.save(state)
    with pytest.raises(InUseError, match="took over"):
        await frozen.hold()
    await frozen.close()
    assert not redis_client.exists(f"{prefix}:{{qstash}}:messages")
    assert redis_client.exists(f"{prefix}:{{qstash}}:owner")


async def test_a_frozen_emulator_continues_if_no_other_took_over(
    open_store: Open, redis_client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LEASE", 0.4)
    store = open_store()
    await store.take()
    redis_client.delete(f"{prefix}:{{qstash}}:lease")  # as it does when it runs out
    holding = asyncio.create_task(store.hold())
    await eventually(lambda: redis_client.exists(f"{prefix}:{{qstash}}:lease"))
    await store.save(busy_broker()[0])
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)


async def test_a_full_redis_takes_the_dispatchers_changes(
    own_server: Callable[..., Server],
) -> None:
    server = own_server("--save", "", "--appendonly", "no")
    store = Store(server.url, "t")
    await store.take()
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1")
        await store.save(busy_broker()[0], drains=True)
        assert client.hlen("t:{qstash}:messages") > 0
    await store.close()


OLD_TEMPLATE: dict[str, object] = {"body": b"x"}
OLD_MESSAGE: dict[str, object] = {
    "id": "msg_1", "url": "http://a.example/", "template": OLD_TEMPLATE, "number": 1,
    "created_ms": 2, "due_ms": 3, "topic": "site", "source": "msg_0",
}  # fmt: skip
OLD_ANSWER: dict[str, object] = {"status": 500}


@pytest.mark.parametrize(
    ("record", "stored"),
    [
        (QStashMessage, OLD_MESSAGE),
        (DlqMessage, {"id": "d", "message": OLD_MESSAGE, "answer": OLD_ANSWER, "died_ms": 1}),
        (
            CronSchedule,
            {
                "id": "s", "cron": "* * * * *", "created_ms": 1, "next_ms": 2,
                "order": {"destination": "site", "template": OLD_TEMPLATE},
            },
        ),
        (FlowControlKey, {"key": "k", "began": 3}),
        (
            LogEntry,
            {"at_ms": 1, "state": "ERROR", "message": OLD_MESSAGE, "answer": OLD_ANSWER},
        ),
    ],
)  # fmt: skip
def test_a_record_has_the_field_names_that_the_first_release_stored(
    record: type[Record], stored: dict[str, object]
) -> None:
    raw = msgspec.msgpack.encode(stored)
    read = msgspec.msgpack.decode(raw, type=record)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(read)) == stored


def test_the_tables_have_the_keys_that_the_first_release_wrote() -> None:
    assert [table.name for table in State().tables] == [
        "messages", "letters", "schedules", "topics", "queues", "gates", "remembered", "keys",
    ]  # fmt: skip
