"""The log of messages: what it shows and hides, and how it is filtered."""

from __future__ import annotations

from hashlib import sha256

from hookmill.emulator import views
from hookmill.emulator.filters import Filter
from hookmill.emulator.message_log import MAX_LOGGED_BYTES
from hookmill.emulator.models import AttemptResult
from tests.emulator.brokers import OK, TimedBroker


def test_the_log_has_no_bodies_and_shows_redacted_headers_as_hashes() -> None:
    timed = TimedBroker()
    timed.publish(body=b"secret", headers=(("X-A", "a"), ("X-B", "b")), redact=("header[X-A]",))
    timed.publish(headers=(("X-A", "a"),), redact=("header",))
    one, other = reversed(timed.broker.log.find(Filter()))
    assert one.message.template.body == b""
    hidden = f"REDACTED:{sha256(b'a').hexdigest()}"
    shown = [views.log_entry(entry) for entry in (one, other)]
    assert [entry["header"] for entry in shown] == [
        {"X-A": [hidden], "X-B": ["b"]},
        {"X-A": [hidden]},
    ]


def test_the_log_is_filtered_by_message_state_and_time() -> None:
    timed = TimedBroker()
    one = timed.publish()
    timed.attempt(OK)
    timed.now += 10
    timed.publish(labels=("l",))
    assert [e.state for e in timed.broker.log.find(Filter(message_ids=(one,)))] == [
        "DELIVERED", "ACTIVE", "CREATED",
    ]  # fmt: skip
    assert len(timed.broker.log.find(Filter(states=("CREATED",)))) == 2
    assert len(timed.broker.log.find(Filter(from_ms=round(timed.now * 1000)))) == 1
    assert len(timed.broker.log.find(Filter(to_ms=round(timed.now * 1000) - 1))) == 3
    assert len(timed.broker.log.find(Filter(labels=("l",)))) == 1


def test_a_log_entry_contains_the_beginning_of_a_response() -> None:
    timed = TimedBroker()
    timed.publish(retries=0)
    timed.attempt(AttemptResult(500, body=b"x" * 100_000))
    assert {len(one.result.body) for one in timed.state.log if one.result} == {MAX_LOGGED_BYTES}
    assert len(timed.broker.dlq.find(Filter())[0].result.body) == 100_000
