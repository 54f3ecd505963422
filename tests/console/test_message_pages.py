"""Finding messages, and the story of one, as pages."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from hookmill.stream.producer import Producer
from tests.console.browsing import Browser
from tests.console.conftest import OpenConsole
from tests.given_up import GiveUp, OpenGroup
from tests.histories import BOUNDS
from tests.stream.ordering import run_all, settle
from tests.support import message

pytestmark = pytest.mark.one_server

HOSTILE = "<i>msg</i>\u202e"


async def test_a_message_is_found_by_its_id_and_its_story_is_told(
    operator: Browser, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    hostile = message(
        b'{"half": "\\ud800<s>"}', id=HOSTILE, type="<b>", header_block=b"X-A: <u>1</u>"
    )
    (dead_id,) = await give_up(hostile)
    for text in (HOSTILE, dead_id):
        async with operator.http.get(f"{operator.base}/messages", params={"id": text}) as answer:
            assert answer.status == 200
            assert answer.url.path.startswith("/messages/")
            page = await answer.text()
        for markup in ("<i>msg", "<b>", "<u>1", "<s>"):
            assert markup not in page
        assert "<strong>dead</strong>" in page
        assert f'href="/dead/{dead_id}?group=main"' in page
        assert "X-A: &lt;u&gt;1" in page
        assert "{&#34;half&#34;: &#34;\\ud800&lt;s&gt;&#34;}" in page
    emptied()


async def test_what_is_not_there_is_said(operator: Browser) -> None:
    for path in ("/messages?id=none", "/messages?id=1-1%00", "/messages/none", "/messages/1-1@99"):
        answer = await operator.get(path)
        assert answer.status == 404
        assert "was found" in answer.visible
    assert (await operator.get("/messages")).status == 200


async def test_the_newest_messages_are_listed_and_searched_by_their_bodies(
    operator: Browser, stream: Producer
) -> None:
    bodies = [b'{"order": %d}' % number for number in range(120)]
    await stream.append(
        [message(body, id=f"msg-{n:03}", type="<b>") for n, body in enumerate(bodies)]
    )
    page = await operator.get("/messages?type=%3Cb%3E")
    seen = page.text.count("msg-")
    assert "msg-119" in page.text
    assert "<b>" not in page.text
    while older := re.search(r'href="([^"]*older=[^"]*)"', page.text):
        page = await operator.get(older[1].replace("&amp;", "&"))
        seen += page.text.count("msg-")
    assert seen == 120
    page = await operator.get("/messages?where=order%3D7")
    assert re.findall("msg-[0-9]+", page.text) == ["msg-007"]
    for query in ("where=x", "older=x", "older=1--1", f"older={2**64}-1", "after=x"):
        assert (await operator.get(f"/messages?{query}")).status == 400


async def test_what_is_redacted_is_neither_searched_nor_shown(
    console: OpenConsole, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    body = b'{"data": {"email": "ada@example.org"}}'
    (dead_id,) = await give_up(message(body, source="shop", id="msg_1"))
    browser = await console(sources={"shop": {"redact": ["data.email"], "preset": "stripe"}})
    for path in ("/messages?where=data.email~a*", "/dead?where=data.email~a*"):
        assert (await browser.get(path)).status == 400
    for path in ("/messages", "/messages?id=msg_1&source=shop", "/dead", f"/dead/{dead_id}"):
        page = await browser.get(path)
        assert page.status == 200
        assert "ada@example.org" not in page.text
    emptied()


async def test_refused_deliveries_that_are_kept_are_listed(operator: Browser) -> None:
    assert "None is kept" in (await operator.get("/refused?source=x")).visible
    assert (await operator.get("/refused/1-1")).status == 404


async def test_a_body_is_shown_as_the_event_that_it_decodes_as(
    operator: Browser, stream: Producer
) -> None:
    bodies = (b'{"event": "post.published", "data": {"id": "<b>7"}}', b'{"data": {"id": 7}}')
    await stream.append(
        [message(body, id=f"m{n}", type="post.published") for n, body in enumerate(bodies)]
    )
    rows = (await operator.get("/messages")).text
    bad, good = [await operator.get(one) for one in re.findall('href="(/messages/[^"?]+)"', rows)]
    assert "Decodes as  post.published" in good.visible
    assert "&lt;b&gt;7" in good.text
    assert "Does not decode as  post.published" in bad.visible
    assert "$" in bad.visible


async def test_messages_are_listed_by_their_state(
    operator: Browser, stream: Producer, give_up: GiveUp, emptied: Callable[[], None],
    open_group: OpenGroup,
) -> None:  # fmt: skip
    await give_up(message(id="msg-dead"))
    group = await open_group(history=BOUNDS)
    await stream.append([message(id="msg-handled")])
    await run_all(group)
    await stream.append([message(id="msg-held"), message(id="msg-waiting")])
    held = await group.take(1)
    for state in ("dead", "handled", "held", "waiting"):
        page = await operator.get(f"/messages?state={state}")
        assert re.findall("msg-[a-z]+", page.text) == [f"msg-{state}"]
        shown = "finished" if state == "handled" else state  # nothing of it is in the history
        assert f"<td>{shown}</td>" in page.text
    assert "msg-" not in (await operator.get("/messages?state=parked&group=main")).text
    assert (await operator.get("/messages?state=x")).status == 400
    await settle(group, held)
    await run_all(group)
    emptied()
