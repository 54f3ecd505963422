"""Options as QStash reads them: what is refused, and what is forwarded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill import FlowControl, Outgoing, Redact
from hookmill.sending.outgoing import QueueOptions, ScheduleOptions, SendOptions
from hookmill.sending.qstash_options import forwarded, option_headers

URL = "https://app.example/hook"


def options(**given: Any) -> dict[str, str]:
    return option_headers(Outgoing(URL, b"", **given))


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
        ({"callback_headers": {"Retries": "1"}}, "callback_headers: they need a callback"),
        (
            {"failure_callback_headers": {"Retries": "1"}, "callback": "https://b.example"},
            "failure_callback_headers: they need a failure_callback",
        ),
        ({"headers": [("X-A", "1")]}, "headers: give a Mapping"),
        ({"callback_headers": "X-A"}, "callback_headers: give a Mapping"),
        ({"flow_control": {"key": "k", "rate": 1}}, "flow_control: give a FlowControl"),
        ({"redact": True}, "redact: give a Redact"),
        ({"redact": Redact()}, "redact: give body, headers or both"),
        ({"redact": Redact(headers="Authorization")}, "redact: headers: give a list"),
        (
            {"flow_control": FlowControl(key="k", parallelism=1, period=5)},
            "flow_control: period: it needs a rate",
        ),
        ({"flow_control": FlowControl(key="k")}, "flow_control: give parallelism"),
        ({"flow_control": FlowControl(key="", rate=1)}, "flow_control: key: it is empty"),
        ({"flow_control": FlowControl(key="k", rate=0)}, "flow_control: rate: "),
        ({"flow_control": FlowControl(key="k", rate=1, period="8d")}, "flow_control: period"),
        ({"redact": Redact(headers=["a b"])}, "redact: headers: "),
        ({"label": "a\x7fb"}, "label: "),
    ],
)  # fmt: skip
def test_an_option_that_qstash_cannot_take_is_refused_by_its_name(
    given: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ValueError, match=f"^{fault}"):
        options(**given)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("Upstash-Delay", "names that start with Upstash- belong to QStash"),
        ("upstash-forward-x", "names that start with Upstash- belong to QStash"),
        ("Host", "belongs to the connection"),
        ("content-length", "belongs to the connection"),
        ("Transfer-Encoding", "belongs to the connection"),
        ("X A", "is not the name of a header"),
        ("X:A", "is not the name of a header"),
        ("", "is not the name of a header"),
        ("Ä", "is not the name of a header"),
    ],
)
def test_a_header_with_another_meaning_is_not_forwarded(name: str, fault: str) -> None:
    with pytest.raises(ValueError, match=f"^headers: .*{fault}"):
        forwarded({name: "1"})


def test_a_header_is_forwarded_once_and_as_it_is() -> None:
    with pytest.raises(ValueError, match="headers: x-a is given twice"):
        forwarded({"X-A": "1", "x-a": "2"})
    with pytest.raises(ValueError, match="headers: X-A: a header takes one line"):
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
