"""Filters: how they are read, and that a mistake never means everything."""

from __future__ import annotations

import pytest

from hookmill.emulator.filters import Filter, read_filter
from hookmill.emulator.models import FlowLimits
from tests.emulator.brokers import TimedBroker
from tests.emulator.refusals import refusal


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
            Filter(url_groups=("t",), schedule_ids=("s",)),
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
    assert read_filter(query, body) == expected


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
    refusal(read_filter, query, body)


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Filter(), True),
        (Filter(urls=("http://b.example/",)), False),
        (Filter(hosts=("a.example:81",)), True),
        (Filter(hosts=("a.example",)), False),
        (Filter(paths=("/x", "/p")), True),
        (Filter(paths=("/",)), False),
        (Filter(queues=("q",)), True),
        (Filter(queues=("q",), url_groups=("t",)), False),
        (Filter(flow_control_keys=("k",), caller_ips=("::1",)), True),
        (Filter(flow_control_keys=("other",)), False),
        (Filter(schedule_ids=("s",)), False),
        (Filter(caller_ips=("::2",)), False),
    ],
)
def test_a_filter_excludes_what_differs_in_one_field(wanted: Filter, *, fits: bool) -> None:
    timed = TimedBroker()
    timed.publish(
        "http://a.example:81/p?x", queue="q", caller_ip="::1", flow_control=FlowLimits("k", 1)
    )
    assert bool(timed.broker.messages(wanted)) is fits
