"""Traces of a receiver: which spans a delivery makes, and what of a sender's trace counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import NoOpTracer, SpanKind, StatusCode

from hookmill.config.settings import Settings
from hookmill.config.sources import Source, sources_of
from hookmill.instrumentation.tracing import Tracing
from hookmill.stream.arrival import row_of
from hookmill.stream.producer import Producer
from receiver.app import Receiver
from receiver.intake import admit
from tests.instrumentation.spans import (
    Spans,
    facts_of,
    id_of,
    links_of,
    parent_of,
    trace_of,
)
from tests.receiver.requests import MARBLE, NOW, arrival_of, signed
from tests.receiver.serving import KEYS, LIMIT, Stored
from tests.support import signed_headers

pytestmark = pytest.mark.one_server

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENDERS = f"00-{TRACE}-{SPAN}-01"
BODY = b'{"id":"evt_1","type":"post.published","data":{}}'

Post = Callable[..., Awaitable[int]]
Start = Callable[..., Awaitable[Post]]


@pytest.fixture
async def start(settings: Callable[..., Settings], stream: Producer) -> AsyncIterator[Start]:
    """Start a receiver with this tracing; return what posts a Marble delivery to it."""
    started: list[Any] = []

    async def start_one(tracing: Tracing | None, *, trusted: bool = False) -> Post:
        given = settings(**KEYS, body_limit=LIMIT)
        sources = {one.name: one for one in sources_of(given)}
        source = sources["marble"] = replace(sources["marble"], trusts_trace=trusted)
        receiver = Receiver(given, sources.values(), stream, tracing=tracing)
        port = await receiver.start()
        http = aiohttp.ClientSession()
        started.extend((receiver, http))

        async def post(body: bytes = BODY, *, forged: bool = False, **more: str) -> int:
            headers = [*signed_headers(source.scheme, body, source.path).items(), *more.items()]
            url = f"http://127.0.0.1:{port}{source.path}"
            data = body + b" " if forged else body
            async with http.post(url, data=data, headers=headers) as answer:
                return answer.status

        return post

    yield start_one
    for receiver, http in zip(started[::2], started[1::2], strict=True):
        await http.close()
        await receiver.stop()


async def test_a_delivery_is_a_span_and_its_message_and_the_append_are_below_it(
    start: Start, stored: Stored, prefix: str, redis_client: Any
) -> None:
    spans = Spans()
    post = await start(spans.tracing(prefix))
    assert await post() == 200

    served = spans.one("POST /marble")
    created, sent = spans.one(f"create {prefix}"), spans.one(f"send {prefix}")
    assert (served.kind, created.kind, sent.kind) == (
        SpanKind.SERVER, SpanKind.PRODUCER, SpanKind.CLIENT,
    )  # fmt: skip
    assert parent_of(served) == ""
    assert parent_of(created) == id_of(served)
    assert parent_of(sent) == id_of(created)
    assert links_of(sent) == [id_of(created)]
    (entry,) = stored()
    assert entry[b"trace"].startswith(f"00-{trace_of(served)}-{id_of(created)}-0".encode())
    assert len(entry[b"trace"]) == 55
    assert b"baggage" not in entry
    assert facts_of(served)["http.response.status_code"] == 200
    assert facts_of(served)["http.route"] == "/marble"
    about = facts_of(created)
    assert about["messaging.message.id"] == "evt_1"
    assert about["messaging.system"] == "hookmill"
    assert about["messaging.operation.name"] == about["messaging.operation.type"] == "create"
    assert about["messaging.destination.name"] == prefix
    assert about["hookmill.event.type"] == "post.published"
    assert facts_of(sent)["messaging.batch.message_count"] == 1


async def test_a_strangers_trace_is_a_link_and_does_not_make_us_record(
    start: Start, stored: Stored
) -> None:
    recording, silent = Spans(), Spans(samples=False)
    for spans in (recording, silent):
        post = await start(spans.tracing())
        assert await post(traceparent=SENDERS, baggage="tenant=7") == 200
    served = recording.one("POST /marble")
    assert parent_of(served) == ""
    assert trace_of(served) != TRACE
    assert links_of(served) == [SPAN]
    assert silent.ended == []
    for entry in stored():
        assert b"baggage" not in entry
        assert TRACE.encode() not in entry[b"trace"]
    assert [int(entry[b"trace"][-1:], 16) & 1 for entry in stored()] == [1, 0]


async def test_the_trace_of_a_trusted_sender_goes_on_and_its_baggage_too(
    start: Start, stored: Stored
) -> None:
    spans = Spans(samples=False)  # the sender has decided that it is recorded
    post = await start(spans.tracing(), trusted=True)
    assert await post(traceparent=SENDERS, baggage="tenant=7,plan=gold") == 200
    served = spans.one("POST /marble")
    assert (trace_of(served), parent_of(served)) == (TRACE, SPAN)
    (entry,) = stored()
    assert entry[b"trace"].startswith(f"00-{TRACE}-".encode())
    assert entry[b"baggage"] == b"tenant=7,plan=gold"


@pytest.mark.parametrize(
    "given",
    [
        f"00-{'0' * 32}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        SENDERS.upper(),
        SENDERS + "-" + "a" * 5000,
    ],
    ids=["zero", "ff", "upper case", "huge"],
)
async def test_an_invalid_trace_of_a_trusted_sender_is_not_gone_on_with(
    given: str, start: Start, stored: Stored
) -> None:
    spans = Spans()
    post = await start(spans.tracing(), trusted=True)
    assert await post(traceparent=given, baggage="é") == 200
    assert parent_of(spans.one("POST /marble")) == ""
    (entry,) = stored()
    assert b"baggage" not in entry


async def test_a_refused_delivery_is_a_span_that_is_no_failure_of_ours(start: Start) -> None:
    spans = Spans()
    post = await start(spans.tracing())
    assert await post(forged=True) == 401
    (served,) = spans.ended
    assert facts_of(served)["http.response.status_code"] == 401
    assert facts_of(served)["error.type"] == "signature_mismatch"
    assert served.status.status_code is StatusCode.UNSET


async def test_without_an_sdk_there_is_no_span_and_no_field(start: Start, stored: Stored) -> None:
    # The API's own tracer does nothing. A trusted sender's trace passes through it unchanged.
    for trusted in (False, True):
        post = await start(Tracing(NoOpTracer(), "x", is_joined=True), trusted=trusted)
        assert await post(traceparent=SENDERS) == 200
    without, passed = stored()
    assert b"trace" not in without
    assert passed[b"trace"] == SENDERS.encode()


async def test_with_traces_off_an_entry_has_the_fields_that_it_always_had(
    start: Start, stored: Stored
) -> None:
    post = await start(None)
    assert await post(traceparent=SENDERS, baggage="tenant=7") == 200
    (entry,) = stored()
    assert not {b"trace", b"baggage"} & entry.keys()


async def test_a_sampler_that_raises_costs_no_delivery(start: Start, stored: Stored) -> None:
    class Broken(Sampler):
        def should_sample(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("the user's own sampler")

        def get_description(self) -> str:
            return "broken"

    provider = TracerProvider(sampler=Broken(), shutdown_on_exit=False)
    post = await start(Tracing(provider.get_tracer("test"), "x", is_joined=True))
    assert await post() == 200
    (entry,) = stored()
    assert b"trace" not in entry


def test_a_spooled_row_keeps_its_trace_in_the_version_that_older_receivers_read() -> None:
    arrival = arrival_of(admit(MARBLE, signed(MARBLE, BODY), NOW))
    arrival = replace(arrival, trace=SENDERS.encode(), baggage=b"tenant=7")
    for version in (2, 3):
        fields = row_of(arrival, version).in_version_2().fields
        assert fields[b"version"] == b"2"
        assert (fields[b"trace"], fields[b"baggage"]) == (SENDERS.encode(), b"tenant=7")


def test_only_qstash_is_trusted_unless_a_table_says_so(
    settings: Callable[..., Settings],
) -> None:
    def trusted(**tables: Any) -> dict[str, bool]:
        sources: list[Source] = sources_of(settings(**KEYS, sources=tables))
        return {one.name: one.trusts_trace for one in sources}

    assert trusted() == {"qstash": True, "marble": False}
    both = {"qstash": {"trusted_trace": False}, "marble": {"trusted_trace": True}}
    assert trusted(**both) == {"qstash": False, "marble": True}
