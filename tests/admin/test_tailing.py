"""A tail shows each event once, with a cursor from which it goes on, and says what it missed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest
import redis

from hookmill.admin import tailing
from hookmill.admin.body_paths import condition_of
from hookmill.admin.redactions import SearchRefusedError
from hookmill.admin.tailing import Cursor, CursorError, Tail, TailEvent, Wanted, follow
from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.stream.producer import Producer
from hookmill.stream.redactions import Redactions
from hookmill.stream.refused import RefusedDeliveries, RefusedDelivery
from hookmill.stream.upkeep import Upkeep
from tests.given_up import OpenGroup
from tests.stream.toolkit import settle_all
from tests.support import Server, Stream, message

MakeTail = Callable[..., Tail]


@pytest.fixture
def tail(stream: Producer, settings: Callable[..., Settings]) -> MakeTail:
    def make(*, with_bodies: bool = False, **wanted: object) -> Tail:
        chosen = Wanted(**wanted)  # type: ignore[arg-type] # fields of any type
        return Tail(stream.client, settings(), chosen, with_bodies=with_bodies)

    return make


async def seen(tail: Tail) -> list[str]:
    return [_named(event) for event in (await tail.look()).events]


def _named(event: TailEvent) -> str:
    names = {"arrived": "message_id", "refused": "code", "missed": "messages"}
    return f"{event.kind} {event.facts[names[event.kind]]}"


async def refuse(stream: Producer, source: str, code: str) -> None:
    kept = RefusedDeliveries(stream.client)
    place = await kept.claim(source, 100)
    await kept.put(place, RefusedDelivery(source=source, status=401, code=code, detail="no"))


async def test_what_comes_in_and_what_is_refused_is_shown_once(
    stream: Producer, tail: MakeTail
) -> None:
    await stream.append([message(id="before")])
    await refuse(stream, "shop", "before")
    now, since = tail(), tail()
    await now.start()
    await since.start(since_ms=0)
    assert await seen(now) == []
    assert await seen(since) == ["arrived before", "refused before"]

    await stream.append([message(id="a"), message(id="b")])
    await refuse(stream, "bank", "wrong")
    for one in (now, since):
        assert await seen(one) == ["arrived a", "arrived b", "refused wrong"]
        assert await seen(one) == []


async def test_from_the_cursor_of_any_event_it_goes_on_with_the_next(
    server: Server, prefix: str, settings: Callable[..., Settings]
) -> None:
    stream = Stream(server.url, prefix, partitions=3)
    await stream.append([message(b"%d" % n, id=f"{n}") for n in range(12)])
    await refuse(stream, "shop", "one")
    await refuse(stream, "bank", "two")
    first = Tail(stream.client, settings(), Wanted())
    await first.start(since_ms=0)
    events = (await first.look()).events
    assert len(events) == 14
    for number, event in enumerate(events, 1):
        again = Tail(stream.client, settings(), Wanted())
        await again.start(cursor=event.cursor)
        assert (await again.look()).events == events[number:]
    await stream.close()


@pytest.mark.parametrize("text", ["", "x", "1-0", "1-0/", "1-0,2-0/1-0", "1-0/1-0\n", "1-0//1-0"])
async def test_what_is_no_cursor_of_this_stream_is_refused(text: str, tail: MakeTail) -> None:
    with pytest.raises(CursorError, match="no cursor of this stream"):
        await tail().start(cursor=text)
    assert str(Cursor.of("1-0,2-1/3-0", 2)) == "1-0,2-1/3-0"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"source": "sh*"}, ["arrived 1", "arrived 3", "refused wrong"]),
        ({"type": "a.*"}, ["arrived 1", "arrived 2"]),
        ({"source": "shop", "type": "a.*"}, ["arrived 1"]),
        ({"where": (condition_of("n=2"),)}, ["arrived 2"]),
        ({"kinds": frozenset(["refused"])}, ["refused wrong"]),
        ({"kinds": frozenset(["arrived"]), "source": "bank"}, ["arrived 2"]),
    ],
)
async def test_filters_choose_what_is_shown(
    stream: Producer, tail: MakeTail, wanted: dict[str, object], expected: list[str]
) -> None:
    await stream.append(
        [
            message(b'{"n":1}', id="1", source="shop", type="a.b"),
            message(b'{"n":2}', id="2", source="bank", type="a.c"),
            message(b"no JSON", id="3", source="shop", type="b"),
        ]
    )
    await refuse(stream, "shop", "wrong")
    one = tail(**wanted)
    await one.start(since_ms=0)
    assert await seen(one) == expected


async def test_bodies_are_shown_without_what_is_redacted_also_from_now_on(
    stream: Producer, tail: MakeTail
) -> None:
    body = b'{"email":"ada","n":1}'
    one = tail(with_bodies=True)
    await one.start()
    await stream.append([message(body, source="shop", header_block=b"X-A: ada")])
    (event,) = (await one.look()).events
    assert (event.facts["body"], event.facts["headers"]) == (body.decode(), "X-A: ada")
    await Redactions(stream.client).note({"shop": ("email", "header:x-a")})
    await stream.append([message(body, source="shop", header_block=b"X-A: ada")])
    (event,) = (await one.look()).events
    assert "ada" not in str(event)


async def test_nobody_can_watch_for_the_value_of_a_redacted_field(
    stream: Producer, tail: MakeTail
) -> None:
    one = tail(where=(condition_of("email~a*"),))
    await one.start()
    await Redactions(stream.client).note({"shop": ("email",)})
    with pytest.raises(SearchRefusedError, match="source shop redacts it"):
        await one.start()
    with pytest.raises(SearchRefusedError, match="source shop redacts it"):
        await one.look()


async def test_what_was_dropped_before_it_could_be_shown_is_counted(
    stream: Producer, tail: MakeTail, open_group: OpenGroup
) -> None:
    group = await open_group()
    one = tail()
    await one.start()
    await stream.append([message(id="shown")])
    assert await seen(one) == ["arrived shown"]
    await stream.append([message(id="a"), message(id="b")])
    await settle_all(group, *(await group.take(10)).entries)
    await Upkeep(stream.client, "main").trim(0.0)
    assert await seen(one) == ["missed 2"]
    await stream.append([message(id="next")])
    assert await seen(one) == ["arrived next"]
    await settle_all(group, *(await group.take(10)).entries)


async def test_a_refused_delivery_that_is_still_being_written_is_waited_for(
    stream: Producer, tail: MakeTail, redis_client: redis.Redis, prefix: str
) -> None:
    kept = RefusedDeliveries(stream.client)
    one = tail()
    await one.start()
    late = await kept.claim("shop", 100)
    await refuse(stream, "bank", "after")
    assert await seen(one) == []
    delivery = RefusedDelivery(source="shop", status=401, code="late", detail="no")
    await kept.put(late, delivery)
    assert await seen(one) == ["refused late", "refused after"]

    lost = await kept.claim("third", 100)  # its receiver dies
    at = int(lost.id.partition("-")[0]) - 20_000
    redis_client.hset(f"{prefix}:{{0}}:refused", f"{lost.id} third", at)
    await refuse(stream, "fourth", "next")
    assert await seen(one) == ["refused next"]


async def test_while_redis_is_away_the_error_comes_once_and_it_goes_on_at_the_same_place(
    stream: Producer, tail: MakeTail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailing, "AWAY", 0.001)
    monkeypatch.setattr(tailing, "POLL", 0.001)
    one = tail()
    await one.start()
    real, failures = one.look, iter([StreamUnavailableError("away")] * 3)

    async def look() -> object:
        for error in failures:
            raise error
        return await real()

    monkeypatch.setattr(one, "look", look)
    await stream.append([message(id="a")])

    async def two() -> AsyncIterator[object]:
        async with aclosing(follow(one)) as following:
            async for event in following:
                yield event
                if isinstance(event, TailEvent):
                    return

    found = [event async for event in two()]
    assert [type(event).__name__ for event in found] == ["StreamUnavailableError", "TailEvent"]
