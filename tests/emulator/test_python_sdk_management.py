"""The official SDK for Python, unmodified, manages messages, the DLQ, schedules, keys and limits.

Each scenario runs with the blocking client and with the asynchronous one.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import qstash
from qstash.errors import QStashError
from qstash.log import LogState
from qstash.schedule import ScheduleState

from tests.emulator.python_sdk import FAILING, Sdk, dead, receiver, verify
from tests.emulator.running import (
    CALLER,
    Emulator,
    Subscriber,
)
from tests.support import eventually


async def test_a_message_that_no_destination_accepts_goes_to_the_dlq(
    sdk: Sdk, inbox: Subscriber
) -> None:
    final = {"Upstash-NonRetryable-Error": "true"}
    bad = inbox.answer("/final", (489, final, b"\xff\xfe"))
    worse = inbox.answer("/worse", FAILING)
    await sdk("message.publish", url=bad, body=b"\x00\xff", label="l")
    await sdk("message.enqueue", queue="q", url=worse, body="text", retries=1, retry_delay="1")
    dlq = {one.url: one for one in await dead(sdk, 2)}
    assert len(inbox.at("/final")) == 1
    assert len(inbox.at("/worse")) == 2
    first = await sdk("dlq.get", dlq[bad].dlq_id)
    assert first == dlq[bad]
    assert (first.response_status, first.response_body_base64) == (489, "//4=")
    assert (first.body, first.body_base64, first.label) == (None, "AP8=", "l")
    second = dlq[worse]
    assert (second.response_status, second.response_body) == (500, "not now")
    assert (second.queue, second.max_retries, second.body) == ("q", 1, "text")
    for wanted, found in (
        ({"url": bad}, {bad}),
        ({"queue": "q"}, {worse}),
        ({"label": "l"}, {bad}),
        ({"response_status": 500}, {worse}),
        ({"caller_ip": CALLER}, {bad, worse}),
        ({"message_id": second.message_id}, {worse}),
        ({"from_time": int(time.time() * 1000) + 60_000}, set()),
        ({"to_time": int(time.time() * 1000) + 60_000}, {bad, worse}),
        ({"url_group": "team"}, set()),
        ({"schedule_id": "scd"}, set()),
    ):
        given = (await sdk("dlq.list", filter=wanted)).messages
        assert {one.url for one in given} == found, wanted
    await sdk("dlq.delete", first.dlq_id)
    with pytest.raises(QStashError, match="404"):
        await sdk("dlq.get", first.dlq_id)
    assert await sdk("dlq.delete_many", [second.dlq_id, "dlq_unknown"]) == 1
    assert (await sdk("dlq.list")).messages == []


async def test_the_dlq_and_the_log_come_in_pages(sdk: Sdk, inbox: Subscriber) -> None:
    url = inbox.answer("/never", (400, {}, b""))
    for n in range(5):
        await sdk("message.publish", url=url, body=str(n), retries=0)
    await dead(sdk, 5)
    for method, count, field in (("dlq.list", 2, "messages"), ("log.list", 7, "logs")):
        whole = getattr(await sdk(method), field)
        pages: list[Any] = []
        cursor, sizes = None, list[int]()
        while cursor is not None or not sizes:
            page = await sdk(method, cursor=cursor, count=count)
            pages += getattr(page, field)
            sizes.append(len(getattr(page, field)))
            cursor = page.cursor
        assert pages == whole
        assert len(sizes) > 2
        assert set(sizes[:-1]) == {count}


async def test_messages_can_be_cancelled(sdk: Sdk, inbox: Subscriber) -> None:
    ids = [
        (await sdk("message.publish", url=inbox.url + "/never", delay="90d")).message_id
        for _ in range(5)
    ]
    await sdk("message.cancel", ids[0])
    with pytest.raises(QStashError, match="404"):
        await sdk("message.cancel", ids[0])
    assert await sdk("message.cancel_many", [ids[1], ids[2], "msg_unknown"]) == 2
    assert await sdk("message.cancel_many", []) == 0
    assert (await sdk("message.get", ids[3])).message_id == ids[3]
    assert await sdk("message.cancel_all") == 2
    logs = (await sdk("log.list", filter={"state": LogState.CANCELED})).logs
    assert {one.message_id for one in logs} == set(ids)


async def test_a_schedule_publishes_at_its_times(
    sdk: Sdk, emulator: Emulator, inbox: Subscriber
) -> None:
    schedule_id = await sdk(
        "schedule.create_json",
        destination=inbox.url + "/tick",
        cron="0 0 1 1 *",
        body={"n": 1},
        headers={"X-Mine": "yes"},
        schedule_id="yearly",
        retries=1,
        timeout=30,
        label="l",
        redact={"body": True, "header": ["x-mine"]},
    )
    assert schedule_id == "yearly"
    seen = await sdk("schedule.get", "yearly")
    assert [one.schedule_id for one in await sdk("schedule.list")] == ["yearly"]
    assert (seen.destination, seen.cron) == (inbox.url + "/tick", "0 0 1 1 *")
    assert (seen.retries, seen.timeout, seen.label, seen.paused) == (1, 30, "l", False)
    assert seen.caller_ip == CALLER
    assert (seen.body or "").startswith("REDACTED:")
    assert seen.headers["X-Mine"][0].startswith("REDACTED:")
    assert 0 < seen.next_schedule_time - emulator.broker.now_ms() <= 366 * 86_400_000
    await sdk("schedule.pause", "yearly")
    assert (await sdk("schedule.get", "yearly")).paused
    await sdk("schedule.resume", "yearly")
    emulator.pass_time((seen.next_schedule_time - emulator.broker.now_ms()) / 1000 + 1)
    (came,) = await inbox.wait_for("/tick")
    verify(await receiver(sdk), came)
    assert came.headers["Upstash-Schedule-Id"] == "yearly"
    assert json.loads(came.body) == {"n": 1}  # what is redacted is delivered all the same
    assert came.headers["X-Mine"] == "yes"

    async def has_succeeded() -> bool:
        states = (await sdk("schedule.get", "yearly")).last_schedule_states
        return bool(states == {came.headers["Upstash-Message-Id"]: ScheduleState.SUCCESS})

    await eventually(has_succeeded)
    logs = (await sdk("log.list", filter={"schedule_id": "yearly"})).logs
    assert {one.schedule_id for one in logs} == {"yearly"}
    await sdk("schedule.delete", "yearly")
    assert await sdk("schedule.list") == []
    with pytest.raises(QStashError, match="400"):
        await sdk("schedule.create", destination=inbox.url, cron="never")


async def test_after_a_rotation_the_next_key_signs(sdk: Sdk, inbox: Subscriber) -> None:
    before = await sdk("signing_key.get")
    rotated = await sdk("signing_key.rotate")
    assert rotated.current == before.next
    assert rotated.next not in {before.current, before.next}
    assert await sdk("signing_key.get") == rotated
    await sdk("message.publish", url=inbox.url + "/rotated", body="x")
    (came,) = await inbox.wait_for("/rotated")
    verify(qstash.Receiver(rotated.current, rotated.next), came)
    verify(qstash.Receiver(before.current, before.next), came)  # its next is what signs now
    with pytest.raises(qstash.errors.SignatureError):
        verify(qstash.Receiver(before.current, before.current), came)


async def test_a_flow_control_key_holds_back_and_can_be_changed(
    sdk: Sdk, inbox: Subscriber
) -> None:
    await sdk("flow_control.pause", "k")
    for _ in range(3):
        await sdk(
            "message.publish",
            url=inbox.url + "/held",
            flow_control={"key": "k", "parallelism": 2, "rate": 5, "period": 60},
        )
    info = await sdk("flow_control.get", "k")
    assert (info.key, info.wait_list_size, info.is_paused) == ("k", 3, True)
    assert (info.parallelism_max, info.rate_max, info.rate_period) == (2, 5, 60)
    await sdk("flow_control.pin", "k", {"parallelism": 1, "rate": 7, "period": 30})
    info = await sdk("flow_control.get", "k")
    assert (info.parallelism_max, info.rate_max, info.rate_period) == (1, 7, 30)
    assert (info.is_pinned_parallelism, info.is_pinned_rate) == (True, True)
    await sdk("flow_control.unpin", "k", {"parallelism": True, "rate": False})
    info = await sdk("flow_control.get", "k")
    assert (info.is_pinned_parallelism, info.is_pinned_rate) == (False, True)
    assert not inbox.deliveries
    await sdk("flow_control.resume", "k")
    await inbox.wait_for("/held", 3)
    assert (await sdk("flow_control.get", "k")).rate_count == 3
    await sdk("flow_control.reset_rate", "k")
    assert (await sdk("flow_control.get", "k")).rate_count == 0
    whole = await sdk("flow_control.get_global_parallelism")
    assert 0 <= whole.parallelism_count < whole.parallelism_max
    with pytest.raises(QStashError, match="404"):
        await sdk("flow_control.get", "unknown")


async def test_a_wrong_token_is_refused(emulator: Emulator) -> None:
    client = qstash.AsyncQStash("wrong", retry=False, base_url=emulator.url)
    with pytest.raises(QStashError, match=r"401.*token"):
        await client.message.publish(url="http://127.0.0.1:9/")
    await client.http._client.aclose()
