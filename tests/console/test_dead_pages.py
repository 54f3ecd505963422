"""Actions on dead letters: counted, confirmed once, followed, cancelled, recorded."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import redis

from hookmill.admin import audit
from hookmill.config.settings import Settings
from hookmill.console import dead_pages
from hookmill.console.jobs import MAX_RUNNING
from tests.console.acting import confirmed, counted, ended
from tests.console.browsing import Browser
from tests.given_up import GiveUp
from tests.support import eventually, message

pytestmark = pytest.mark.one_server


async def test_what_is_confirmed_is_what_was_counted_and_it_is_recorded(
    operator: Browser,
    give_up: GiveUp,
    settings: Callable[..., Settings],
    redis_client: redis.Redis,
    prefix: str,
    emptied: Callable[[], None],
) -> None:
    await give_up(*[message(type="order.paid") for _ in range(3)], message(type="page.read"))
    scope = {"scope": "matching", "action": "drop", "type": "order.*"}
    address, page = await counted(operator, "/dead?type=order.*", **scope)
    assert "Drop 3 dead letters of group main?" in re.sub(r"\s+", " ", page.visible)
    await give_up(message(type="order.paid"))

    page = await confirmed(operator, address, page, why="they are of a test")
    assert "3 dropped" in page.visible
    assert 'href="/dead?group=main&amp;type=order.%2A"' in page.text
    assert redis_client.xlen(f"{prefix}:{{0}}:main:dead") == 2
    csrf = (await operator.get("/")).csrf
    assert (await operator.post(f"{address}/confirm", {"csrf": csrf})).status == 404

    (done,) = [one async for one in audit.listed(settings())]
    assert (done.who, done.action, done.why) == ("Ada (console)", "dead drop", "they are of a test")
    assert done.result == {"dropped": 3, "of": 3}
    assert "they are of a test" in (await operator.get("/audit?action=dead+*")).visible
    emptied()


async def test_chosen_ones_are_replayed(
    operator: Browser, give_up: GiveUp, redis_client: redis.Redis, prefix: str,
    emptied: Callable[[], None],
) -> None:  # fmt: skip
    first, second, third = await give_up(message(), message(), message())
    address, page = await counted(operator, action="replay", id=[first, third])
    page = await confirmed(operator, address, page, rate="1000")
    assert "2 replayed" in page.visible
    left: Any = redis_client.xrange(f"{prefix}:{{0}}:main:dead")
    assert [entry[0].decode() for entry in left] == [second]
    assert redis_client.xlen(f"{prefix}:{{0}}:main:again") == 2
    emptied()


async def test_an_action_can_be_cancelled_between_two_steps(
    operator: Browser, give_up: GiveUp, redis_client: redis.Redis, prefix: str,
    emptied: Callable[[], None],
) -> None:  # fmt: skip
    await give_up(*[message() for _ in range(5)])
    address, page = await counted(operator, action="replay", scope="matching")
    form = {"csrf": page.csrf, "rate": "2"}
    assert "Cancel" in (await operator.post(f"{address}/confirm", form)).text
    newest = list(operator.running.jobs._jobs.values())[-1]
    await eventually(lambda: "1 replayed" in newest.told)
    await operator.post(f"/jobs/{newest.id}/cancel", {"csrf": page.csrf})
    _, page = await ended(operator)
    assert "been cancelled" in page.visible
    assert redis_client.xlen(f"{prefix}:{{0}}:main:dead") == 4
    emptied()


async def test_few_actions_run_at_a_time_and_a_rate_is_a_number(
    operator: Browser, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    await give_up(*[message() for _ in range(2 * MAX_RUNNING)])
    asked = [
        await counted(operator, action="replay", scope="matching") for _ in range(MAX_RUNNING + 1)
    ]
    (address, page), *_ = asked
    for rate in ("0", "-1", "many", "nan", "1e9"):
        form = {"csrf": page.csrf, "rate": rate}
        assert (await operator.post(f"{address}/confirm", form)).status == 400
    forms = [(address, {"csrf": page.csrf, "rate": "0.001"}) for address, page in asked]
    statuses = [(await operator.post(f"{one}/confirm", form)).status for one, form in forms]
    assert statuses == [*[200] * MAX_RUNNING, 400]
    emptied()


async def test_pages_begin_with_the_newest_and_keep_the_filters(
    operator: Browser, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    await give_up(*[message(id=f"msg-{number:03}", type="order.paid") for number in range(120)])
    page = await operator.get("/dead?type=order.*")
    assert "msg-119" in page.text
    assert "msg-069" not in page.text
    seen = page.text.count('name="id"')
    while older := re.search(r'href="([^"]*before_id=[^"]*)">Older', page.text):
        page = await operator.get(older[1].replace("&amp;", "&"))
        assert 'name="type" value="order.*"' in page.text
        seen += page.text.count('name="id"')
    assert seen == 120
    emptied()


async def test_errors_are_grouped_and_each_links_what_died_of_it(
    operator: Browser, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    await give_up(message(), message(), error="ValueError: no order 7")
    await give_up(message(), error="KeyError: <b>'x'</b>")
    page = await operator.get("/dead/errors")
    assert "ValueError: no order #" in page.visible
    assert "<b>" not in page.text
    links = re.findall(r'href="(/dead\?[^"]*error=[0-9a-f]{12})">([0-9])</a>', page.text)
    assert [number for _, number in links] == ["2", "1"]
    one = await operator.get(links[0][0].replace("&amp;", "&"))
    assert one.text.count('name="id"') == 2
    for path in ("/dead?error=x", "/dead?where=x", "/dead/errors?where=%5B", "/dead?before_id=x"):
        assert (await operator.get(path)).status in {400, 404}
    emptied()


async def test_a_page_for_which_many_were_looked_at_does_not_move_by_itself(
    operator: Browser,
    give_up: GiveUp,
    emptied: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await give_up(message(), message())
    for page in ("/dead", "/dead?source=none", "/dead/errors"):
        assert '<body data-live="dead">' in (await operator.get(page)).text
    monkeypatch.setattr(dead_pages, "LARGEST_PAGE", 1)
    for page in ("/dead?source=none", "/dead/errors"):
        shown = await operator.get(page)
        assert '<body data-live="">' in shown.text
        assert "2 dead letters were looked at" in shown.visible
    emptied()
