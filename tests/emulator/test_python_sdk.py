"""The official SDK for Python, unmodified, publishes through the emulator; its Receiver verifies.

Each scenario runs with the blocking client and with the asynchronous one.
"""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from qstash.errors import QStashError
from qstash.log import LogState
from qstash.message import PublishResponse, PublishUrlGroupResponse

from hookmill.signatures import Signed, Verified
from hookmill.signatures.qstash import QStash
from tests.emulator.python_sdk import FAILING, Sdk, dead, receiver, verify
from tests.emulator.running import (
    CALLER,
    TOKEN,
    Emulator,
    Subscriber,
)
from tests.support import eventually


async def test_a_message_arrives_as_it_was_published_and_verifies(
    sdk: Sdk, inbox: Subscriber
) -> None:
    url = inbox.url + "/hook/a%2Fb?x=%C3%BC&y=1+2&&z="
    sent = await sdk(
        "message.publish_json",
        url=url,
        body={"hello": "wörld"},
        method="PUT",
        headers={"X-Mine": "yes", "Authorization": "Bearer theirs"},
        label="first",
        retries=1,
    )
    assert isinstance(sent, PublishResponse)
    assert not sent.deduplicated
    (came,) = await inbox.wait_for("/hook/a%2Fb")
    verify(await receiver(sdk), came)
    assert came.url == url
    assert (came.method, json.loads(came.body)) == ("PUT", {"hello": "wörld"})
    assert {name: came.headers[name] for name in ("X-Mine", "Authorization", "Content-Type")} == {
        "X-Mine": "yes",
        "Authorization": "Bearer theirs",
        "Content-Type": "application/json",
    }
    assert came.headers["Upstash-Message-Id"] == sent.message_id
    assert came.headers["Upstash-Retried"] == "0"
    assert came.headers["Upstash-Caller-Ip"] == CALLER
    assert came.headers["User-Agent"] == "Upstash-QStash"
    assert TOKEN not in str(came.headers)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [("just text", "text/plain"), (b"\x00\xff\x1f\x8b", "application/octet-stream"), (None, None)],
)
async def test_any_body_arrives_byte_by_byte(
    sdk: Sdk, inbox: Subscriber, body: str | bytes | None, content_type: str | None
) -> None:
    await sdk("message.publish", url=inbox.url + "/any", body=body, content_type=content_type)
    (came,) = await inbox.wait_for("/any")
    raw = body.encode() if isinstance(body, str) else body or b""
    assert (came.body, came.headers.get("Content-Type")) == (raw, content_type)
    # The SDK's own Receiver takes text only.
    keys = await sdk("signing_key.get")
    judge = QStash([keys.current, keys.next], public_url=inbox.url)
    assert isinstance(judge.verify(Signed(came.headers, raw, "/any"), time.time()), Verified)


@pytest.mark.parametrize("when", ["delay", "not_before"])
async def test_a_delayed_message_waits_and_can_be_looked_at(
    sdk: Sdk, emulator: Emulator, inbox: Subscriber, when: str
) -> None:
    in_ages = 10**9  # so that a thousandth of it is long enough
    given = in_ages // 86_400 if when == "delay" else int(time.time()) + in_ages
    sent = await sdk(
        "message.publish_json",
        url=inbox.url + "/later",
        body={"n": 1},
        headers={"X-Mine": "yes"},
        retries=2,
        retry_delay="1000 * (1 + retried)",
        callback=inbox.url + "/told",
        failure_callback=inbox.url + "/failed",
        callback_headers={"Forward-X-Back": "1"},
        flow_control={"key": "k", "parallelism": 2, "rate": 3, "period": "1m"},
        label="one,two",
        **{when: f"{given}h" if when == "delay" else given},
    )
    seen = await sdk("message.get", sent.message_id)
    assert (seen.message_id, seen.url, seen.method) == (
        sent.message_id,
        inbox.url + "/later",
        "POST",
    )
    assert (seen.body, seen.body_base64) == ('{"n": 1}', None)
    assert seen.headers == {"Content-Type": ["application/json"], "X-Mine": ["yes"]}
    assert (seen.max_retries, seen.retry_delay_expression) == (2, "1000 * (1 + retried)")
    assert seen.callback_headers == {"X-Back": ["1"]}
    assert (seen.callback, seen.failure_callback) == (inbox.url + "/told", inbox.url + "/failed")
    assert seen.flow_control is not None
    limits = seen.flow_control
    assert (limits.key, limits.parallelism, limits.rate, limits.period) == ("k", 2, 3, 60)
    assert (seen.label, seen.caller_ip) == ("one", CALLER)
    wait = seen.not_before - seen.created_at
    hours = given * 3600 if when == "delay" else in_ages
    assert wait == pytest.approx(hours, rel=1e-5)  # ms of a thousandth are seconds
    assert not inbox.deliveries
    emulator.pass_time(wait / 1000 + 1)
    (came,) = await inbox.wait_for("/later")
    verify(await receiver(sdk), came)


