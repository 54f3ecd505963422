"""From requests to orders, filters and pages: what is read, and that nonsense is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookmill.emulator.models import (
    ApiError,
    Callback,
    Endpoint,
    Filter,
    FlowControl,
    Headers,
    Order,
    Template,
)
from hookmill.emulator.requests import (
    ApiRequest,
    Page,
    Pin,
    QueueChange,
    batch_orders,
    carries_token,
    choice_of,
    endpoints_of,
    enqueue_order,
    is_token,
    page_of,
    pin_of,
    publish_order,
    queue_change,
    schedule_order,
)

URL = "https://example.com/hook"


def request(destination: str = URL, /, **headers: str) -> ApiRequest:
    """A request to publish; `Upstash_Delay="5s"` stands for a header."""
    given = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return ApiRequest(f"/v2/publish/{destination}", given, peer="10.1.2.3")


def template(**headers: str) -> Template:
    return publish_order(request(**headers)).template


def refusal(call: Callable[..., Any], *args: Any, **named: Any) -> str:
    with pytest.raises(ApiError) as caught:
        call(*args, **named)
    assert caught.value.status == 400
    return caught.value.text


# --- destinations ---


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
    assert publish_order(request(destination)).destination == destination
    enqueued = enqueue_order(ApiRequest(f"/v2/enqueue/q/{destination}", ()), "q")
    assert (enqueued.destination, enqueued.queue) == (destination, "q")
    target = f"http://localhost:8080/v2/schedules/{destination}"  # as clients write to a proxy
    order, *_ = schedule_order(ApiRequest(target, (("Upstash-Cron", "* * * * *"),)))
    assert order.destination == destination


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
def test_settings_in_the_query_are_ours_and_the_rest_is_the_destinations(
    query: str, left: str
) -> None:
    order = publish_order(request(URL + query))
    assert (order.destination, order.template.retries) == (URL + left, 7)


def test_a_setting_in_the_query_is_decoded_and_stands_behind_a_header() -> None:
    query = (
        "?upstash-retry-delay=1000%20*%20(1+%2B+retried)&upstash-retries=7&upstash-forward-x=%C3%BC"
    )
    read = publish_order(request(URL + query, Upstash_Retries="2")).template
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
def test_what_is_no_destination_is_refused_without_repeating_it(destination: str) -> None:
    text = refusal(publish_order, request(destination))
    assert "destination" in text
    assert "example.com" not in text


# --- settings ---

SETTINGS: list[tuple[str, str, str, Any]] = [
    ("Upstash-Method", "delete", "method", "DELETE"),
    ("Upstash-Retries", "0", "retries", 0),
    ("Upstash-Retry-Delay", "pow(2, retried) * 1000", "retry_delay", "pow(2, retried) * 1000"),
    ("Upstash-Timeout", "5s", "timeout", 5.0),
    ("Upstash-Timeout", "1h30m", "timeout", 5400.0),
    ("Upstash-Label", "one, two,,", "labels", ("one", "two")),
    ("Upstash-Redact-Fields", "body, headers", "redact", ("body", "header")),
    ("Upstash-Redact-Fields", "Header[My-X],headers[y]", "redact", ("header[My-X]", "header[y]")),
    ("Upstash-Unknown", "\u00fc", "method", "POST"),
    ("Upstash-Retries", "", "retries", 3),
    ("Upstash-Telemetry-Sdk", "upstash-qstash-js@2", "retries", 3),
]


@pytest.mark.parametrize(("name", "value", "field", "expected"), SETTINGS)
@pytest.mark.parametrize("spelt", [str.title, str.lower, str.upper])
@pytest.mark.parametrize("where", ["header", "query", "batch"])
def test_a_setting_is_read_from_header_query_and_batch(
    name: str, value: str, field: str, expected: Any, spelt: Callable[[str], str], where: str
) -> None:
    if where == "query":
        order = publish_order(request(f"{URL}?{name.lower()}={quote(value)}"))
    elif where == "header":
        order = publish_order(ApiRequest(f"/v2/publish/{URL}", ((spelt(name), value),)))
    else:
        item = {"destination": URL, "headers": {spelt(name): value}}
        (found,) = batch_orders(ApiRequest("/v2/batch", (), msgspec.json.encode([item])))
        assert isinstance(found, Order)
        order = found
    assert getattr(order.template, field) == expected


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [("50s", 50_000), ("1d10h30m", 124_200_000), ("1d", 86_400_000), ("90m", 5_400_000), ("0s", 0)],
)
def test_a_delay_is_a_duration(value: str, milliseconds: int) -> None:
    assert publish_order(request(Upstash_Delay=value)).delay_ms == milliseconds


def test_not_before_is_in_seconds() -> None:
    assert publish_order(request(Upstash_Not_Before="1700000000")).not_before_ms == 1.7e12


@pytest.mark.parametrize("spelt", ["true", "True", "TRUE", "1", " true "])
def test_a_boolean_may_be_capitalised(spelt: str) -> None:
    order = publish_order(request(Upstash_Content_Based_Deduplication=spelt))
    assert order.is_deduplicated_by_content


@pytest.mark.parametrize("spelt", ["false", "False", "0", ""])
def test_a_boolean_may_be_false(spelt: str) -> None:
    order = publish_order(request(Upstash_Content_Based_Deduplication=spelt))
    assert not order.is_deduplicated_by_content


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("parallelism=5, rate=10, period=1m", FlowControl("k", 5, 10, 60.0)),
        ("Rate=10,Parallelism=5", FlowControl("k", 5, 10)),
        ("rate=1,period=30", FlowControl("k", 0, 1, 30.0)),
        ("rate=1,period=7d", FlowControl("k", 0, 1, 604_800.0)),
    ],
)
def test_flow_control_has_a_key_and_limits(value: str, expected: FlowControl) -> None:
    read = template(Upstash_Flow_Control_Key="k", Upstash_Flow_Control_Value=value)
    assert read.flow_control == expected


@pytest.mark.parametrize("kind", ["Callback", "Failure-Callback"])
def test_a_callback_has_settings_of_its_own(kind: str) -> None:
    headers = {
        f"Upstash-{kind}": "https://example.com/back?x=1",
        f"Upstash-{kind}-Method": "PUT",
        f"Upstash-{kind}-Timeout": "10s",
        f"Upstash-{kind}-Retry-Delay": "1000",
        f"Upstash-{kind}-Delay": "1m",
        f"Upstash-{kind}-Forward-My-Header": "yes",
        "Upstash-Retries": "5",
    }
    read = template(**headers)
    expected = Callback(
        "https://example.com/back?x=1", "PUT", (("My-Header", "yes"),), 5, "1000", 60_000, 10.0
    )
    given, other = read.callback, read.failure_callback
    assert (given, other) == ((expected, None) if kind == "Callback" else (None, expected))
    one = template(**headers, **{f"Upstash-{kind}-Retries": "0"})
    assert ((one.callback or one.failure_callback) or expected).retries == 0


REFUSED: list[tuple[dict[str, str], str]] = [
    ({"Upstash-Method": "HEAD"}, "Upstash-Method: 'HEAD' is none of GET"),
    ({"Upstash-Retries": "-1"}, "Upstash-Retries: '-1' is no whole number"),
    ({"Upstash-Retries": "1.5"}, "Upstash-Retries"),
    ({"Upstash-Retries": "1_0"}, "Upstash-Retries"),
    ({"Upstash-Retries": "\u0663"}, "Upstash-Retries"),
    ({"Upstash-Retries": "9" * 30}, "Upstash-Retries"),
    ({"Upstash-Delay": "5"}, "Upstash-Delay: '5' is no duration"),
    ({"Upstash-Delay": "5 s"}, "Upstash-Delay"),
    ({"Upstash-Delay": "99999999999d"}, "Upstash-Delay"),
    ({"Upstash-Delay": "9999999d"}, "longer than ten years"),
    ({"Upstash-Timeout": "soon"}, "Upstash-Timeout"),
    ({"Upstash-Not-Before": "2026-01-01"}, "Upstash-Not-Before"),
    ({"Upstash-Not-Before": "1700000000000"}, "Upstash-Not-Before"),
    ({"Upstash-Retry-Delay": "__import__('os')"}, "retry delay"),
    ({"Upstash-Content-Based-Deduplication": "maybe"}, "neither true nor false"),
    ({"Upstash-Redact-Fields": "bodies"}, "Upstash-Redact-Fields"),
    ({"Upstash-Flow-Control-Key": "k"}, "Upstash-Flow-Control-Value is missing"),
    ({"Upstash-Flow-Control-Value": "rate=1"}, "Upstash-Flow-Control-Key is missing"),
    ({"Upstash-Callback": "nowhere"}, "Upstash-Callback is no URL"),
    ({"Upstash-Failure-Callback": "team"}, "Upstash-Failure-Callback is no URL"),
    ({"Upstash-Callback": URL, "Upstash-Callback-Retries": "x"}, "Upstash-Callback-Retries"),
    ({"Upstash-Forward-": "x"}, "name of a header"),
    ({"Upstash-Forward-A b": "x"}, "name of a header"),
    ({"Upstash-Forward-X": "a\r\nSet-Cookie: b"}, "control character"),
    ({"Upstash-Forward-X": "\udcff"}, "not UTF-8"),
    ({"Content-Type": "\x00"}, "control character"),
    ({"Upstash-Cron": "* * * * *"}, "/v2/schedules/"),
]
REFUSED += [
    ({"Upstash-Flow-Control-Key": "k", "Upstash-Flow-Control-Value": value}, "Flow-Control-Value")
    for value in ("rate", "rate=0", "rate=x", "size=1", "period=1m", "rate=1,period=8d", ",")
]


@pytest.mark.parametrize(("headers", "reason"), REFUSED)
def test_a_setting_that_makes_no_sense_is_refused_by_its_name(
    headers: dict[str, str], reason: str
) -> None:
    assert reason in refusal(publish_order, request(**headers))


@pytest.mark.parametrize("header", ["Upstash-Delay", "Upstash-Not-Before"])
def test_a_queue_takes_no_delay(header: str) -> None:
    value = "5s" if header == "Upstash-Delay" else "1700000000"
    asked = ApiRequest(f"/v2/enqueue/q/{URL}", ((header, value),))
    assert "queue" in refusal(enqueue_order, asked, "q")
    item = {"destination": URL, "queue": "q", "headers": {header: value}}
    (found,) = batch_orders(ApiRequest("", (), msgspec.json.encode([item])))
    assert isinstance(found, ApiError)


# --- forwarded headers ---


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


def test_a_forwarded_content_type_takes_the_place_of_the_requests() -> None:
    headers = {"Content-Type": "text/plain", "Upstash-Forward-Content-Type": "text/html"}
    assert template(**headers).headers == (("Content-Type", "text/html"),)


def test_all_headers_go_along_where_that_is_asked_for() -> None:
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
def test_what_a_delivery_decides_itself_is_not_forwarded(name: str) -> None:
    assert template(**{f"Upstash-Forward-{name}": "x"}).headers == ()


# --- schedules and batches ---


def test_a_schedule_has_a_cron_expression_and_may_have_an_id_and_a_queue() -> None:
    headers = {"Upstash-Cron": "*/5 * * * *", "Upstash-Schedule-Id": "a.b-c_1"}
    order, cron, schedule_id = schedule_order(request(**headers, **{"Upstash-Delay": "5s"}))
    assert (order.delay_ms, cron, schedule_id) == (5000, "*/5 * * * *", "a.b-c_1")
    order, _, schedule_id = schedule_order(
        request(**{"Upstash-Cron": "* * * * *", "Upstash-Queue-Name": "q"})
    )
    assert (order.queue, schedule_id) == ("q", "")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "Upstash-Cron is missing"),
        ({"Upstash-Cron": "* * * * *", "Upstash-Schedule-Id": "a/b"}, "schedule ID 'a/b'"),
        ({"Upstash-Cron": "* * * * *", "Upstash-Queue-Name": "a b"}, "queue 'a b'"),
        ({"Upstash-Cron": "* * * * *", "Upstash-Not-Before": "1"}, "Upstash-Not-Before"),
    ],
)
def test_what_is_no_schedule_is_refused(headers: dict[str, str], reason: str) -> None:
    assert reason in refusal(schedule_order, request(**headers))


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
    found = batch_orders(ApiRequest("", (), msgspec.json.encode(items), "10.1.2.3"))
    orders = [one for one in found if isinstance(one, Order)]
    assert [one.destination for one in orders] == [URL, "team", URL]
    assert orders[0].template.body == "\u00fc".encode()
    assert orders[0].template.headers == (("X", "a"), ("X", "b"))
    assert orders[0].template.caller_ip == "10.1.2.3"
    assert (orders[1].queue, orders[1].template.retries) == ("q", 1)
    assert [isinstance(one, ApiError) for one in found] == [False] * 3 + [True] * 5


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b"\xff", b"null", b"[" * 100_000])
def test_what_is_no_batch_is_refused(body: bytes) -> None:
    assert "the body is not" in refusal(batch_orders, ApiRequest("", (), body))


# --- filters and pages ---


@pytest.mark.parametrize(
    ("query", "body", "expected"),
    [
        ([], b"", Filter()),
        ([("count", "5"), ("cursor", "x"), ("qstash_token", "t")], b"", Filter()),
        ([("messageIds", "a"), ("messageIds", "b,c")], b"", Filter(message_ids=("a", "b", "c"))),
        ([("label", "a,b"), ("queueName", "q")], b"", Filter(labels=("a", "b"), queues=("q",))),
        ([("url", "https://a/x,y?z=1,2")], b"", Filter(urls=("https://a/x,y?z=1,2",))),
        ([("url", "https://a/,https://b/")], b"", Filter(urls=("https://a/", "https://b/"))),
        ([("host", "a:80"), ("path", "/x")], b"", Filter(hosts=("a:80",), paths=("/x",))),
        ([("callerIP", "::1"), ("callerIp", "1")], b"", Filter(caller_ips=("::1", "1"))),
        (
            [("topicName", "t"), ("scheduleId", "s")],
            b"",
            Filter(topics=("t",), schedule_ids=("s",)),
        ),
        ([("flowControlKey", "k")], b"", Filter(flow_control_keys=("k",))),
        ([("responseStatus", "500,489")], b"", Filter(response_statuses=(500, 489))),
        ([("fromDate", "1"), ("toDate", "2")], b"", Filter(from_ms=1, to_ms=2)),
        ([("state", "CANCELLED")], b"", Filter(states=("CANCELED",))),
        ([("state", "IN_PROGRESS")], b"", Filter(states=("ACTIVE", "RETRY", "ERROR"))),
        ([], b'{"messageIds": ["a", "b"]}', Filter(message_ids=("a", "b"))),
        (
            [],
            b'{"dlqIds": "a", "responseStatus": 5}',
            Filter(dlq_ids=("a",), response_statuses=(5,)),
        ),
        ([], b'{"messageIds": []}', None),
        ([], b'{"dlqIds": []}', None),
    ],
)
def test_a_filter_is_read_from_the_query_and_from_the_body(
    query: list[tuple[str, str]], body: bytes, expected: Filter | None
) -> None:
    assert choice_of(query, body) == expected


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ([("lable", "a")], b""),
        ([("label", "")], b""),
        ([("label", ",")], b""),
        ([("responseStatus", "x")], b""),
        ([("fromDate", "-1")], b""),
        ([("state", "GONE")], b""),
        ([], b'{"ids": ["a"]}'),
        ([], b'{"messageIds": [["a"]]}'),
        ([], b'{"messageIds": null}'),
        ([], b"[]"),
        ([], b"\xff"),
    ],
)
def test_a_filter_that_would_mean_all_by_mistake_is_refused(
    query: list[tuple[str, str]], body: bytes
) -> None:
    refusal(choice_of, query, body)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ([], Page(None, 100)),
        ([("count", "5")], Page(None, 5)),
        ([("count", "5000")], Page(None, 1000)),
        ([("cursor", "")], Page(None, 100)),
        ([("cursor", "0")], Page(None, 100)),
        ([("cursor", "1700000000000")], Page((1_700_000_000_000, ""), 100)),
        ([("cursor", "17-dlq_a-b")], Page((17, "dlq_a-b"), 100)),
    ],
)
def test_a_page_is_read(query: list[tuple[str, str]], expected: Page) -> None:
    assert page_of(query, default=100, most=1000) == expected


@pytest.mark.parametrize(
    "query", [("count", "0"), ("count", "x"), ("cursor", "x"), ("cursor", "-")]
)
def test_what_is_no_page_is_refused(query: tuple[str, str]) -> None:
    refusal(page_of, [query], default=1, most=1)


# --- the rest ---


def test_a_queue_is_read() -> None:
    body = b'{"queueName": "q", "parallelism": 2, "paused": true, "more": 1}'
    assert queue_change(body) == QueueChange("q", 2, True)
    assert queue_change(b'{"queueName": "q"}') == QueueChange("q", None, None)


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
def test_what_is_no_queue_is_refused(body: bytes) -> None:
    refusal(queue_change, body)


def test_endpoints_are_added_by_url_and_removed_by_either() -> None:
    body = b'{"endpoints": [{"url": "http://a/", "name": "n"}, {"url": "http://b/"}]}'
    assert endpoints_of(body) == (Endpoint("http://a/", "n"), Endpoint("http://b/"))
    by_name = b'{"endpoints": [{"name": "n"}]}'
    assert endpoints_of(by_name, to_remove=True) == (Endpoint("", "n"),)
    assert refusal(endpoints_of, by_name) == "an endpoint has no url"


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
def test_what_is_no_endpoint_is_refused(body: bytes) -> None:
    refusal(endpoints_of, body, to_remove=True)


def test_a_pin_is_read() -> None:
    query = [("parallelism", "1"), ("rate", "2"), ("period", "60")]
    assert pin_of(query) == Pin(1, 2, 60.0)
    assert pin_of([("rate", "2")]) == Pin(None, 2, None)
    for wrong in ([], [("rate", "0")], [("rate", "1"), ("period", "0")]):
        refusal(pin_of, wrong)


@pytest.mark.parametrize(
    ("header", "is_ours"),
    [
        ("Bearer secret", True),
        ("bearer  secret ", True),
        ("Bearer secre", False),
        ("Bearer ", False),
        ("secret", False),
        ("Basic secret", False),
        ("Bearer \udcff\u00fc", False),
    ],
)
def test_the_token_stands_behind_bearer(header: str, is_ours: bool) -> None:
    assert carries_token(header, "secret") == is_ours


@pytest.mark.parametrize("given", ["", "secre", "secrets", "\u00fc", "\udcff"])
def test_another_token_is_not_ours(given: str) -> None:
    assert is_token("secret", "secret")
    assert not is_token(given, "secret")


# --- anything at all ---


def outcome(read: Callable[..., Any], *given: Any) -> Any:
    """What is read, or the refusal."""
    try:
        return read(*given)
    except ApiError as error:
        return error


def is_fine(found: Any) -> bool:
    return not isinstance(found, ApiError) or found.status == 400


TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["", "5s", "1d", "true", "100", "rate=1", "body", "1000 * retried", URL, "\udcff"]
    ),
)
NAMES = st.one_of(
    st.sampled_from(
        [name for name, *_ in SETTINGS]
        + [name for headers, _ in REFUSED for name in headers]
        + ["Upstash-Header-Forward", "Upstash-Queue-Name", "Upstash-Schedule-Id", "X"]
    ),
    st.text(max_size=10).map("Upstash-Forward-".__add__),
    st.text(max_size=20),
)
HEADERS = st.lists(st.tuples(NAMES, TEXTS), max_size=8).map(tuple)
DESTINATIONS = st.one_of(
    st.text(max_size=60),
    st.text(max_size=60).map("https://example.com/".__add__),
    st.lists(st.tuples(NAMES.map(str.lower), TEXTS.map(lambda text: quote(text, errors="replace"))))
    .map(lambda pairs: URL + "?" + "&".join(f"{name}={value}" for name, value in pairs)),
)  # fmt: skip


@settings(max_examples=300)
@given(destination=DESTINATIONS, headers=HEADERS, body=st.binary(max_size=20))
def test_any_request_is_an_order_that_can_be_kept_or_is_refused(
    destination: str, headers: Headers, body: bytes
) -> None:
    readers: list[tuple[str, Callable[[ApiRequest], Order]]] = [
        ("/v2/publish/", publish_order),
        ("/v2/enqueue/q/", lambda given: enqueue_order(given, "q")),
        ("/v2/schedules/", lambda given: schedule_order(given)[0]),
    ]
    for path, read in readers:
        order = outcome(read, ApiRequest(path + destination, headers, body, "::1"))
        assert is_fine(order)
        if isinstance(order, ApiError):
            continue
        kept = msgspec.msgpack.decode(msgspec.msgpack.encode(order), type=Order)
        assert kept == order
        assert order.template.body == body
        if "upstash-" not in destination and "qstash_token" not in destination:
            assert order.destination == destination


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["destination", "headers", "body", "queue", "messageIds", "dlqIds", "label"]
            )
            | TEXTS,
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(value=JSON, raw=st.binary(max_size=30))
def test_any_body_is_read_or_refused(value: Any, raw: bytes) -> None:
    # json writes lone surrogates, as a hostile client would.
    for body in (json.dumps(value).encode(), json.dumps([value]).encode(), raw):
        for read in (
            lambda given: batch_orders(ApiRequest("", (), given)),
            lambda given: choice_of([], given),
            queue_change,
            endpoints_of,
        ):
            assert is_fine(outcome(read, body))


@given(pairs=st.lists(st.tuples(st.sampled_from(["count", "cursor", "rate", "label"]), TEXTS)))
def test_any_query_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    for read in (choice_of, pin_of, lambda given: page_of(given, default=1, most=1)):
        assert is_fine(outcome(read, pairs))
