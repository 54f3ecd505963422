"""The console over HTTP: logins, roles, origins, headers, hostile requests and hostile texts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import aiohttp
import pytest

from hookmill.console.access import ATTEMPTS
from hookmill.console.app import ACTIONS, PAGES
from hookmill.console.guard import HEADERS
from hookmill.instrumentation.rates import Field, written
from hookmill.stream.producer import Producer
from hookmill.stream.rates import RateHistory
from tests.console.browsing import OPERATOR, READER, Browser
from tests.console.conftest import OpenConsole
from tests.given_up import GiveUp
from tests.support import message

pytestmark = pytest.mark.one_server

HOSTILE = "'\"><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}\x1b[2J\u202e"


async def test_without_a_token_it_shows_everything_and_changes_nothing(
    console: OpenConsole, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    (dead_id,) = await give_up(message(type="order.paid"))
    browser = await console()
    page = await browser.get("/dead")
    assert "ValueError: no such order" in page.visible
    assert "Replay…" not in page.text
    for action in ACTIONS:
        sent = await browser.post(action, {"csrf": page.csrf, "id": dead_id, "action": "drop"})
        assert sent.status == 403
    assert (await browser.get("/")).status == 200
    emptied()


async def test_with_a_token_nothing_is_shown_before_a_login(console: OpenConsole) -> None:
    browser = await console(console_token=OPERATOR)
    for path in (*PAGES, "/live", "/nothing"):
        answer = await browser.get(path, follow=False)
        expected = 401 if path == "/live" else 303
        assert (answer.status, answer.headers.get("Location", "/login")) == (expected, "/login")
    for path in ACTIONS:
        assert (await browser.post(path)).status == 401
    assert (await browser.get("/healthz")).text == "ok\n"

    assert (await browser.log_in("a wrong token of the tests")).status == 403
    assert (await browser.get("/", follow=False)).status == 303
    answer = await browser.log_in(OPERATOR, "Ada")
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert OPERATOR not in cookie
    page = await browser.get("/")
    assert "Ada (operator)" in page.visible
    assert (await browser.post("/logout", {"csrf": page.csrf})).status == 200
    assert (await browser.get("/", follow=False)).status == 303


async def test_behind_https_the_cookie_is_for_https_alone(console: OpenConsole) -> None:
    browser = await console(console_token=OPERATOR, console_url="https://hookmill.example")
    answer = await browser.post(
        "/login", {"token": OPERATOR}, follow=False,
        Host="hookmill.example", Origin="https://hookmill.example",
    )  # fmt: skip
    assert answer.headers["Set-Cookie"].startswith("__Host-hookmill=")
    assert "Secure" in answer.headers["Set-Cookie"]


async def test_logins_that_fail_are_limited(console: OpenConsole) -> None:
    browser = await console(console_token=OPERATOR)
    failed = await asyncio.gather(*[browser.log_in("wrong") for _ in range(ATTEMPTS)])
    assert {answer.status for answer in failed} == {403}
    assert (await browser.log_in(OPERATOR)).status == 429


async def test_behind_a_trusted_proxy_wrong_tokens_lock_out_who_sends_them_and_nobody_else(
    console: OpenConsole,
) -> None:
    browser = await console(
        console_token=OPERATOR,
        console_trusted_header="X-User",
        console_trusted_proxies="127.0.0.1",
    )

    async def log_in(token: str, address: str) -> int:
        form = {"token": token}
        answer = await browser.post("/login", form, follow=False, X_Forwarded_For=address)
        return answer.status

    failed = await asyncio.gather(*[log_in("wrong", "192.0.2.7") for _ in range(ATTEMPTS)])
    assert set(failed) == {403}
    assert await log_in(OPERATOR, "192.0.2.8, 192.0.2.7") == 429
    assert await log_in(OPERATOR, "192.0.2.7, 192.0.2.8") == 303


async def test_a_reader_sees_no_buttons_and_may_not_act(
    console: OpenConsole, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    (dead_id,) = await give_up(message())
    browser = await console(console_token=OPERATOR, console_reader_token=READER)
    await browser.log_in(READER)
    assert "Replay…" not in (await browser.get("/dead")).text
    answer = await browser.send("/dead", "/dead/plan", action="drop", id=dead_id)
    assert answer.status == 403
    assert "operator's token" in answer.visible
    emptied()


async def test_a_form_of_another_page_or_site_is_refused(operator: Browser) -> None:
    csrf = (await operator.get("/dead")).csrf
    assert csrf
    form = {"csrf": csrf, "action": "drop", "scope": "matching"}
    for refused in (
        await operator.post("/dead/plan", form | {"csrf": csrf[:-1]}),
        await operator.post("/dead/plan", {"action": "drop", "scope": "matching"}),
        await operator.post("/dead/plan", form, Origin="http://evil.example"),
        await operator.post("/dead/plan", form, Sec_Fetch_Site="cross-site"),
        await operator.post("/logout", {}),
        await operator.post("/login", {"token": OPERATOR}, Origin="null"),
    ):
        assert refused.status == 403


async def test_a_name_that_leads_to_this_machine_is_refused(console: OpenConsole) -> None:
    browser = await console()
    for path in (*PAGES, "/static/console.js", "/live"):
        assert (await browser.get(path, Host="evil.example:8090")).status == 403


async def test_a_proxy_that_is_trusted_logs_people_in(
    console: OpenConsole, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    await give_up(message())
    fields = {"console_trusted_header": "X-User", "console_trusted_role": "operator"}
    browser = await console(**fields, console_trusted_proxies="127.0.0.1")
    page = await browser.get("/dead", X_User="Ada <admin>")
    assert "Ada <admin> (operator)" in page.visible
    sent = await browser.post("/jobs/none/cancel", {"csrf": page.csrf}, X_User="Ada <admin>")
    assert sent.status == 404
    as_another = await browser.post("/jobs/none/cancel", {"csrf": page.csrf}, X_User="Bob")
    assert as_another.status == 403
    assert "through a proxy" in (await browser.get("/")).visible
    stranger = await console(**fields, console_trusted_proxies="192.0.2.1")
    assert (await stranger.get("/", follow=False, X_User="Ada")).status == 303
    emptied()


async def test_every_answer_has_the_strict_headers(operator: Browser) -> None:
    for path in (*PAGES, "/login", "/nothing", "/dead/1-1", "/healthz", "/live"):
        async with operator.http.get(operator.base + path, allow_redirects=False) as answer:
            for name, value in HEADERS.items():
                assert answer.headers[name] == value, (path, name)
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/dead?after=yesterday", 400),
        ("/dead?before=99999999999d", 400),
        ("/dead?group=none%00%0a", 404),
        ("/dead/%ED%A0%80", 404),
        ("/dead/..%2f..%2fetc%2fpasswd", 404),
        ("/jobs/%3Cscript%3E", 404),
        ("/static/../app.py", 404),
        ("/nothing", 404),
    ],
)
async def test_a_hostile_address_gets_an_answer_and_no_traceback(
    operator: Browser, caplog: pytest.LogCaptureFixture, path: str, status: int
) -> None:
    answer = await operator.get(path)
    assert answer.status == status
    assert "<script>" not in answer.text
    assert "Traceback" not in caplog.text


async def test_a_hostile_form_gets_an_answer(operator: Browser) -> None:
    csrf = (await operator.get("/dead")).csrf
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    for body, headers, status in (
        (b"x" * 70_000, kind, 413),
        (b"&".join([b"a=1"] * 3000), kind, 400),
        (b"\xff\xfe=%ff", kind | {"Content-Type": kind["Content-Type"] + "; charset=nope"}, 403),
        (b"--x\r\n", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
        (b"{}", {"Content-Type": "application/json"}, 415),
        (f"csrf={csrf}&action=explode&id=1-1".encode(), kind, 400),
        (f"csrf={csrf}&action=drop".encode(), kind, 400),
        (f"csrf={csrf}&action=drop&id=+-".encode(), kind, 404),
    ):
        async with operator.http.post(
            f"{operator.base}/dead/plan", data=body, headers=headers
        ) as answer:
            assert answer.status == status, body[:50]


async def test_hostile_texts_are_shown_everywhere_and_act_nowhere(
    operator: Browser, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    hostile = message(
        json.dumps({"text": HOSTILE, "half": "\ud800"}).encode(), id=HOSTILE, type=HOSTILE,
        source=HOSTILE, header_block=b"X-Hostile: " + HOSTILE.encode(),
    )  # fmt: skip
    handler = {b"handler": HOSTILE.encode()}
    (dead_id,) = await give_up(hostile, changed=handler, error=HOSTILE, reason=HOSTILE)
    filtered = {"source": HOSTILE, "type": HOSTILE, "handler": "*"}
    async with operator.http.get(f"{operator.base}/dead", params=filtered) as answer:
        found = await answer.text()
    pages = [(await operator.get(path)).text for path in ("/dead", f"/dead/{dead_id}", "/")]
    for text in pages:
        assert "<script>alert" not in text
        assert "<img" not in text
        assert "\x1b" not in text
    assert "<script>alert" not in found
    for text in (found, *pages[:2]):
        assert "{{7*7}}" in text
        assert "alert(1)" in text
        assert "\\u202e" in text
    emptied()


async def test_a_stream_tells_of_changes_and_ends_at_once_when_the_console_ends(
    console: OpenConsole, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    browser = await console()
    browser.running.watch._period = 0.05
    async with browser.http.get(f"{browser.base}/live") as stream:
        assert stream.content_type == "text/event-stream"
        read = aiohttp.StreamReader.readuntil
        await give_up(message())
        text = b""
        while b"dead" not in text:
            text = await read(stream.content, b"\r\n\r\n")
        assert text.startswith(b"event: changed\r\ndata: dead")
        await browser.running.watch.close()
        async with asyncio.timeout(60):  # without an end it would wait for ever
            await stream.content.read()
    emptied()


async def test_the_overview_and_the_handlers_show_what_went_in_and_out(
    console: OpenConsole, give_up: GiveUp, emptied: Callable[[], None], stream: Producer
) -> None:
    await give_up(message())
    counts: dict[Field, int] = {
        ("in", "<b>stripe", "accepted"): 42,
        ("came", "<b>stripe", "<b>stripe.paid"): 41,
        ("in", "stripe", "body_mismatch"): 3,
        ("out", "main", "<i>send", "done"): 30,
        ("out", "main", "<i>send", "dead"): 10,
        ("ran", "main", "<i>send", 5): 40,
    }
    await RateHistory(stream.client).add(written(counts))
    browser = await console()
    for path in ("/", "/?span=ten", "/handlers", "/handlers?span=ten"):
        page = await browser.get(path)
        assert "<b>stripe" not in page.text
        assert "<i>send" not in page.text
        assert ("<i>send" if "handlers" in path else "<b>stripe") in page.visible
    overview = await browser.get("/")
    assert "Received by source: 42 in all during the last hour" in overview.text
    assert "Dead letters by reason: failed 1" in " ".join(overview.visible.split())
    assert "Received by source and type: 41 in all during the last hour" in overview.text
    assert "stripe: body_mismatch" in overview.visible
    handlers = await browser.get("/handlers")
    assert "10 (25 %)" in handlers.visible
    assert 'href="/handlers?span=ten&amp;group=main"' in handlers.text  # another time, same group
    sources = (await browser.get("/sources")).visible
    for text in ("POST /stripe", "body_mismatch", "<b>stripe", "[sources.stripe]"):
        assert text in sources
    emptied()
