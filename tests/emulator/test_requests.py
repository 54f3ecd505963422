"""Requests to publish, enqueue, schedule or batch: what is read, and what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hookmill.emulator.models import (
    ApiError,
    PublishRequest,
    Template,
)
from hookmill.emulator.requests import (
    ApiRequest,
    read_batch,
    read_enqueue,
    read_publish,
    read_schedule,
)
from tests.emulator.refusals import refusal

URL = "https://example.com/hook"


def request(destination: str = URL, /, **headers: str) -> ApiRequest:
    """A request to publish; `Upstash_Delay="5s"` stands for a header."""
    given = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return ApiRequest(f"/v2/publish/{destination}", given, peer="10.1.2.3")


def template(**headers: str) -> Template:
    return read_publish(request(**headers)).template


@pytest.mark.parametrize(
    "destination",
    [
        URL,
        "http://127.0.0.1:8080/",
        "http://localhost",
        "http://[::1]:8000/x",
        "https://user:secret@example.com/",
        "https://example.com/a/../b//c/./d",
        "https://example.com/a%2Fb%2e%2E%C3%BC",
        "https://example.com/?",
        "https://example.com?a=1&&b=&=c&a=2",
        "https://example.com/x?next=https://other.example/?a=b&c={d|e}",
        "https://example.com/x?Upstash-Retries=3&my-upstash-x=1",
        "HTTPS://EXAMPLE.com/x",
        "my-group_1.x",
    ],
)
def test_a_destination_is_kept_as_it_was_written(destination: str) -> None:
    assert read_publish(request(destination)).destination == destination
    enqueued = read_enqueue(ApiRequest(f"/v2/enqueue/q/{destination}", ()), "q")
    assert (enqueued.destination, enqueued.queue) == (destination, "q")
    target = f"http://localhost:8080/v2/schedules/{destination}"  # as clients write to a proxy
    parsed, *_ = read_schedule(ApiRequest(target, (("Upstash-Cron", "* * * * *"),)))
    assert parsed.destination == destination


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("?upstash-retries=7", ""),
        ("?qstash_token=secret&upstash-retries=7", ""),
        ("?a=1&upstash-retries=7&b=%2F", "?a=1&b=%2F"),
        ("?upstash-retries=7&a=%2f+", "?a=%2f+"),
        ("?a&upstash-retries=7", "?a"),
    ],
)
def test_options_in_the_query_are_the_apis_and_the_rest_is_the_destinations(
    query: str, left: str
) -> None:
    parsed = read_publish(request(URL + query))
    assert (parsed.destination, parsed.template.retries) == (URL + left, 7)


def test_an_option_in_the_query_is_decoded_and_a_header_takes_precedence() -> None:
    query = (
        "?upstash-retry-delay=1000%20*%20(1+%2B+retried)&upstash-retries=7&upstash-forward-x=%C3%BC"
    )
    read = read_publish(request(URL + query, Upstash_Retries="2")).template
    assert (read.retries, read.retry_delay) == (2, "1000 * (1 + retried)")
    assert read.headers == (("x", "\u00fc"),)


@pytest.mark.parametrize(
    "destination",
    [
        "ftp://example.com",
        "https:/example.com",
        "https://",
        "https:///x",
        "https://:80/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://[::1/",
        "https://example.com/#part",
        "https://example.com/a b",
        "https://example.com\\@evil.example/",
        "https://example.com/\u00fc",
        "https://example.com/\udcff",
        "https%3A%2F%2Fexample.com",
        "api/llm",
        "group/name",
        "group\u00fc",
        "x" * 257,
        "?a=1",
        "",
    ],
)
def test_an_invalid_destination_is_refused_without_showing_it(destination: str) -> None:
    text = refusal(read_publish, request(destination))
    assert "destination" in text
    assert "example.com" not in text


@pytest.mark.parametrize("header", ["Upstash-Delay", "Upstash-Not-Before"])
def test_a_queue_takes_no_delay(header: str) -> None:
    value = "5s" if header == "Upstash-Delay" else "1700000000"
    asked = ApiRequest(f"/v2/enqueue/q/{URL}", ((header, value),))
    assert "queue" in refusal(read_enqueue, asked, "q")
    item = {"destination": URL, "queue": "q", "headers": {header: value}}
    (found,) = read_batch(ApiRequest("", (), msgspec.json.encode([item])))
    assert isinstance(found, ApiError)


def test_headers_are_forwarded_by_their_prefix_with_the_content_type() -> None:
    headers = {
        "Content-Type": "text/plain",
        "Accept": "*/*",
        "Upstash-Forward-My-Header": "one",
        "upstash-forward-x": "two",
        "Upstash-Forward-Upstash-Workflow-Init": "true",
    }
    assert template(**headers).headers == (
        ("Content-Type", "text/plain"),
        ("My-Header", "one"),
        ("x", "two"),
        ("Upstash-Workflow-Init", "true"),
    )


def test_a_forwarded_content_type_replaces_that_of_the_request() -> None:
    headers = {"Content-Type": "text/plain", "Upstash-Forward-Content-Type": "text/html"}
    assert template(**headers).headers == (("Content-Type", "text/html"),)


def test_all_headers_are_forwarded_on_request() -> None:
    headers = {
        "Host": "localhost",
        "X-Hub-Signature": "sha256=1",
        "Authorization": "Bearer the-senders",
        "User-Agent": "hub",
        "Accept-Encoding": "br",
        "Content-Length": "3",
        "Content-Encoding": "gzip",
        "Upstash-Header-Forward": "True",
        "Upstash-Forward-X": "1",
    }
    assert template(**headers).headers == (
        ("X-Hub-Signature", "sha256=1"),
        ("Authorization", "Bearer the-senders"),
        ("Content-Encoding", "gzip"),
        ("X", "1"),
    )


@pytest.mark.parametrize(
    "name", ["Host", "Content-Length", "Transfer-Encoding", "Upstash-Signature", "upstash-retried"]
)
def test_headers_that_a_delivery_sets_itself_are_not_forwarded(name: str) -> None:
    assert template(**{f"Upstash-Forward-{name}": "x"}).headers == ()


def test_a_schedule_has_a_cron_expression_and_may_have_an_id_and_a_queue() -> None:
    headers = {"Upstash-Cron": "*/5 * * * *", "Upstash-Schedule-Id": "a.b-c_1"}
    parsed, cron, schedule_id = read_schedule(request(**headers, **{"Upstash-Delay": "5s"}))
    assert (parsed.delay_ms, cron, schedule_id) == (5000, "*/5 * * * *", "a.b-c_1")
    parsed, _, schedule_id = read_schedule(
        request(**{"Upstash-Cron": "* * * * *", "Upstash-Queue-Name": "q"})
    )
    assert (parsed.queue, schedule_id) == ("q", "")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "Upstash-Cron is missing"),
        ({"Upstash-Cron": "* * * * *", "Upstash-Schedule-Id": "a/b"}, "schedule ID 'a/b'"),
        ({"Upstash-Cron": "* * * * *", "Upstash-Queue-Name": "a b"}, "queue 'a b'"),
        ({"Upstash-Cron": "* * * * *", "Upstash-Not-Before": "1"}, "Upstash-Not-Before"),
    ],
)
def test_an_invalid_schedule_is_refused(headers: dict[str, str], reason: str) -> None:
    assert reason in refusal(read_schedule, request(**headers))


def test_the_good_items_of_a_batch_are_read_beside_the_bad() -> None:
    items: list[Any] = [
        {"destination": URL, "body": "\u00fc", "headers": {"Upstash-Forward-X": ["a", "b"]}},
        {"destination": "team", "queue": "q", "headers": {"Upstash-Retries": 1}},
        {"destination": URL, "body": None, "headers": None, "queue": None},
        {"body": "x"},
        "text",
        {"destination": URL, "queue": "a b"},
        {"destination": URL, "headers": {"Upstash-Delay": "x"}},
        {"destination": URL, "body": 5},
    ]
    found = read_batch(ApiRequest("", (), msgspec.json.encode(items), "10.1.2.3"))
    all_parsed = [one for one in found if isinstance(one, PublishRequest)]
    assert [one.destination for one in all_parsed] == [URL, "team", URL]
    assert all_parsed[0].template.body == "\u00fc".encode()
    assert all_parsed[0].template.headers == (("X", "a"), ("X", "b"))
    assert all_parsed[0].template.caller_ip == "10.1.2.3"
    assert (all_parsed[1].queue, all_parsed[1].template.retries) == ("q", 1)
    assert [isinstance(one, ApiError) for one in found] == [False] * 3 + [True] * 5


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b"\xff", b"null", b"[" * 100_000])
def test_an_invalid_batch_is_refused(body: bytes) -> None:
    assert "the body is not" in refusal(read_batch, ApiRequest("", (), body))