@pytest.mark.parametrize(
    "how", [{"deduplication_id": "once"}, {"content_based_deduplication": True}]
)
async def test_a_duplicate_is_not_published_again(
    sdk: Sdk, inbox: Subscriber, how: dict[str, Any]
) -> None:
    sent = [
        await sdk("message.publish", url=inbox.url + "/once", body="same", **how) for _ in range(2)
    ]
    assert [one.deduplicated for one in sent] == [False, True]
    assert sent[0].message_id == sent[1].message_id
    other = await sdk("message.publish", url=inbox.url + "/end", body="same")
    assert not other.deduplicated
    await inbox.wait_for("/end")
    assert len(await inbox.wait_for("/once")) == 1


async def test_a_url_group_gets_a_message_each(sdk: Sdk, inbox: Subscriber) -> None:
    await sdk(
        "url_group.upsert_endpoints",
        "team",
        [{"url": inbox.url + "/a", "name": "first"}, {"url": inbox.url + "/b"}],
    )
    group = await sdk("url_group.get", "team")
    assert [(one.url, one.name) for one in group.endpoints] == [
        (inbox.url + "/a", "first"),
        (inbox.url + "/b", None),
    ]
    assert group.name == "team"
    assert group.created_at <= group.updated_at
    sent = await sdk("message.publish", url_group="team", body="all", deduplication_id="d")
    assert all(isinstance(one, PublishUrlGroupResponse) for one in sent)
    assert [one.url for one in sent] == [inbox.url + "/a", inbox.url + "/b"]
    for one, path in zip(sent, ("/a", "/b"), strict=True):
        (came,) = await inbox.wait_for(path)
        verify(await receiver(sdk), came)
        assert came.headers["Upstash-Message-Id"] == one.message_id
        assert came.headers["Upstash-Topic-Name"] == "team"
    again = await sdk("message.publish", url_group="team", body="all", deduplication_id="d")
    assert all(one.deduplicated for one in again)
    await sdk("url_group.remove_endpoints", "team", [{"name": "first"}])
    assert [len(one.endpoints) for one in await sdk("url_group.list")] == [1]
    await sdk("url_group.delete", "team")
    assert await sdk("url_group.list") == []
    with pytest.raises(QStashError, match=r"404.*not found"):
        await sdk("url_group.get", "team")


async def test_a_queue_delivers_in_order_and_waits_for_retries(sdk: Sdk, inbox: Subscriber) -> None:
    inbox.answer("/queued", FAILING, FAILING, (200, {}, b""))
    await sdk("queue.upsert", "line", parallelism=1, paused=True)
    sent = [
        await sdk(
            "message.enqueue_json", queue="line", url=inbox.url + "/queued", body=n, retry_delay="1"
        )
        for n in range(3)
    ]
    queue = await sdk("queue.get", "line")
    assert (queue.name, queue.parallelism, queue.paused, queue.lag) == ("line", 1, True, 3)
    assert (await sdk("message.get", sent[0].message_id)).queue == "line"
    await sdk("queue.resume", "line")
    came = await inbox.wait_for("/queued", 5)
    assert [one.body for one in came] == [b"0", b"0", b"0", b"1", b"2"]
    assert [one.headers["Upstash-Retried"] for one in came] == ["0", "1", "2", "0", "0"]
    await sdk("queue.pause", "line")
    assert [one.paused for one in await sdk("queue.list")] == [True]
    await sdk("queue.delete", "line")
    assert await sdk("queue.list") == []


