"""Our sender beside the official SDK: the same message is the same request, header by header.

Whatever differs stands in `DIFFERENCES` (and `IN_ITEMS`, for the items of a batch) with its reason;
anything else fails. Both are real clients on real sockets, and nothing is interpreted in between.
"""

# Long because: the options, the known differences and the comparison are read together.

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from qstash import AsyncQStash

from hookmill import Event, FlowControl, Outgoing, Redact, Sender
from tests.scripted import Call, Scripted, answer

TOKEN = "token_5d1f0c9a7d3e2468"
URL = "https://app.example/hook?a=%2F&b=1"
BODY: dict[str, Any] = {"event": "post.published", "data": {"id": "1", "title": "ä"}}


class PostPublished(Event, tag="post.published"):
    id: str
    title: str


POST = PostPublished(id="1", title="ä")
"""With the scheme `marble` it is sent as `BODY`."""

MARBLE: dict[str, Any] = {"secret": "subscribers_own_secret", "scheme": "marble"}


class Difference(NamedTuple):
    """Why a header differs, and whether two values (None: not there) differ as it says."""

    reason: str
    holds: Callable[[str | None, str | None], bool]


def _each_has_its_own(theirs: str | None, ours: str | None) -> bool:
    return bool(theirs) and bool(ours)


DIFFERENCES = {
    "user-agent": Difference("each names itself", _each_has_its_own),
    "accept-encoding": Difference("each names what it can unpack", _each_has_its_own),
    "connection": Difference(
        "httpx says keep-alive, which HTTP/1.1 does unasked",
        lambda theirs, ours: theirs == "keep-alive" and ours is None,
    ),
    "content-length": Difference(
        "the SDK writes JSON with spaces and escapes, ours is compact UTF-8: see `same_body`",
        lambda theirs, ours: int(theirs or 0) > int(ours or 0),
    ),
    "upstash-deduplication-id": Difference(
        "ours has one always, so that its own attempts cannot publish twice",
        lambda theirs, ours: theirs is None and (ours or "").startswith("evt_"),
    ),
    "upstash-content-based-deduplication": Difference(
        "the SDK writes Python's True; the API's own pages write true",
        lambda theirs, ours: (theirs, ours) == ("True", "true"),
    ),
}
"""By the header's name in lower case. None has to differ, and each may in this way alone."""

SIGNED = {
    "upstash-forward-x-marble-signature": Difference(
        "the SDK cannot sign for a subscriber",
        lambda theirs, ours: theirs is None and (ours or "").startswith("sha256="),
    ),
}
"""Of messages that were given a secret."""

IN_ITEMS = {
    **{name: DIFFERENCES[name] for name in DIFFERENCES if name.startswith("upstash-")},
    "upstash-retry-delay": Difference(
        "the SDK's batch_json drops it", lambda theirs, ours: theirs is None and bool(ours)
    ),
}

OPTIONS: dict[str, list[tuple[Any, Any]]] = {
    "method": [("PUT", "PUT"), ("GET", "GET")],
    "headers": [({"X-A": "1", "Authorization": "Bearer x"},) * 2, ({"x-lower": ""},) * 2],
    "retries": [(0, 0), (5, 5)],
    "retry_delay": [("1000 * (1 + retried)",) * 2, ("30000", timedelta(seconds=30))],
    "callback": [("https://back.example/?q=1#f",) * 2],
    "callback_headers": [({"Forward-X-B": "2", "Retries": "1"},) * 2],
    "failure_callback": [("https://back.example/failed",) * 2],
    "failure_callback_headers": [({"Forward-X-C": "3", "Delay": "5s"},) * 2],
    "delay": [("1d10h30m", "1d10h30m"), (600, 600), (600, timedelta(minutes=10)), (2, 1.5)],
    "not_before": [(1_900_000_000, 1_900_000_000)],
    "deduplication_id": [("order 7/a",) * 2],
    "timeout": [("45s", "45s"), (45, 45), (45, timedelta(seconds=45))],
    "flow_control": [
        ({"key": "k", "parallelism": 3}, FlowControl(key="k", parallelism=3)),
        (
            {"key": "k", "parallelism": 3, "rate": 10, "period": 60},
            FlowControl(key="k", parallelism=3, rate=10, period=60),
        ),
        ({"key": "k", "rate": 10, "period": "1m"}, FlowControl(key="k", rate=10, period="1m")),
    ],
    "label": [("billing,eu", "billing,eu")],
    "redact": [
        ({"body": True}, Redact(body=True)),
        ({"header": True}, Redact(headers=True)),
        ({"body": True, "header": ["A", "B"]}, Redact(body=True, headers=["A", "B"])),
    ],
}
"""Of each option what the SDK is given and what ours is, to ask for the same."""

