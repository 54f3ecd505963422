"""One trace for one message, from the sender over a receiver and a worker to its last attempt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks_of
from tests.e2e.collector import Collector, collector
from tests.e2e.line import Line
from tests.support import wait_until

pytestmark = pytest.mark.one_server

HANDLERS = """
from hookmill import Backoff, Delivery, Handlers, Message
from opentelemetry import baggage, trace

from ledger import _write

handlers = Handlers()


@handlers.on("order.paid", backoff=Backoff(first=0))
async def ship(delivery: Delivery[Message]) -> None:
    if delivery.attempt == 1:
        raise ValueError("no van")
    with trace.get_tracer("shop").start_as_current_span("book a van"):
        _write("tenant", str(baggage.get_baggage("tenant")), 1)
    _write("end", delivery.id, 1)


@handlers.on("post.published")
def publish(delivery: Delivery[Message]) -> None:
    _write("end", delivery.id, 1)
"""

TRACE, SENDERS = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def set_up(line: Line, folder: Path, found: Collector) -> dict[str, str]:
    """Write the module that the page on traces shows; return the variables that it names."""
    page = DOCS / "how-to" / "trace-messages.md"
    (module,) = (block.text for block in blocks_of(page) if block.file == "tracing.py")
    (folder / "tracing.py").write_text(module)
    (folder / "shipping.py").write_text(HANDLERS)
    return {
        **line.env,
        "HOOKMILL_TRACES": "joined",
        "HOOKMILL_TRACES_SETUP": "tracing:start",
        "HOOKMILL_HANDLERS": "shipping:handlers",
        "OTEL_EXPORTER_OTLP_ENDPOINT": found.endpoint,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.01",
    }


async def test_one_trace_shows_a_message_from_its_sender_to_its_last_attempt(
    line: Line, start_program: object, tmp_path: Path
) -> None:
    assert callable(start_program)
    with collector() as found:
        env = set_up(line, tmp_path, found)
        receiver = start_program("receiver", env={**env, "OTEL_SERVICE_NAME": "receiver"})
        worker = start_program("worker", env={**env, "OTEL_SERVICE_NAME": "worker"})
        receiver.wait_for('"receiving"')
        worker.wait_for('"working"')
        order = line.order(1)
        order.headers["traceparent"] = f"00-{TRACE}-{SENDERS}-01"
        order.headers["baggage"] = "tenant=7"
        posts = [line.post_published(number) for number in range(300)]
        for post in posts:
            post.headers["traceparent"] = f"00-{'ab' * 16}-{'cd' * 8}-01"
        assert await line.send([order, *posts]) == {200: 301}
        line.wait_for_handled(301)
        wait_until(lambda: len(found.named("book a van")) == 1, what="the handler's own span")
        assert (worker.stop(), receiver.stop()) == (0, 0)

    prefix = line.env["HOOKMILL_PREFIX"]
    ours = [span for span in found.spans if span.trace == TRACE]
    by_name = {
        name: [span for span in ours if span.name == name] for name in {span.name for span in ours}
    }
    (served,), (created,) = by_name["POST /qstash"], by_name[f"create {prefix}"]
    first, second = sorted(
        by_name[f"process {prefix}"], key=lambda span: span.facts["hookmill.attempt"]
    )
    (booked,) = by_name["book a van"]
    assert (served.parent, created.parent) == (SENDERS, served.id)
    assert (first.parent, second.parent) == (created.id, created.id)
    assert booked.parent == second.id
    assert first.facts["error.type"] == "ValueError"
    assert {span.program for span in ours} == {"receiver", "worker"}
    assert len(by_name[f"ack {prefix}"]) == 2
    assert "tenant 7 " in line.ledger.read_text()

    # Strangers' flags count for nothing: a hundredth is sampled, and each of these wholly.
    rest = {span.trace for span in found.spans} - {TRACE}
    assert len(rest) < 30
    assert "ab" * 16 not in rest
    for trace in rest:
        names = {span.name for span in found.spans if span.trace == trace}
        assert {"POST /marble", f"create {prefix}", f"process {prefix}"} <= names

    for program in (receiver, worker):
        lines = [json.loads(text) for text in program.log.splitlines()]
        about = [row for row in lines if row.get("id") == "msg_1"]
        assert about
        assert {row["trace_id"] for row in about} == {TRACE}
        others = [row for row in lines if row.get("source") == "marble"]
        assert all(len(row["trace_id"]) == 32 for row in others)
        assert len({row["trace_id"] for row in others}) == 300