async def test_a_batch_goes_to_urls_groups_and_queues(sdk: Sdk, inbox: Subscriber) -> None:
    await sdk("url_group.upsert_endpoints", "team", [{"url": inbox.url + "/grouped"}])
    sent = await sdk(
        "message.batch_json",
        [
            {"url": inbox.url + "/plain", "body": {"n": 1}, "headers": {"X-Mine": "yes"}},
            {"url_group": "team", "body": {"n": 2}},
            {"queue": "line", "url": inbox.url + "/queued", "body": {"n": 3}},
        ],
    )
    assert [type(one).__name__ for one in sent] == ["BatchResponse", "list", "BatchResponse"]
    judge = await receiver(sdk)
    for path in ("/plain", "/grouped", "/queued"):
        (came,) = await inbox.wait_for(path)
        verify(judge, came)
    assert inbox.at("/plain")[0].headers["X-Mine"] == "yes"


async def test_the_good_messages_of_a_batch_are_sent_beside_a_bad_one(
    sdk: Sdk, inbox: Subscriber
) -> None:
    with pytest.raises(KeyError):  # the SDK has no place for an item's error
        await sdk(
            "message.batch",
            [
                {"url": "ftp://nowhere", "body": "1"},
                {"url": inbox.url + "/good", "body": "2"},
                {"url_group": "nobody", "body": "3"},
            ],
        )
    (came,) = await inbox.wait_for("/good")
    assert came.body == b"2"


async def test_a_message_is_retried_until_it_is_accepted(sdk: Sdk, inbox: Subscriber) -> None:
    url = inbox.answer("/shaky", FAILING, FAILING, (201, {}, b""))
    sent = await sdk("message.publish", url=url, body="x")
    came = await inbox.wait_for("/shaky", 3)
    judge = await receiver(sdk)
    for delivery in came:
        verify(judge, delivery)
    assert [one.headers["Upstash-Retried"] for one in came] == ["0", "1", "2"]
    assert {one.headers["Upstash-Message-Id"] for one in came} == {sent.message_id}
    assert len({one.headers["Upstash-Signature"] for one in came}) == 3

    async def is_gone() -> bool:
        try:
            await sdk("message.get", sent.message_id)
        except QStashError:
            return True
        return False

    await eventually(is_gone)
    logs = (await sdk("log.list", filter={"message_id": sent.message_id})).logs
    states = [one.state for one in reversed(logs)]
    once = [LogState.ACTIVE, LogState.ERROR, LogState.RETRY]
    assert states == [LogState.CREATED, *once, *once, LogState.ACTIVE, LogState.DELIVERED]
    error = next(one for one in logs if one.state is LogState.ERROR)
    assert error.response_status == 500
    assert error.response_headers is not None
    assert error.response_headers["X-Why"] == ["busy"]
    assert base64.b64decode(error.response_body or "") == b"not now"
    assert error.error
    assert error.next_delivery_time is not None


async def test_callbacks_report_each_attempt_and_the_end(sdk: Sdk, inbox: Subscriber) -> None:
    url = inbox.answer("/source", FAILING)
    sent = await sdk(
        "message.publish_json",
        url=url,
        body={"n": 1},
        headers={"X-Mine": "yes"},
        retries=1,
        retry_delay="1",
        callback=inbox.url + "/told",
        callback_headers={"Upstash-Callback-Forward-X-Back": "1", "Method": "PUT"},
        failure_callback=inbox.url + "/failed",
    )
    told = await inbox.wait_for("/told", 2)
    (failed,) = await inbox.wait_for("/failed")
    judge = await receiver(sdk)
    for delivery in (*told, failed):
        verify(judge, delivery)
    assert {one.method for one in told} == {"PUT"}
    assert {one.headers["X-Back"] for one in told} == {"1"}
    bodies = sorted((json.loads(one.body) for one in told), key=lambda body: body["retried"])
    assert [body["retried"] for body in bodies] == [0, 1]
    end = json.loads(failed.body)
    (in_dlq,) = await dead(sdk)
    assert end.pop("dlqId") == in_dlq.dlq_id
    assert end == bodies[1]
    assert base64.b64decode(end["body"]) == b"not now"
    assert json.loads(base64.b64decode(end["sourceBody"])) == {"n": 1}
    assert end["sourceHeader"]["X-Mine"] == ["yes"]
    shown = {name: end[name] for name in ("status", "maxRetries", "sourceMessageId", "url")}
    assert shown == {"status": 500, "maxRetries": 1, "sourceMessageId": sent.message_id, "url": url}
    assert failed.headers["Upstash-Message-Id"] != sent.message_id
