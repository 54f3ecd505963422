"""Schedules: created once, and every call on them."""

from __future__ import annotations

import json

from tests.scripted import (
    Scripted,
    accept,
    cut,
    says,
    vanish,
)
from tests.sending.helpers import (
    POST,
    SECRET,
    TOKEN,
    URL,
    Open,
    failed,
)


async def test_a_schedule_is_created_once_and_can_be_managed(sender_to: Open) -> None:
    listed = {"scheduleId": "nightly", "destination": URL, "cron": "0 3 * * *", "isPaused": True}
    async with Scripted(
        [
            cut,
            accept,
            accept,
            says(200, json.dumps(listed)),
            says(200, json.dumps([listed])),
            says(200),
            says(200),
            vanish,
            says(404, "not found"),
        ]
    ) as server:
        schedules = sender_to(server, secret=SECRET, scheme="marble").schedules
        own = await schedules.create(URL, POST, cron="* * * * *")
        assert await schedules.create(URL, POST, cron="0 3 * * *", schedule_id="nightly",
                                      queue="q", delay="1m") == "nightly"  # fmt: skip
        found = await schedules.get("nightly")
        assert await schedules.list() == [found]
        await schedules.pause("nightly")
        await schedules.resume("nightly")
        await schedules.delete("nightly")

    lost, again, made, *others = server.calls
    assert lost.headers["Upstash-Schedule-Id"] == again.headers["Upstash-Schedule-Id"] == own
    assert made.target == f"/v2/schedules/{URL}"
    assert made.headers["Upstash-Cron"] == "0 3 * * *"
    assert made.headers["Upstash-Queue-Name"] == "q"
    assert "Upstash-Deduplication-Id" not in made.headers
    assert (found.schedule_id, found.cron, found.is_paused) == ("nightly", "0 3 * * *", True)
    assert [(call.method, call.target) for call in others] == [
        ("GET", "/v2/schedules/nightly"),
        ("GET", "/v2/schedules"),
        ("PATCH", "/v2/schedules/nightly/pause"),
        ("PATCH", "/v2/schedules/nightly/resume"),
        ("DELETE", "/v2/schedules/nightly"),
        ("DELETE", "/v2/schedules/nightly"),
    ]
    assert all(call.headers["Authorization"] == f"Bearer {TOKEN}" for call in server.calls)


async def test_deleting_an_unknown_schedule_is_an_error(sender_to: Open) -> None:
    async with Scripted([says(404, "not found")]) as server:
        error = await failed(sender_to(server).schedules.delete("nightly"))
    assert error.status == 404
