"""The receiver from start to end: what keeps it from starting, what it warns of, how it stops."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis
import structlog
from structlog.testing import capture_logs

from hookmill.config.settings import Settings
from hookmill.config.sources import sources_of
from hookmill.errors import SettingsError
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from receiver import app as app_module
from receiver import main as main_module
from receiver.main import receive
from tests.support import CURRENT_KEY, MARBLE_SECRET, Program, Server, eventually, signed_headers

HELLO = b'{"hello":"world"}'

MakeSettings = Callable[..., Settings]


@pytest.fixture(autouse=True)
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Our own log lines."""
    for module in (app_module, main_module):
        monkeypatch.setattr(module, "log", structlog.get_logger("receiver"))
    with capture_logs() as captured:
        yield captured


@pytest.fixture
def run(lines: list[Any]) -> Callable[[Settings, Callable[[int], Awaitable[None]]], Any]:
    """Run the program, do something with its port, then end it with SIGTERM."""

    async def run_it(settings: Settings, meanwhile: Callable[[int], Awaitable[None]]) -> None:
        program = asyncio.create_task(receive(settings))
        await eventually(lambda: program.done() or ports(lines), what="the program to listen")
        if not program.done():
            await meanwhile(ports(lines)[0])
            signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(program, 10)

    return run_it


def ports(lines: list[Any]) -> list[int]:
    return [line["port"] for line in lines if line["event"] == "receiving"]


def warnings(lines: list[Any]) -> list[str]:
    return [line["event"] for line in lines if line["log_level"] == "warning"]


async def nothing(port: int) -> None:
    """Only start and stop."""


async def test_it_receives_until_sigterm_and_ends_what_it_started(
    settings: MakeSettings, run: Any, lines: list[Any], redis_client: redis.Redis, prefix: str
) -> None:
    configured = settings(qstash_current_signing_key=CURRENT_KEY, marble_webhook_secret="m-secret")
    qstash, _ = sources_of(configured)
    before: Any = redis_client.client_list()

    async def deliver(port: int) -> None:
        headers = signed_headers(qstash.scheme, HELLO, "/qstash")
        url = f"http://127.0.0.1:{port}/qstash"
        async with (
            aiohttp.ClientSession() as http,
            http.post(url, data=HELLO, headers=headers) as response,
        ):
            assert response.status == 200

    await run(configured, deliver)
    assert redis_client.xlen(f"{prefix}:{{0}}:stream") == 1
    (port,) = ports(lines)
    assert {
        "event": "receiving", "log_level": "info", "port": port, "paths": ["/qstash", "/marble"],
    } in lines  # fmt: skip
    assert [line["event"] for line in lines[-2:]] == ["stopping", "stopped"]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)

    def connected() -> int:
        now: Any = redis_client.client_list()
        return len(now)

    await eventually(lambda: connected() == len(before))


@pytest.mark.parametrize(
    ("keys", "paths"),
    [
        ({"qstash_current_signing_key": CURRENT_KEY}, ["/qstash"]),
        ({"marble_webhook_secret": MARBLE_SECRET}, ["/marble"]),
    ],
)
async def test_only_what_has_a_key_is_open(
    settings: MakeSettings, run: Any, lines: list[Any], keys: dict[str, str], paths: list[str]
) -> None:
    statuses: dict[str, int] = {}

    async def knock(port: int) -> None:
        async with aiohttp.ClientSession() as http:
            for path in ("/qstash", "/marble"):
                async with http.post(f"http://127.0.0.1:{port}{path}", data=HELLO) as response:
                    statuses[path] = response.status

    await run(settings(**keys), knock)
    assert [path for path, status in statuses.items() if status == 401] == paths
    assert sorted(statuses.values()) == [401, 404]


async def test_without_a_source_it_does_not_start_and_says_which_keys_make_one(
    settings: MakeSettings, lines: list[Any]
) -> None:
    with pytest.raises(SettingsError, match="QSTASH_CURRENT_SIGNING_KEY or MARBLE_WEBHOOK_SECRET"):
        await receive(settings())
    assert ports(lines) == []


async def test_without_a_redis_url_it_does_not_start(settings: MakeSettings) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL is not set"):
        await receive(settings(redis_url=None, marble_webhook_secret=MARBLE_SECRET))