NOT_IN_A_QUEUE = {"delay", "not_before", "flow_control"}
NOT_IN_A_SCHEDULE = {"not_before", "deduplication_id"}

Chosen = dict[str, tuple[Any, Any]]


@st.composite
def choices(draw: st.DrawFn) -> Chosen:
    """Some options, each with one of its values."""
    names = draw(st.sets(st.sampled_from(sorted(OPTIONS))))
    if "delay" in names:  # ours refuses both: one would be ignored
        names.discard("not_before")
    # Ours refuses a callback's settings without the callback.
    names |= {name.removesuffix("_headers") for name in names if "callback_headers" in name}
    return {name: draw(st.sampled_from(OPTIONS[name])) for name in sorted(names)}


def _with_its_callback(name: str, value: tuple[Any, Any]) -> Chosen:
    callback = name.removesuffix("_headers")
    return {name: value, **({callback: OPTIONS[callback][0]} if "callback" in name else {})}


EACH = [
    pytest.param(_with_its_callback(name, value), id=f"{name}-{n}")
    for name, values in OPTIONS.items()
    for n, value in enumerate(values)
]


class Wire(NamedTuple):
    """Both clients, and the server that keeps what they send."""

    sdk: AsyncQStash
    sender: Sender
    server: Scripted

    def both(self) -> tuple[Call, Call]:
        theirs, ours = self.server.calls
        return theirs, ours


@asynccontextmanager
async def wire() -> AsyncIterator[Wire]:
    def say(_server: Scripted, call: Call) -> bytes:
        if call.target == "/v2/batch":
            said: Any = [{"messageId": "msg_1"} for _ in json.loads(call.body)]
        else:
            said = {"messageId": "msg_1", "scheduleId": "scd_1", "url": URL}
        return answer(200, json.dumps([said] if call.target.endswith("/group") else said))

    async with Scripted([say] * 2) as server, Sender(token=TOKEN, url=server.base) as sender:
        sdk = AsyncQStash(TOKEN, base_url=server.base, retry=False)
        try:
            yield Wire(sdk, sender, server)
        finally:
            await sdk.http._client.aclose()  # the SDK itself cannot be closed


def same_body(theirs: bytes, ours: bytes) -> bool:
    """Whether it is the same JSON; the spelling is what differs."""
    found: bool = json.loads(theirs) == json.loads(ours)
    return found


def compare_headers(
    theirs: dict[str, str], ours: dict[str, str], differences: dict[str, Difference]
) -> None:
    """Fail on any header that differs otherwise than the table says."""
    for name in sorted(theirs.keys() | ours.keys()):
        pair = theirs.get(name), ours.get(name)
        if pair[0] != pair[1]:
            assert name in differences, f"{name}: {pair}"
            assert differences[name].holds(*pair), f"{name}: {pair}"


def lower(headers: Any) -> dict[str, str]:
    found = {name.lower(): value for name, value in headers.items()}
    assert len(found) == len(headers), "a header is given twice"
    return found


def compare(wires: Wire, **more: Difference) -> None:
    theirs, ours = wires.both()
    assert (theirs.method, theirs.target) == (ours.method, ours.target)
    compare_headers(lower(theirs.headers), lower(ours.headers), DIFFERENCES | more)
    assert same_body(theirs.body, ours.body)


async def published(chosen: Chosen) -> None:
    async with wire() as both:
        theirs, ours = split(chosen)
        await both.sdk.message.publish_json(url=URL, body=BODY, **theirs)
        await both.sender.send(URL, POST, **ours, **MARBLE)
    compare(both, **SIGNED)


def split(chosen: Chosen) -> tuple[dict[str, Any], dict[str, Any]]:
    return (
        {name: pair[0] for name, pair in chosen.items()},
        {name: pair[1] for name, pair in chosen.items()},
    )


@pytest.mark.parametrize("chosen", [pytest.param({}, id="nothing"), *EACH])
async def test_each_option_is_written_as_the_sdk_writes_it(chosen: Chosen) -> None:
    await published(chosen)


@hypothesis_settings(max_examples=60)
@given(choices())
def test_any_options_together_are_written_as_the_sdk_writes_them(chosen: Chosen) -> None:
    asyncio.run(published(chosen))


async def test_raw_bytes_are_the_same_bytes() -> None:
    async with wire() as both:
        raw = b"\x00\xff\r\n"
        await both.sdk.message.publish(url=URL, body=raw, content_type="image/png")
        await both.sender.send(URL, raw, headers={"Content-Type": "image/png"})
    theirs, ours = both.both()
    assert theirs.body == ours.body == raw
    compare_headers(lower(theirs.headers), lower(ours.headers), DIFFERENCES)


