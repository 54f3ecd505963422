"""Options as QStash reads them, and answers as it writes them: what is refused, what is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill import FlowControl, Outgoing, Redact
from hookmill.sending.outgoing import QueueOptions, ScheduleOptions, SendOptions
from hookmill.sending.payload import Letter
from hookmill.sending.qstash_api import (
    Refusal,
    Taken,
    base_of,
    batch_item,
    check_destination,
    check_name,
    check_url,
    delivered_at,
    forwarded,
    option_headers,
    publish,
    read_batch,
    read_group,
    read_published,
    seconds,
    shown,
    span,
    unix_seconds,
)
from hookmill.sending.retry_policy import Answer

URL = "https://app.example/hook"


def options(**given: Any) -> dict[str, str]:
    return option_headers(Outgoing(URL, b"", **given))


# --- durations and moments ---


@pytest.mark.parametrize(
    ("value", "written", "whole"),
    [
        ("10m", "10m", 600),
        ("1d10h30m", "1d10h30m", 124_200),
        ("0s", "0s", 0),
        (600, "600s", 600),
        (0, "0s", 0),
        (1.2, "2s", 2),
        (timedelta(minutes=10), "600s", 600),
        (timedelta(milliseconds=1), "1s", 1),
    ],
)
def test_a_length_of_time_is_written_as_qstash_reads_it(
    value: Any, written: str, whole: int
) -> None:
    assert (span("delay", value), seconds("delay", value)) == (written, whole)


@pytest.mark.parametrize(
    "value",
    ["", "soon", "10", "10 m", "10m ", "-5s", "5m1h", "1w", "1.5h", "٣s", "1h1h", "10m\n", -1, True,
     float("nan"), float("inf"), timedelta(seconds=-5), None, b"5s", "999999999d",
     1e300],
)  # fmt: skip
def test_what_is_no_length_of_time_is_refused_by_its_options_name(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^delay: "):
        span("delay", value)


@given(st.integers(0, 999), st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 9999))
def test_a_length_of_time_in_units_is_their_sum(d: int, h: int, m: int, s: int) -> None:
    assert seconds("delay", f"{d}d{h}h{m}m{s}s") == d * 86400 + h * 3600 + m * 60 + s


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1_900_000_000, 1_900_000_000),
        (1_900_000_000.2, 1_900_000_001),
        (datetime(2030, 1, 1, tzinfo=UTC), 1_893_456_000),
        (datetime(2030, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 1_893_456_000),
    ],
)
def test_a_moment_is_unix_seconds_whatever_its_time_zone(value: Any, written: int) -> None:
    assert unix_seconds("not_before", value) == written


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (datetime(2030, 1, 1), "time zone"),  # noqa: DTZ001 - that is the fault
        (1_900_000_000_000, "Unix seconds"),
        (-1, "Unix seconds"),
        (True, "Unix seconds"),
        (float("nan"), "Unix seconds"),
        ("tomorrow", "Unix seconds"),
    ],
)
def test_what_is_no_moment_is_refused(value: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=f"^not_before: .*{fault}"):
        unix_seconds("not_before", value)


def test_a_message_is_delivered_when_it_was_asked_to_be_and_never_in_the_past() -> None:
    now = 1_000_000.0
    assert delivered_at(Outgoing(URL, b""), now) == now
    assert delivered_at(Outgoing(URL, b"", delay="1m"), now) == now + 60
    assert delivered_at(Outgoing(URL, b"", not_before=now + 5), now) == now + 5
    assert delivered_at(Outgoing(URL, b"", not_before=now - 5), now) == now


# --- destinations ---


@pytest.mark.parametrize(
    "url",
    [
        "",
        "app.example/hook",
        "ftp://app.example",
        "HTTPS://app.example",
        "https://",
        "https:///path",
        "https://app.example/a b",
        "https://app.example/a\n",
        "https://app.example/a\r\nX-Y: 1",
        "https://app.example/\0",
        "https://app.example/ä",
        "https://bücher.example/",
        "https://app.example\\@evil.example",
        "https://app.example:port",
        "https://app.example:0",
        "https://[::1",
        "https://a..example",
        f"https://{'a' * 64}.example",
        " https://app.example",
        "my-group",
        None,
    ],
)
def test_what_is_no_url_is_refused(url: Any) -> None:
    with pytest.raises(ValueError, match=r"^url: "):
        check_url("url", url)


@pytest.mark.parametrize(
    "query",
    [
        "qstash_token=x",
        "a=1&Upstash-Delay=9d",
        "upstash%2Dcallback=https://e.example",
        "a;upstash-x",
        "a=1#&upstash-delay=9d",
    ],
)
def test_a_subscribers_url_cannot_smuggle_options_in(query: str) -> None:
    with pytest.raises(ValueError, match=r"^url: QStash would take"):
        check_destination("url", f"{URL}?{query}")
    assert check_url("url", f"{URL}?{query}")  # its own query, where QStash is not asked
    with pytest.raises(ValueError, match=r"^url: QStash would take"):
        check_destination("url", f"{URL}#fragment?{query}")  # in a path, `#` ends nothing


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a?b", "ä", "x" * 256, "a%2F", None])
def test_what_would_change_the_path_is_no_name(name: Any) -> None:
    with pytest.raises(ValueError, match=r"^queue: "):
        check_name("queue", name)
    assert check_name("queue", "a.B-c_1") == "a.B-c_1"


def test_a_url_for_people_holds_no_password_and_no_query() -> None:
    url = "https://user:secret@app.example:8080/hook?token=secret#secret"
    assert shown(url) == "https://app.example:8080/hook?..."
    assert base_of(url) == "https://user:secret@app.example:8080"
    assert base_of("https://app.example?x") == "https://app.example"


# --- options ---

CALLBACK = {"callback": "https://back.example"}
FAILURE = {"failure_callback": "https://back.example"}


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"delay": "1m", "not_before": 5}, "delay: give delay or not_before"),
        ({"deduplication_id": "1", "content_based_deduplication": True}, "deduplication_id: give"),
        ({"deduplication_id": ""}, "deduplication_id: it is empty"),
        ({"deduplication_id": "a\nb"}, "deduplication_id: a header takes"),
        ({"deduplication_id": " a"}, "deduplication_id: a header takes"),
        ({"deduplication_id": "\udcff"}, "deduplication_id: a header takes"),
        ({"retries": -1}, "retries: "),
        ({"retries": True}, "retries: "),
        ({"retries": False}, "retries: "),
        ({"timeout": False}, "timeout: "),
        ({"retries": 1.5}, "retries: "),
        ({"retry_delay": 30}, "retry_delay: give a timedelta"),
        ({"retry_delay": "1000 * retired"}, "retry_delay: an expression"),
        ({"retry_delay": "__import__('os')"}, "retry_delay: an expression"),
        ({"retry_delay": ""}, "retry_delay: an expression"),
        ({"retry_delay": timedelta(seconds=-1)}, "retry_delay: has to be"),
        ({"timeout": 0}, "timeout: has to be at least 1 s"),
        ({"method": "post"}, "method: "),
        ({"callback": "back.example"}, "callback: "),
        ({"failure_callback": "https://b.example/ x"}, "failure_callback: "),
        ({"callback_headers": {"X-A": "1"}, **CALLBACK}, "callback_headers: X-A: write"),
        ({"callback_headers": {"Forward-": "1"}, **CALLBACK}, "callback_headers: Forward-"),
        ({"callback_headers": {"Upstash-Callback-Retries": "1"}, **CALLBACK}, "callback_header"),
        ({"failure_callback_headers": {"Retries": "1\n"}, **FAILURE}, "failure_callback"),
        ({"callback_headers": {"Retries": "1", "retries": "2"}, **CALLBACK}, "callback_headers: r"),
        ({"callback_headers": {"Retries": "1"}}, "callback_headers: there is no callback"),
        (
            {"failure_callback_headers": {"Retries": "1"}, "callback": "https://b.example"},
            "failure_callback_headers: there is no failure_callback",
        ),
        ({"headers": [("X-A", "1")]}, "headers: give a Mapping"),
        ({"callback_headers": "X-A"}, "callback_headers: give a Mapping"),
        ({"flow_control": {"key": "k", "rate": 1}}, "flow_control: give a FlowControl"),
        ({"redact": True}, "redact: give a Redact"),
        ({"redact": Redact()}, "redact: give body, headers or both"),
        ({"redact": Redact(headers="Authorization")}, "redact: headers: give a list"),
        (
            {"flow_control": FlowControl(key="k", parallelism=1, period=5)},
            "flow_control: period: it is the rate's",
        ),
        ({"flow_control": FlowControl(key="k")}, "flow_control: give parallelism"),
        ({"flow_control": FlowControl(key="", rate=1)}, "flow_control: key: it is empty"),
        ({"flow_control": FlowControl(key="k", rate=0)}, "flow_control: rate: "),
        ({"flow_control": FlowControl(key="k", rate=1, period="8d")}, "flow_control: period"),
        ({"redact": Redact(headers=["a b"])}, "redact: headers: "),
        ({"label": "a\x7fb"}, "label: "),
    ],
)  # fmt: skip
def test_what_cannot_be_said_to_qstash_is_refused_by_its_options_name(
    given: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ValueError, match=f"^{fault}"):
        options(**given)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("Upstash-Delay", "such names are QStash's own"),
        ("upstash-forward-x", "such names are QStash's own"),
        ("Host", "belongs to the connection"),
        ("content-length", "belongs to the connection"),
        ("Transfer-Encoding", "belongs to the connection"),
        ("X A", "is no header's name"),
        ("X:A", "is no header's name"),
        ("", "is no header's name"),
        ("Ä", "is no header's name"),
    ],
)
def test_a_header_that_would_mean_something_else_is_not_forwarded(name: str, fault: str) -> None:
    with pytest.raises(ValueError, match=f"^headers: .*{fault}"):
        forwarded({name: "1"})


def test_a_header_is_forwarded_once_and_as_it_is() -> None:
    with pytest.raises(ValueError, match="headers: x-a stands there twice"):
        forwarded({"X-A": "1", "x-a": "2"})
    with pytest.raises(ValueError, match="headers: X-A: a header takes a line"):
        forwarded({"X-A": "1\r\nUpstash-Delay: 9d"})
    assert forwarded({"X-A": "ä b"}) == {"X-A": "ä b"}


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
def test_whatever_is_given_as_headers_only_lines_of_text_come_out(given: Mapping[str, str]) -> None:
    try:
        found = forwarded(given)
    except ValueError:
        return
    for name, value in found.items():
        assert name.isascii()
        assert not set(f"{name}{value}") & {"\r", "\n", "\0"}


def test_every_calls_options_are_those_that_outgoing_has() -> None:
    known = get_type_hints(Outgoing)
    del known["_"]
    for options_of_call in (SendOptions, QueueOptions, ScheduleOptions):
        for name, kind in get_type_hints(options_of_call).items():
            assert known[name] == kind, (options_of_call, name)
    sent = get_type_hints(SendOptions).keys()
    assert {one.name for one in fields(Outgoing)} - sent == {"url", "event", "queue"}


# --- requests and answers ---


def letter(body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> Letter:
    given = {"Content-Type": "application/json", **(headers or {})}
    return Letter(URL, "POST", CIMultiDict(given), body)


def test_qstashs_own_id_of_a_message_is_not_forwarded_beside_it() -> None:
    made = publish(letter(headers={"Upstash-Message-Id": "1", "X-A": "2"}), {})
    assert made.headers == {"Content-Type": "application/json", "Upstash-Forward-X-A": "2"}


@given(st.binary(max_size=50))
def test_an_item_of_a_batch_has_the_very_bytes_or_there_is_none(body: bytes) -> None:
    item = batch_item(letter(body), {}, None)
    if item is None:
        with pytest.raises(UnicodeDecodeError):
            body.decode()
    else:
        assert json.loads(item)["body"].encode() == body


def said(body: bytes, status: int = 200) -> Answer:
    return Answer(status, {}, body)


@given(st.binary(max_size=40))
def test_no_answer_whatever_it_is_raises_or_makes_an_id_up(body: bytes) -> None:
    for read in (
        read_published(said(body), URL, "1"),
        read_batch(said(body), 1),
        read_group(said(body), "1"),
    ):
        assert not read or b"[" in body or b"messageId" in body


def test_a_repeat_is_known_by_its_word_or_by_its_status() -> None:
    body = b'{"messageId":"m","deduplicated":%s}'
    assert [
        found.deduplicated
        for found in (
            read_published(said(body % b"true"), URL, "1"),
            read_published(said(body % b"false", 202), URL, "1"),
            read_published(said(body % b"false", 201), URL, "1"),
        )
        if found
    ] == [True, True, False]


def test_each_item_of_a_batchs_answer_stands_for_itself() -> None:
    body = b'[{"messageId":"m"},{"error":"bad"},{},5,{"messageId":7},{"messageId":"n","x":1}]'
    assert read_batch(said(body), 6) == [
        Taken("m"), Refusal("bad"), None, None, None, Taken("n"),
    ]  # fmt: skip
    assert read_batch(said(body), 5) is None
