"""Deduplication by ID and by content."""

from __future__ import annotations

import pytest

from hookmill.emulator.models import (
    PublishRequest,
    Template,
)
from tests.emulator.brokers import OK, TimedBroker


def test_the_same_deduplication_id_is_accepted_once_in_ten_minutes() -> None:
    timed = TimedBroker()
    request = PublishRequest("http://a.example/", Template(), deduplication_id="d1")
    (first,) = timed.broker.publish(request)
    timed.attempt(OK)
    timed.now += 599
    (second,) = timed.broker.publish(request)
    assert (second.message_id, second.is_duplicate) == (first.message_id, True)
    assert timed.start() == []

    timed.now += 2
    (third,) = timed.broker.publish(request)
    assert not third.is_duplicate
    assert third.message_id != first.message_id
    timed.now += 601
    timed.attempt(OK)
    assert len(timed.state.deduplications) == 0, "what no longer counts is forgotten"


@pytest.mark.parametrize(
    ("change", "is_duplicate"),
    [
        ({}, True),
        ({"body": b"other"}, False),
        ({"headers": (("Content-Type", "text/plain"),)}, False),
        ({"retries": 1}, True),
    ],
)
def test_by_content_means_destination_body_and_headers(
    change: dict[str, object], is_duplicate: bool
) -> None:
    timed = TimedBroker()
    fields: dict[str, object] = {"body": b"x", "headers": (("Content-Type", "application/json"),)}

    def publish(url: str, **changed: object) -> bool:
        template = Template(**{**fields, **changed})  # type: ignore[arg-type]
        request = PublishRequest(url, template, is_deduplicated_by_content=True)
        return timed.broker.publish(request)[0].is_duplicate

    assert not publish("http://a.example/")
    assert publish("http://a.example/", **change) is is_duplicate
    assert not publish("http://b.example/")
