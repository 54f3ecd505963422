"""What is around every request: the token, the saving of changes, and the log."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from hookmill.emulator.app import make_app, serving
from hookmill.emulator.broker import Broker
from hookmill.emulator.guard import carries_token, is_token
from hookmill.emulator.state import State
from hookmill.errors import StreamUnavailableError
from tests.emulator.running import (
    NOWHERE,
    TOKEN,
    Emulator,
    Subscriber,
)
from tests.support import eventually


@pytest.mark.parametrize(
    ("header", "is_ours"),
    [
        ("Bearer secret", True),
        ("bearer  secret ", True),
        ("Bearer secre", False),
        ("Bearer ", False),
        ("secret", False),
        ("Basic secret", False),
        ("Bearer \udcff\u00fc", False),
    ],
)
def test_the_token_follows_bearer(header: str, is_ours: bool) -> None:
    assert carries_token(header, "secret") == is_ours


@pytest.mark.parametrize("given", ["", "secre", "secrets", "\u00fc", "\udcff"])
def test_another_token_is_refused(given: str) -> None:
    assert is_token("secret", "secret")
    assert not is_token(given, "secret")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer \u00fc"},
    ],
)
async def test_without_the_token_nothing_is_done(
    emulator: Emulator, headers: dict[str, str]
) -> None:
    for method, path in (
        ("POST", f"/v2/publish/{NOWHERE}"),
        ("GET", "/v2/keys"),
        ("DELETE", "/v2/messages"),
        ("GET", "/v2/unknown"),
        ("POST", f"/v2/publish/{NOWHERE}?qstash_token=wrong"),
    ):
        status, said = await emulator.ask(method, path, token=None, headers=headers)
        assert status == 401
        assert "token" in said["error"]
    assert emulator.saves == [0]


FROM_A_PAGE = [
    {"Origin": "https://evil.example", "Content-Type": "text/plain"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {"Sec-Fetch-Site": "same-site"},
    {"Host": "evil.example"},
    {"Host": "rebound.evil.example:8081"},
]


@pytest.mark.parametrize("headers", FROM_A_PAGE)
async def test_a_web_page_that_knows_the_token_can_neither_change_nor_read_anything(
    emulator: Emulator, inbox: Subscriber, headers: dict[str, str]
) -> None:
    query = f"qstash_token={TOKEN}&upstash-method=DELETE&upstash-forward-x=1"
    for method, path in (
        ("POST", f"/v2/publish/{inbox.url}/hook?{query}"),
        ("POST", f"/v2/keys/rotate?{query}"),
        ("DELETE", f"/v2/messages?{query}"),
        ("GET", f"/v2/keys?{query}"),
        ("GET", "/"),
        ("OPTIONS", f"/v2/keys?{query}"),
        ("GET", f"/unknown?{query}"),
    ):
        async with emulator.asked(method, path, token=None, headers=headers, data="x") as response:
            assert response.status == 403
            said = await response.json()
            assert not [one for one in response.headers if one.lower().startswith("access-control")]
        assert said["error"].startswith("this request is refused, because it")
        assert "evil" not in said["error"]
    assert emulator.saves == [0]
    assert not inbox.deliveries


async def test_refused_pages_are_logged_once_in_a_while(emulator: Emulator) -> None:
    with capture_logs() as lines:
        for _ in range(20):
            await emulator.ask("GET", "/v2/keys", headers={"Origin": "https://evil.example"})
    assert [(line["event"], line["status"], line["route"]) for line in lines] == [
        ("refused", 403, "/v2/keys")
    ]
    assert "evil" not in str(lines)


async def test_no_answer_lets_a_page_of_another_origin_read_it(emulator: Emulator) -> None:
    for method, path in (("GET", "/v2/keys"), ("GET", "/"), ("POST", f"/v2/publish/{NOWHERE}")):
        async with emulator.asked(method, path) as response:
            assert response.status == 200
            assert not [one for one in response.headers if one.lower().startswith("access-control")]


async def test_the_token_may_be_in_the_query_and_is_not_forwarded(
    emulator: Emulator, inbox: Subscriber
) -> None:
    url = f"{inbox.url}/hook?a=1"
    path = f"/v2/publish/{url}&qstash_token={TOKEN}&upstash-header-forward=true"
    status, _ = await emulator.ask(
        "POST", path, token=None, data=b"x", headers={"X-Theirs": "1", "Authorization": "Basic x"}
    )
    assert status == 200
    (came,) = await inbox.wait_for("/hook")
    assert came.url == url
    assert (came.headers["X-Theirs"], came.headers["Authorization"]) == ("1", "Basic x")
    assert came.headers["User-Agent"] == "Upstash-QStash"
    assert TOKEN not in str(came.shown())


async def test_our_token_is_not_forwarded_with_all_headers(
    emulator: Emulator, inbox: Subscriber
) -> None:
    headers = {"Upstash-Header-Forward": "true", "X-Theirs": "1"}
    await emulator.ask("POST", f"/v2/publish/{inbox.url}/hook", headers=headers)
    (came,) = await inbox.wait_for("/hook")
    assert came.headers["X-Theirs"] == "1"
    assert "Authorization" not in came.headers


async def test_the_changes_of_a_request_are_saved_before_it_is_answered(
    emulator: Emulator,
) -> None:
    held = asyncio.Event()
    state = State()

    async def save() -> None:
        await held.wait()
        state.journal.clear()

    inner = Broker(state)
    async with serving(inner, save, TOKEN, "127.0.0.1", 0) as port:
        here = emulator._replace(url=f"http://127.0.0.1:{port}")
        asking = asyncio.create_task(here.ask("POST", f"/v2/publish/{NOWHERE}"))
        await eventually(lambda: len(state.messages) == 1)
        assert (await here.ask("GET", "/v2/keys"))[0] == 200  # nothing to save
        assert not asking.done()
        held.set()
        assert (await asking)[0] == 200
        assert not state.journal


async def test_a_request_whose_changes_cannot_be_saved_is_refused(emulator: Emulator) -> None:
    async def save() -> None:
        raise StreamUnavailableError("Redis is away")

    async with serving(Broker(State()), save, TOKEN, "127.0.0.1", 0) as port:
        here = emulator._replace(url=f"http://127.0.0.1:{port}")
        status, said = await here.ask("POST", f"/v2/publish/{NOWHERE}")
    assert status == 503
    assert "Redis is away" in said["error"]


async def test_a_change_before_a_refusal_is_saved_as_well(emulator: Emulator) -> None:
    items = [{"destination": NOWHERE}, {"destination": "unknown"}]
    before = emulator.saves[0]
    status, said = await emulator.ask("POST", "/v2/batch", json=items)
    assert status == 200
    assert list(said[1]) == ["error"]
    assert emulator.saves[0] > before


async def test_nothing_more_is_accepted_until_redis_takes_the_earlier_changes(
    emulator: Emulator,
) -> None:
    state, is_away = State(), True

    async def save() -> None:
        if is_away:
            raise StreamUnavailableError("Redis is away")

    async with serving(Broker(state), save, TOKEN, "127.0.0.1", 0) as port:
        here = emulator._replace(url=f"http://127.0.0.1:{port}")
        for _ in range(3):
            assert (await here.ask("POST", f"/v2/publish/{NOWHERE}"))[0] == 503
        assert len(state.messages) == 1
        is_away = False
        assert (await here.ask("POST", f"/v2/publish/{NOWHERE}"))[0] == 200
    assert len(state.messages) == 2


async def test_a_request_is_one_line_in_the_log_without_secrets(emulator: Emulator) -> None:
    headers = {"Upstash-Forward-X": "forwarded-value", "Upstash-Retries": "0"}
    secret = f"{NOWHERE}path-secret?key=query-secret"
    with capture_logs() as lines:
        await emulator.ask("POST", f"/v2/publish/{secret}", data=b"body-secret", headers=headers)
        await emulator.ask("POST", "/v2/publish/ftp://path-secret", data=b"body-secret")
        await emulator.ask("GET", f"/v2/keys?qstash_token={TOKEN}", token="wrong-secret")
        await emulator.ask("POST", "/v2/keys", token="wrong-secret")
    asked = [line for line in lines if "route" in line]
    assert [(line["log_level"], line["event"], line["status"]) for line in asked] == [
        ("debug", "answered", 200),
        ("info", "refused", 400),
        ("debug", "answered", 200),
        ("info", "refused", 401),
    ]
    assert asked[0]["route"] == "/v2/publish/{destination}"
    for hidden in (TOKEN, "-secret", "forwarded-value"):
        assert hidden not in str(asked)


async def test_the_server_itself_logs_no_request(emulator: Emulator) -> None:
    app = make_app(emulator.broker, emulator.dispatcher.stop, TOKEN)
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    assert runner.server._kwargs["access_log"] is None
    await runner.cleanup()
