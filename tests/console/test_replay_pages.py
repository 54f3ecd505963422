"""One message is replayed on its page, and so is its dead letter, by who may act."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import redis

from hookmill.admin import audit
from hookmill.admin.replay_checks import CAN_REPLAY
from hookmill.config.settings import Settings
from hookmill.stream.facts import Heartbeat
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from tests.console.acting import confirmed, counted
from tests.console.browsing import READER, Browser
from tests.given_up import GiveUp, OpenGroup
from tests.histories import BOUNDS
from tests.stream.ordering import run_all
from tests.support import message

pytestmark = pytest.mark.one_server


async def test_a_handled_message_and_no_other_is_replayed_on_its_page(
    operator: Browser, stream: Producer, open_group: OpenGroup, settings: Callable[..., Settings]
) -> None:
    group = await open_group(history=BOUNDS)
    await stream.append([message(b"{}", id=f"m{n}") for n in range(3)])
    url = (await operator.get("/messages?id=m1", follow=False)).headers["Location"]
    assert f"{url}/replay" not in (await operator.get(url)).text  # it still waits
    _, page = await counted(operator, url, f"{url}/replay", group="main")
    assert "Nothing matches" in page.visible
    assert await run_all(group) == ["m0", "m1", "m2"]
    beat = Heartbeat(name=group.consumer, handlers={"send": ("*",)}, lease=60, can=(CAN_REPLAY,))
    await Heartbeats(stream.client, "main").write(beat)

    page = await operator.get(url)
    assert f'action="{url}/replay"' in page.text
    address, page = await counted(operator, url, f"{url}/replay", group="main")
    assert "Replay 1 message of group main?" in re.sub(r"\s+", " ", page.visible)
    page = await confirmed(operator, address, page, why="it was wrong")
    assert "1 replayed" in page.visible
    assert await run_all(group) == ["m1"]
    done = [one async for one in audit.listed(settings())]
    assert [(one.who, one.action, one.why) for one in done] == [
        ("Ada (console)", "replay", "it was wrong")
    ]
    for entry, fault in (("x", "not the ID"), ("1-1", "Nothing matches")):
        _, page = await counted(operator, url, f"/messages/{entry}/replay", group="main")
        assert fault in page.visible


async def test_a_dead_letter_is_replayed_on_the_page_of_its_message_by_who_may_act(
    operator: Browser, give_up: GiveUp, redis_client: redis.Redis, prefix: str,
    emptied: Callable[[], None],
) -> None:  # fmt: skip
    dead_id, other = await give_up(message(id="m1"), message(id="m2"))
    url = (await operator.get("/messages?id=m1", follow=False)).headers["Location"]
    page = await operator.get(url)
    assert f'name="id" value="{dead_id}"' in page.text
    assert "/replay" not in page.text
    address, page = await counted(
        operator, url, group="main", id=dead_id, scope="chosen", action="replay"
    )
    page = await confirmed(operator, address, page)
    left: Any = redis_client.xrange(f"{prefix}:{{0}}:main:dead")
    assert [entry[0].decode() for entry in left] == [other]

    await operator.log_in(READER)
    for target in (url, f"/messages/{other}"):
        assert "<form" not in (await operator.get(target)).text.partition("<main")[2]
    csrf = (await operator.get(url)).csrf
    assert (await operator.post(f"{url}/replay", {"csrf": csrf})).status == 403
    assert (await operator.post(f"{url}/replay", {})).status == 403
    emptied()
