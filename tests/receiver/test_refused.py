"""A receiver keeps a few refused deliveries with their explanation, where it is asked to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from hookmill.config.settings import Settings
from hookmill.config.sources import Source, sources_of
from hookmill.debug import refusals
from hookmill.stream.producer import Producer
from hookmill.stream.refused import PAUSE, Kept, RefusedDeliveries
from receiver import refused
from receiver.intake import ReceivedRequest
from receiver.refused import REST, RefusedKeeper
from receiver.responses import Refusal
from tests.receiver.serving import (
    KEYS,
    Connect,
    StartReceiver,
    delivery,
    forged,
    request_bytes,
)
from tests.support import Clock, Stream, eventually

WRONG = Refusal(401, "wrong", "It is.")


async def all_kept(stream: Producer) -> list[Kept]:
    kept = RefusedDeliveries(stream.client)
    return await kept.get(await kept.places())


def request_of(body: bytes = b"{}") -> ReceivedRequest:
    from multidict import CIMultiDict  # noqa: PLC0415 - one use

    return ReceivedRequest("/qstash", CIMultiDict(), (), body)


@pytest.fixture
def source(settings: Callable[..., Settings]) -> Source:
    return next(one for one in sources_of(settings(**KEYS)) if one.name == "qstash")


async def test_a_refused_delivery_is_kept_with_its_explanation_and_a_genuine_one_is_not(
    start: StartReceiver, connect: Connect, stream: Producer
) -> None:
    running = await start(keep_refused=10)
    wire = await connect(running)
    for raw in (delivery(running.sources["qstash"]), request_bytes(target="/unknown")):
        await wire.send(raw)
        await wire.answer()
    await wire.send(forged(running.sources["qstash"]))
    assert (await wire.answer()).status == 401

    async def is_kept() -> bool:
        return bool(await all_kept(stream))

    await eventually(is_kept)
    (found,) = await all_kept(stream)
    assert (found.delivery.source, found.delivery.code) == ("qstash", "body_mismatch")
    assert found.delivery.body == b'{"hello":"mars!"}'
    assert any("not the hash of these" in line for line in found.delivery.explanation)


async def test_nothing_is_kept_where_nobody_asked_for_it(
    start: StartReceiver, connect: Connect, stream: Producer
) -> None:
    running = await start()
    wire = await connect(running)
    await wire.send(forged(running.sources["qstash"]))
    assert (await wire.answer()).status == 401
    assert running.receiver._pipeline._refused is None
    assert await RefusedDeliveries(stream.client).places() == []


async def test_what_a_flood_costs_is_bounded_before_any_work_is_done(
    stream: Producer,
    source: Source,
    settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, explained = Clock(), list[bytes]()
    real = refusals.kept_of

    def counted(one: Source, made: Any, *others: Any) -> Any:
        explained.append(made.body)
        clock.now += 1.0  # for so long it takes
        return real(one, made, *others)

    monkeypatch.setattr(refused, "kept_of", counted)
    keeper = RefusedKeeper(stream.client, settings(keep_refused=100), clock)
    for number in range(1000):
        keeper.note(source, request_of(b"%d" % number), WRONG)
    await asyncio.wait([keeper._task]) if keeper._task else None
    assert explained == [b"0"]

    for passed in (PAUSE - 1.0, REST - PAUSE):  # neither its pause nor its rest is over
        clock.now += passed
        keeper.note(source, request_of(), WRONG)
        assert keeper._task is None
    clock.now += 2.0
    keeper.note(source, request_of(), WRONG)  # by Redis' clock no second has passed
    assert keeper._task is not None
    await asyncio.wait([keeper._task])
    assert explained == [b"0"]
    assert len(await all_kept(stream)) == 1
    keeper.note(source, request_of(), WRONG)
    assert keeper._task is None  # what Redis said is kept to
    await keeper.stop()


async def test_what_is_refused_while_the_receiver_stops_leaves_nothing_running(
    start: StartReceiver,
) -> None:
    running = await start(keep_refused=10)
    pipeline, qstash = running.receiver._pipeline, running.sources["qstash"]

    async def refuse() -> None:
        pipeline._answer(qstash, request_of(), WRONG, lambda _: None)

    # As the end of a request for a certificate, which was waited for.
    pipeline._tasks.add(asyncio.create_task(refuse()))
    await pipeline.close()
    assert pipeline._refused is not None
    assert pipeline._refused._task is None


async def test_where_redis_is_away_nothing_is_kept_and_nobody_is_disturbed(
    source: Source, settings: Callable[..., Settings], lines: list[dict[str, Any]]
) -> None:
    stream = Stream("redis://127.0.0.1:1", "hookmill")
    keeper = RefusedKeeper(stream.client, settings(keep_refused=1))
    keeper.note(source, request_of(), WRONG)
    assert keeper._task is not None
    await asyncio.wait([keeper._task])
    assert lines == []
    await keeper.stop()
    await stream.close()


async def test_a_fault_of_ours_is_logged_and_goes_no_further(
    stream: Producer,
    source: Source,
    settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    lines: list[dict[str, Any]],
) -> None:
    def faulty(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(refused, "kept_of", faulty)
    monkeypatch.setattr(refused, "log", structlog.get_logger("receiver"))
    keeper = RefusedKeeper(stream.client, settings(keep_refused=1))
    keeper.note(source, request_of(), WRONG)
    assert keeper._task is not None
    await asyncio.wait([keeper._task])
    assert [line["event"] for line in lines] == ["a refused delivery cannot be explained"]
    await keeper.stop()
