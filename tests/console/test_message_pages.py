"""Finding messages, and the story of one, as pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.console.browsing import Browser
from tests.given_up import GiveUp
from tests.support import message

pytestmark = pytest.mark.one_server

HOSTILE = "<i>msg</i>\u202e"


async def test_a_message_is_found_by_its_id_and_its_story_is_told(
    operator: Browser, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    (dead_id,) = await give_up(message(id=HOSTILE, type="<b>", header_block=b"X-A: <u>1</u>"))
    for text in (HOSTILE, dead_id):
        async with operator.http.get(f"{operator.base}/messages", params={"id": text}) as answer:
            assert answer.status == 200
            assert answer.url.path.startswith("/messages/")
            page = await answer.text()
        for markup in ("<i>msg", "<b>", "<u>1"):
            assert markup not in page
        assert "<strong>dead</strong>" in page
        assert f'href="/dead/{dead_id}?group=main"' in page
        assert "X-A: &lt;u&gt;1" in page
    emptied()


async def test_what_is_not_there_is_said(operator: Browser) -> None:
    for path in ("/messages?id=none", "/messages?id=1-1%00", "/messages/none", "/messages/1-1@99"):
        answer = await operator.get(path)
        assert answer.status == 404
        assert "was found" in answer.visible
    assert (await operator.get("/messages")).status == 200
