"""The page of the workers names those that are sick, and says what to do."""

from __future__ import annotations

from contextlib import closing

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


async def test_an_operator_asks_a_worker_where_it_is_and_the_page_shows_the_answer(
    operator: Browser, stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    beats = Heartbeats(stream.client, "main")
    await beats.write(Heartbeat(name=group.consumer, lease=60, can=("stacks",)))
    await beats.write(Heartbeat(name="old", lease=60))
    page = await operator.get("/workers")
    path = f"/workers/{group.consumer}/stacks"
    assert f'action="{path}"' in page.text
    assert "/workers/old/stacks" not in page.text
    asked = await operator.post(path, {"csrf": page.csrf, "group": "main", "why": "slow"})
    assert asked.status == 200
    assert "It is asked. A worker answers within 25 s" in asked.visible
    with closing(group.leases()) as leases:
        leases.renew([])
        leases.say_stacks("thread MainThread\n  app.py, line 3, in <lambda>\n")
    shown = await operator.get(f"{path}?group=main")
    assert "thread MainThread\n  app.py, line 3, in &lt;lambda&gt;\n" in shown.text
    assert "Ask again" in shown.visible
    assert (await operator.post("/workers/old/stacks", {"csrf": page.csrf})).status == 400
