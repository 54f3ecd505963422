"""Requests that change a queue, a URL group or a flow-control key."""

from __future__ import annotations

import pytest

from hookmill.emulator.models import Endpoint
from hookmill.emulator.resource_requests import (
    Pin,
    QueueChange,
    read_endpoints,
    read_pin,
    read_queue_change,
)
from tests.emulator.refusals import refusal


def test_a_queue_is_read() -> None:
    body = b'{"queueName": "q", "parallelism": 2, "paused": true, "more": 1}'
    assert read_queue_change(body) == QueueChange("q", 2, True)
    assert read_queue_change(b'{"queueName": "q"}') == QueueChange("q", None, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"queueName": "a b"}',
        b'{"queueName": "q", "parallelism": 0}',
        b'{"queueName":1}',
    ],
)
def test_an_invalid_queue_is_refused(body: bytes) -> None:
    refusal(read_queue_change, body)


def test_endpoints_are_added_by_url_and_removed_by_either() -> None:
    body = b'{"endpoints": [{"url": "http://a/", "name": "n"}, {"url": "http://b/"}]}'
    assert read_endpoints(body) == (Endpoint("http://a/", "n"), Endpoint("http://b/"))
    by_name = b'{"endpoints": [{"name": "n"}]}'
    assert read_endpoints(by_name, to_remove=True) == (Endpoint("", "n"),)
    assert refusal(read_endpoints, by_name) == "an endpoint has no url"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"endpoints": []}',
        b'{"endpoints": [{}]}',
        b'{"endpoints": [{"url": "a"}]}',
        b'{"endpoints": [{"url": "http://a/", "name": "a/b"}]}',
    ],
)
def test_an_invalid_endpoint_is_refused(body: bytes) -> None:
    refusal(read_endpoints, body, to_remove=True)


def test_a_pin_is_read() -> None:
    query = [("parallelism", "1"), ("rate", "2"), ("period", "60")]
    assert read_pin(query) == Pin(1, 2, 60.0)
    assert read_pin([("rate", "2")]) == Pin(None, 2, None)
    for wrong in ([], [("rate", "0")], [("rate", "1"), ("period", "0")]):
        refusal(read_pin, wrong)