async def test_content_may_be_what_is_compared() -> None:
    async with wire() as both:
        await both.sdk.message.publish_json(url=URL, body=BODY, content_based_deduplication=True)
        await both.sender.send(URL, BODY, content_based_deduplication=True)
    compare(both)


@hypothesis_settings(max_examples=25)
@given(choices())
def test_a_queue_is_given_the_same(chosen: Chosen) -> None:
    async def enqueued() -> None:
        theirs, ours = split({k: v for k, v in chosen.items() if k not in NOT_IN_A_QUEUE})
        async with wire() as both:
            await both.sdk.message.enqueue_json(queue="q-1", url=URL, body=BODY, **theirs)
            await both.sender.enqueue("q-1", URL, BODY, **ours)
        compare(both)

    asyncio.run(enqueued())


async def test_a_group_is_given_the_same() -> None:
    async with wire() as both:
        await both.sdk.message.publish_json(url_group="group", body=BODY, delay=5)
        await both.sender.send_to_group("group", BODY, delay=5)
    compare(both)


@hypothesis_settings(max_examples=25)
@given(choices())
def test_a_schedule_is_given_the_same(chosen: Chosen) -> None:
    async def scheduled() -> None:
        theirs, ours = split({k: v for k, v in chosen.items() if k not in NOT_IN_A_SCHEDULE})
        more: dict[str, Any] = {"cron": "0 3 * * *", "schedule_id": "nightly", "queue": "q"}
        async with wire() as both:
            await both.sdk.schedule.create_json(destination=URL, body=BODY, **more, **theirs)
            await both.sender.schedules.create(URL, BODY, **more, **ours)
        compare(both)

    asyncio.run(scheduled())


@hypothesis_settings(max_examples=25)
@given(st.lists(choices(), min_size=1, max_size=3))
def test_a_batch_holds_the_same_items(chosen: list[Chosen]) -> None:
    pairs = [split(one) for one in chosen]

    async def batched() -> None:
        async with wire() as both:
            items: list[Any] = [{"url": URL, "body": BODY, **theirs} for theirs, _ in pairs]
            await both.sdk.message.batch_json(items)
            await both.sender.send_many([Outgoing(URL, BODY, **ours) for _, ours in pairs])
        compare_batches(both)

    asyncio.run(batched())


async def test_an_item_may_stand_in_a_queue() -> None:
    async with wire() as both:
        await both.sdk.message.batch_json([{"url": URL, "body": BODY, "queue": "q"}])
        await both.sender.send_many([Outgoing(URL, BODY, queue="q")])
    compare_batches(both)


def compare_batches(both: Wire) -> None:
    theirs, ours = both.both()
    assert (theirs.method, theirs.target) == (ours.method, ours.target)
    # How long the whole is follows from the items, which are compared below.
    length = {
        "content-length": Difference("the sum of what differs in the items", _each_has_its_own)
    }
    compare_headers(lower(theirs.headers), lower(ours.headers), DIFFERENCES | length)
    for their, our in zip(json.loads(theirs.body), json.loads(ours.body), strict=True):
        assert their["destination"] == our["destination"]
        assert same_body(their["body"], our["body"])
        # The SDK writes a queue of null where there is none; ours leaves it away.
        assert their["queue"] == our.get("queue")
        assert our.get("queue", "") is not None
        compare_headers(lower(their["headers"]), lower(our["headers"]), IN_ITEMS)
        assert their.keys() - our.keys() <= {"queue"}
        assert our.keys() <= their.keys()


@pytest.mark.parametrize(
    ("url", "theirs"),
    [
        ("https://a.example/x#part", "https://a.example/x"),
        ("https://a.example/x/../y", "https://a.example/y"),
        ("https://a.example/./x", "https://a.example/x"),
    ],
    ids=["fragment", "dots", "dot"],
)
async def test_a_url_that_the_sdk_changes_is_sent_as_it_was_written(url: str, theirs: str) -> None:
    """The one difference in the path: what the subscriber was registered as is what `sub` names."""
    async with wire() as both:
        await both.sdk.message.publish_json(url=url, body=BODY)
        await both.sender.send(url, BODY)
    assert [call.target for call in both.server.calls] == [
        f"/v2/publish/{theirs}",
        f"/v2/publish/{url}",
    ]


def test_each_difference_of_the_table_is_one() -> None:
    """A row that nothing needs any more would let something else pass."""
    needed = {"connection", "content-length", "upstash-deduplication-id", "user-agent"}

    async def found() -> set[str]:
        async with wire() as both:
            await both.sdk.message.publish_json(url=URL, body=BODY)
            await both.sender.send(URL, BODY)
        theirs, ours = (lower(call.headers) for call in both.both())
        return {name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)}

    assert needed <= asyncio.run(found()) <= DIFFERENCES.keys()
