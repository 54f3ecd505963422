"""Traces of a worker: one span an attempt, through retries, fan-out, parking and replay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from hookmill import Backoff, Dead, Delivery, Handlers, Message, Retry
from hookmill.config.settings import Settings
from hookmill.instrumentation.tracing import Tracing
from hookmill.stream.arrival import Arrival, row_of
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.producer import Producer
from tests.instrumentation.spans import (
    Spans,
    facts_of,
    id_of,
    links_of,
    parent_of,
    trace_of,
)
from tests.support import dead_letters, eventually, message
from worker.app import Worker

pytestmark = pytest.mark.one_server

TRACE, CREATED = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = (f"00-{TRACE}-{CREATED}-{flag}".encode() for flag in ("03", "02"))

Send = Callable[..., Any]
Work = Callable[..., Any]


def arrival(trace: bytes = SAMPLED, **fields: Any) -> Arrival:
    given = message(**{"id": "m1", "type": "order.paid", **fields})
    values = {name: getattr(given, name) for name in given.__struct_fields__}
    return replace(Arrival(**values), trace=trace, baggage=b"tenant=7")


@pytest.fixture
def send(stream: Producer) -> Send:
    async def send_all(*arrivals: Arrival) -> None:
        await stream.append_rows([row_of(one, 3) for one in arrivals])

    return send_all


@pytest.fixture
def work(settings: Callable[..., Settings]) -> Work:
    """Run a worker with these handlers during a block."""

    @asynccontextmanager
    async def running(handlers: Handlers[Any], tracing: Tracing | None) -> AsyncIterator[Worker]:
        worker = Worker(settings(), handlers, None, tracing)
        worker.start()
        try:
            yield worker
        finally:
            await worker.stop(5.0)

    return running


def attempts(spans: Spans) -> list[ReadableSpan]:
    return [span for span in spans.ended if span.name.startswith("process ")]


async def ended(spans: Spans, *outcomes: str) -> list[ReadableSpan]:
    """Wait until these attempts have ended and are settled."""

    def found() -> list[str]:
        return sorted(facts_of(span)["hookmill.outcome"] for span in attempts(spans))

    def settled() -> int:
        acks = (span for span in spans.ended if span.name.startswith("ack "))
        return sum(len(links_of(span)) for span in acks)

    await eventually(lambda: found() == sorted(outcomes) and settled() == len(outcomes))
    return attempts(spans)


def failing_once(handlers: Handlers[Any], name: str = "work") -> None:
    @handlers.on("order.paid", name=name, backoff=Backoff(first=0))
    async def run(delivery: Delivery[Message]) -> None:
        if delivery.attempt == 1:
            raise ValueError("the mail server is away")


async def test_each_attempt_is_a_span_of_the_messages_trace(
    work: Work, send: Send, prefix: str
) -> None:
    handlers, spans = Handlers(), Spans()
    failing_once(handlers)
    async with work(handlers, spans.tracing(prefix)) as worker:
        await send(arrival())
        first, second = await ended(spans, "retry", "done")
    for span in (first, second):
        assert span.name == f"process {prefix}"
        assert span.kind is SpanKind.CONSUMER
        assert (trace_of(span), parent_of(span)) == (TRACE, CREATED)
    facts = facts_of(first)
    assert facts["messaging.system"] == "hookmill"
    assert facts["messaging.operation.type"] == "process"
    assert facts["messaging.message.id"] == "m1"
    assert facts["messaging.client.id"] == worker.consumer_name
    assert facts["messaging.destination.partition.id"] == "0"
    assert (facts["hookmill.handler"], facts["hookmill.attempt"]) == ("work", 1)
    assert facts["hookmill.event.type"] == "order.paid"
    assert facts["error.type"] == "ValueError"
    assert first.status.status_code is StatusCode.ERROR
    (event,) = first.events
    told: dict[str, Any] = dict(event.attributes or {})
    assert (event.name, told["exception.type"]) == ("exception", "ValueError")
    assert told["exception.message"] == "ValueError: the mail server is away"
    assert "in run" in told["exception.stacktrace"]
    assert facts_of(second)["hookmill.attempt"] == 2
    assert (second.events, second.status.status_code) == ((), StatusCode.UNSET)
    ack = next(span for span in spans.ended if span.name == f"ack {prefix}")
    assert ack.kind is SpanKind.CLIENT
    assert facts_of(ack)["messaging.operation.type"] == "settle"
    assert (trace_of(ack), parent_of(ack)) == (TRACE, id_of(first))


async def test_an_attempt_that_is_only_linked_begins_a_trace(work: Work, send: Send) -> None:
    handlers, spans = Handlers(), Spans()
    failing_once(handlers)
    async with work(handlers, spans.tracing(is_joined=False)):
        await send(arrival())
        both = await ended(spans, "retry", "done")
    assert [parent_of(span) for span in both] == ["", ""]
    assert [links_of(span) for span in both] == [[CREATED], [CREATED]]
    assert len({TRACE, *map(trace_of, both)}) == 3


async def test_the_span_and_the_baggage_are_current_in_handlers_of_both_kinds(
    work: Work, send: Send
) -> None:
    handlers, spans = Handlers(), Spans()
    seen: dict[str, tuple[str, object]] = {}

    def look(name: str) -> None:
        context = trace.get_current_span().get_span_context()
        seen[name] = f"{context.span_id:016x}", baggage.get_baggage("tenant")

    @handlers.on("order.paid", name="async")
    async def run(delivery: Delivery[Message]) -> None:
        await asyncio.sleep(0)
        look("async")

    @handlers.on("order.paid", name="thread")
    def run_in_thread(delivery: Delivery[Message]) -> None:
        look("thread")

    async with work(handlers, spans.tracing()):
        await send(arrival())
        found = await ended(spans, "fanned_out", "done", "done")
    told = {facts_of(span).get("hookmill.handler"): span for span in found}
    assert {name: (id_of(told[name]), "7") for name in ("async", "thread")} == seen
    assert {trace_of(span) for span in found} == {TRACE}
    assert "hookmill.handler" not in facts_of(told[None])


async def test_a_message_that_waited_for_its_key_keeps_its_trace(work: Work, send: Send) -> None:
    handlers, spans = Handlers(), Spans()
    failing_once(handlers)
    others = SAMPLED.replace(b"4bf9", b"0000")
    async with work(handlers, spans.tracing()):
        await send(arrival(key="k"), arrival(others, id="m2", key="k"))
        found = await ended(spans, "retry", "done", "retry", "done")
    traces = [(facts_of(span)["messaging.message.id"], trace_of(span)) for span in found]
    assert traces == 2 * [("m1", TRACE)] + 2 * [("m2", "0000" + TRACE[4:])]


async def test_a_dead_letter_and_its_replay_keep_the_trace(
    work: Work, send: Send, stream: Producer
) -> None:
    handlers, spans = Handlers(), Spans()
    is_mended = False

    @handlers.on("order.paid")
    async def run(delivery: Delivery[Message]) -> None:
        if not is_mended:
            raise Dead("no customer: 4711")

    async with work(handlers, spans.tracing()):
        await send(arrival())
        (dead,) = await ended(spans, "dead")
        is_mended = True
        (letter,) = await dead_letters(stream)
        assert await DeadLetters(stream.client, "main").replay([letter.id]) == 1
        _, again = await ended(spans, "dead", "done")
    assert facts_of(dead)["error.type"] == "_OTHER"  # a text that differs each time groups nothing
    assert dead.status.description == "no customer: 4711"
    assert (trace_of(again), parent_of(again)) == (TRACE, CREATED)


async def test_what_the_receiver_did_not_sample_makes_no_span_but_its_trace_goes_on(
    work: Work, send: Send
) -> None:
    handlers, spans, seen = Handlers(), Spans(), list[Any]()

    @handlers.on("order.paid")
    async def run(delivery: Delivery[Message]) -> None:
        seen.append(trace.get_current_span().get_span_context())
        seen.append(baggage.get_baggage("tenant"))

    async with work(handlers, spans.tracing()):
        await send(arrival(UNSAMPLED))
        await eventually(lambda: len(seen) == 2)
    context, tenant = seen
    assert (f"{context.trace_id:032x}", f"{context.span_id:016x}") == (TRACE, CREATED)
    assert not context.trace_flags.sampled
    assert tenant == "7"
    assert spans.ended == []


async def test_a_handler_that_asks_to_wait_has_not_failed(work: Work, send: Send) -> None:
    handlers, spans, asked = Handlers(), Spans(), list[int]()

    @handlers.on("order.paid")
    async def run(delivery: Delivery[Message]) -> None:
        asked.append(1)
        if len(asked) == 1:
            raise Retry(after=0)

    async with work(handlers, spans.tracing()):
        await send(arrival())
        first, _ = await ended(spans, "retry", "done")
    assert first.status.status_code is StatusCode.UNSET
    assert "error.type" not in facts_of(first)


@pytest.mark.parametrize(
    "field", [b"nonsense", b"\xff" * 55, SAMPLED.upper(), SAMPLED.replace(b"4", b"0")[:-2]]
)
async def test_a_field_that_cannot_be_read_costs_no_message(
    field: bytes, work: Work, send: Send
) -> None:
    handlers, spans, seen = Handlers(), Spans(), list[Any]()

    @handlers.on("order.paid")
    async def run(delivery: Delivery[Message]) -> None:
        seen.append(trace.get_current_span().get_span_context())

    async with work(handlers, spans.tracing()):
        await send(arrival(field))
        await eventually(lambda: len(seen) == 1)
    assert seen[0].is_valid
    assert TRACE not in {f"{seen[0].trace_id:032x}", *map(trace_of, spans.ended)}


async def test_where_a_share_is_sampled_a_message_without_a_trace_makes_no_span(
    work: Work, send: Send
) -> None:
    handlers, spans, seen = Handlers(), Spans(), list[Any]()

    @handlers.on("order.paid")
    async def run(delivery: Delivery[Message]) -> None:
        # What a library in the handler begins is not recorded either.
        with spans.tracer.start_as_current_span("book a van") as own:
            seen.append(own.get_span_context())

    async with work(handlers, spans.tracing(sample=0.01)):
        await send(replace(arrival(), trace=b"", id="m1"), replace(arrival(), trace=b"", id="m2"))
        await eventually(lambda: len(seen) == 2)
    one, other = seen
    assert one.is_valid
    assert not one.trace_flags.sampled
    assert one.trace_id != other.trace_id
    assert spans.ended == []


async def test_a_sampler_that_raises_costs_no_message(work: Work, send: Send) -> None:
    class Broken(Sampler):
        def should_sample(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("the user's own sampler")

        def get_description(self) -> str:
            return "broken"

    handlers, done = Handlers(), list[str]()

    @handlers.on("order.paid")
    async def run(delivery: Delivery[Message]) -> None:
        done.append(delivery.id)

    provider = TracerProvider(sampler=Broken(), shutdown_on_exit=False)
    tracing = Tracing(provider.get_tracer("test"), "x", is_joined=False)
    with capture_logs() as lines:
        async with work(handlers, tracing):
            await send(arrival())
            await eventually(lambda: done == ["m1"])
    assert [line["event"] for line in lines].count("spans cannot be made") == 1


@pytest.mark.parametrize("is_on", [False, True], ids=["traces off", "traces on"])
async def test_log_lines_of_a_message_name_its_trace(
    is_on: bool, work: Work, send: Send, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers, done = Handlers(), list[str]()

    @handlers.on("order.paid")
    async def run(delivery: Delivery[Message]) -> None:
        done.append(delivery.id)

    async with work(handlers, Spans().tracing() if is_on else None):
        await send(arrival(UNSAMPLED), replace(arrival(), trace=b"", id="m2"))
        await eventually(lambda: sorted(done) == ["m1", "m2"])
    lines = [line for line in capsys.readouterr().out.splitlines() if " handled" in line]
    assert [f"trace_id={TRACE}" in line for line in lines] == ["id=m1" in line for line in lines]
    assert len(lines) == 2