async def test_a_port_that_is_taken_is_a_clear_fault_and_leaves_nothing_open(
    settings: MakeSettings, lines: list[Any]
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        configured = settings(port=port, marble_webhook_secret=MARBLE_SECRET)
        with pytest.raises(SettingsError, match=rf"^cannot listen on 127\.0\.0\.1, port {port}: "):
            await receive(configured)
    assert ports(lines) == []


async def test_the_admin_address_may_not_be_the_port_that_senders_reach(
    settings: MakeSettings,
) -> None:
    configured = settings(port=8080, admin_port=8080, marble_webhook_secret=MARBLE_SECRET)
    with pytest.raises(SettingsError, match=r"^HOOKMILL_ADMIN_PORT and PORT are the same"):
        await receive(configured)


@pytest.mark.parametrize(
    ("fields", "warned"),
    [
        ({"qstash_current_signing_key": CURRENT_KEY}, True),
        ({"qstash_current_signing_key": CURRENT_KEY, "public_url": "https://app.example"}, False),
        ({"marble_webhook_secret": MARBLE_SECRET}, False),  # it signs no URL
    ],
)
async def test_the_start_warns_when_a_tokens_url_cannot_be_checked(
    settings: MakeSettings, run: Any, lines: list[Any], fields: dict[str, str], warned: bool
) -> None:
    await run(settings(**fields), nothing)
    assert any("HOOKMILL_PUBLIC_URL is not set" in text for text in warnings(lines)) is warned


async def test_the_start_names_variables_that_nothing_reads(
    settings: MakeSettings, run: Any, lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOKMILL_BODY_LIMITS", "1")
    await run(settings(marble_webhook_secret=MARBLE_SECRET), nothing)
    assert {
        "event": "unknown setting", "log_level": "warning", "variable": "HOOKMILL_BODY_LIMITS",
    } in lines  # fmt: skip


async def test_no_line_of_the_start_shows_a_secret(
    settings: MakeSettings, run: Any, lines: list[Any]
) -> None:
    configured = settings(
        qstash_current_signing_key=CURRENT_KEY, marble_webhook_secret=MARBLE_SECRET
    )
    await run(configured, nothing)
    assert lines
    assert CURRENT_KEY not in repr(lines)
    assert MARBLE_SECRET not in repr(lines)


def test_the_process_survives_senders_that_hang_up_and_ends_on_sigterm(
    own_server: Callable[..., Server], start_program: Callable[..., Program]
) -> None:
    # A real process, because its event loop (uvloop) reports the end of a connection in another
    # tick than asyncio's.
    server = own_server()
    program = start_program(
        "receiver",
        env={"REDIS_URL": server.url, "PORT": "0", "MARBLE_WEBHOOK_SECRET": MARBLE_SECRET,
             "HOOKMILL_HOST": "127.0.0.1"},
    )  # fmt: skip
    program.wait_for('"receiving"')
    events = [json.loads(line) for line in program.log.splitlines()]
    (port,) = ports(events)
    probe = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    post = b"POST /marble HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n"
    for before in range(40):
        for rest in (b"\r\nhalf", b"Expect: 100-continue\r\n\r\nhalf", b"half a header"):
            with closing(socket.create_connection(("127.0.0.1", port))) as sender:
                sender.sendall(probe * before + post + rest)
                if before % 2:  # with a reset, as a crashed machine does
                    linger = struct.pack("ii", 1, 0)
                    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    with closing(socket.create_connection(("127.0.0.1", port))) as sender:
        sender.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert sender.recv(100).startswith(b"HTTP/1.0 200 OK")
    assert program.stop() == 0
    assert "Traceback" not in program.log
    assert "Unhandled" not in program.log
    assert json.loads(program.log.splitlines()[-1])["event"] == "stopped"
    assert {json.loads(line)["level"] for line in program.log.splitlines()} <= {"info", "warning"}


def test_with_public_keys_it_does_not_start_where_others_can_deliver(
    start_program: Callable[..., Program],
) -> None:
    env = {"REDIS_URL": "redis://127.0.0.1:1", "PORT": "0", "HOOKMILL_DEVELOPMENT": "1",
           "MARBLE_WEBHOOK_SECRET": DEVELOPMENT_SECRET}  # fmt: skip
    program = start_program("receiver", env=env)
    assert program.wait() == 2
    assert "and HOOKMILL_HOST is 0.0.0.0, which others can reach" in program.log
    assert "Set HOOKMILL_HOST=127.0.0.1, or a secret of your own" in program.log

    program = start_program("receiver", env={**env, "HOOKMILL_HOST": "127.0.0.1"})
    program.wait_for('"receiving"')
    assert program.stop() == 0
    assert "HOOKMILL_DEVELOPMENT is set: public development keys" in program.log


def test_development_mode_with_keys_of_ones_own_does_not_start_without_a_word(
    start_program: Callable[..., Program],
) -> None:
    env = {"REDIS_URL": "redis://127.0.0.1:1", "PORT": "0", "MARBLE_WEBHOOK_SECRET": MARBLE_SECRET}
    for development in ("1", "0"):
        program = start_program("receiver", env={**env, "HOOKMILL_DEVELOPMENT": development})
        program.wait_for('"receiving"')
        assert program.stop() == 0
        assert ("HOOKMILL_DEVELOPMENT is set" in program.log) == (development == "1")


async def test_a_durability_that_this_redis_cannot_give_stops_the_start(
    settings: MakeSettings,
) -> None:
    configured = settings(qstash_current_signing_key=CURRENT_KEY, durability="aof")
    with pytest.raises(SettingsError, match=r"^HOOKMILL_DURABILITY=aof: .*appendonly"):
        await receive(configured)


async def test_it_starts_without_redis_and_asks_for_the_durability_when_that_is_back(
    own_server: Callable[..., Server], settings: MakeSettings, run: Any
) -> None:
    server = own_server("--save", "", "--appendonly", "no")
    server.kill()

    async def meanwhile(port: int) -> None:
        async with aiohttp.ClientSession() as http:
            for start in (None, server.start):
                if start is not None:
                    start()
                async with http.get(f"http://127.0.0.1:{port}/readyz") as response:
                    assert response.status == 503

    configured = settings(
        redis_url=server.url, durability="aof", qstash_current_signing_key=CURRENT_KEY
    )
    await run(configured, meanwhile)


async def test_a_spool_that_cannot_be_opened_stops_the_start(
    settings: MakeSettings, tmp_path: Path
) -> None:
    path = tmp_path / "no" / "folder" / "spool.db"
    configured = settings(qstash_current_signing_key=CURRENT_KEY, spool=path)
    with pytest.raises(SettingsError, match=r"^HOOKMILL_SPOOL: .*no/folder/spool.db: "):
        await receive(configured)
