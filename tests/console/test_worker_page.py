"""The page of the workers names those that are sick, and says what to do."""

from __future__ import annotations

import pytest

from hookmill.stream.facts import Heartbeat
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from tests.console.browsing import Browser
from tests.given_up import OpenGroup

pytestmark = pytest.mark.one_server


async def test_a_sick_worker_is_named_with_what_to_do(
    operator: Browser, stream: Producer, open_group: OpenGroup
) -> None:
    await open_group()
    beats = Heartbeats(stream.client, "main")
    await beats.write(Heartbeat(name="well", lease=60, threads=4, free_threads=4))
    await beats.write(Heartbeat(name="slow", lease=60, threads=4, stuck_threads=2))
    await beats.write(Heartbeat(name="bad", lease=60, sick="ended", sick_why="<b>it ended"))
    page = await operator.get("/workers")
    assert "2 threads are stuck of 4" in page.visible
    assert "HOOKMILL_STUCK_THREADS" in page.visible
    assert "&lt;b&gt;it ended" in page.text
    assert [page.text.count(f"Sick: <code>{name}<") for name in ("well", "slow", "bad")] == [
        0,
        1,
        1,
    ]
