"""`hookmill qstash` as a process: an accepted message is delivered, also after a kill."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from qstash import AsyncQStash, Receiver
from qstash.errors import QStashError

from hookmill.emulator.credentials import DEVELOPMENT_TOKEN
from hookmill.signatures.qstash import DEVELOPMENT_KEYS
from tests.ports import free_port
from tests.support import Program, Server, eventually

Start = Callable[..., Program]


class Subscriber:
    """A destination: the bodies it got, and how many requests it refuses first."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.refuses = 0
        self.tries = 0
        self.url = ""

    async def receive(self, request: web.Request) -> web.Response:
        self.tries += 1
        if self.tries <= self.refuses:
            return web.Response(status=503)
        body = await request.text()
        token = request.headers["Upstash-Signature"]
        Receiver(*DEVELOPMENT_KEYS).verify(signature=token, body=body, url=self.url)
        self.bodies.append(body)
        return web.Response()


@pytest.fixture
async def subscriber() -> AsyncIterator[Subscriber]:
    found = Subscriber()
    app = web.Application()
    app.router.add_post("/hook", found.receive)
    server = TestServer(app)
    await server.start_server()
    found.url = f"http://127.0.0.1:{server.port}/hook"
    yield found
    await server.close()


def start_it(
    start: Start, env: dict[str, str], *options: str, is_fresh: bool = False
) -> tuple[Program, str]:
    """Start one; return it and its URL. Unless `is_fresh` is true, it has the published token."""
    port = free_port()
    given = {} if is_fresh else {"QSTASH_TOKEN": DEVELOPMENT_TOKEN}
    program = start("qstash", "--port", str(port), *options, env=given | env)
    program.wait_for("is running")
    return program, f"http://127.0.0.1:{port}"


def shown_by(program: Program) -> dict[str, str]:
    """Return the variables that the program has shown for a shell."""
    program.wait_for("export QSTASH_TOKEN=")
    lines = [line for line in program.log.splitlines() if line.startswith("export ")]
    return dict(line.removeprefix("export ").split("=", 1) for line in lines)


@asynccontextmanager
async def client_of(url: str, token: str = DEVELOPMENT_TOKEN) -> AsyncIterator[AsyncQStash]:
    """The SDK's client, with the end that it lacks."""
    client = AsyncQStash(token, base_url=url)
    yield client
    await client.http._client.aclose()


async def test_killed_with_messages_waiting_it_delivers_them_after_its_restart(
    own_server: Callable[..., Server], start_program: Start, subscriber: Subscriber
) -> None:
    env = {"REDIS_URL": own_server().url}
    program, url = start_it(start_program, env)
    subscriber.refuses = 1
    async with client_of(url) as client:
        await client.message.publish(url=subscriber.url, body="again", retry_delay="1000")
        await client.message.publish(url=subscriber.url, body="delayed", delay=1)
        await eventually(lambda: subscriber.tries == 1)
        await client.schedule.create(destination=subscriber.url, cron="0 0 1 1 *", schedule_id="s")
    program.signal(signal.SIGKILL)
    program.wait()

    program, url = start_it(start_program, env)
    await eventually(lambda: sorted(subscriber.bodies) == ["again", "delayed"], timeout=30)
    async with client_of(url) as client:
        assert (await client.schedule.get("s")).cron == "0 0 1 1 *"
        rotated = await client.signing_key.rotate()
    assert program.stop() == 0

    program, url = start_it(start_program, env)
    async with client_of(url) as client:
        assert await client.signing_key.get() == rotated
    assert program.stop() == 0
    assert subscriber.bodies.count("again") == 1


async def test_without_redis_its_state_is_in_a_folder_and_survives_kill_9_too(
    tmp_path: Path, start_program: Start, subscriber: Subscriber
) -> None:
    program, url = start_it(start_program, {})
    async with client_of(url) as client:
        await client.message.publish(url=subscriber.url, body="x", delay=2)
    program.signal(signal.SIGKILL)
    program.wait()

    program, _ = start_it(start_program, {})
    await eventually(lambda: subscriber.bodies == ["x"], timeout=30)
    assert program.stop() == 0
    assert (tmp_path / ".hookmill" / "qstash" / ".gitignore").read_text() == "*\n"


async def test_a_port_in_use_is_one_clear_line(
    server: Server, prefix: str, start_program: Start, subscriber: Subscriber
) -> None:
    port = subscriber.url.split(":")[2].partition("/")[0]
    env = {"REDIS_URL": server.url, "HOOKMILL_PREFIX": prefix}
    program = start_program("qstash", "--port", port, env=env)
    assert program.wait() == 1
    assert "Traceback" not in program.log
    assert f"port {port}" in program.log


async def test_its_own_token_and_keys_come_from_the_environment_and_are_not_shown(
    server: Server, prefix: str, start_program: Start
) -> None:
    current, following, token = "sig_" + "a" * 30, "sig_" + "b" * 30, "my-own-token"
    env = {
        "REDIS_URL": server.url, "HOOKMILL_PREFIX": prefix, "QSTASH_TOKEN": token,
        "QSTASH_CURRENT_SIGNING_KEY": current, "QSTASH_NEXT_SIGNING_KEY": following,
    }  # fmt: skip
    program, url = start_it(start_program, env)
    async with client_of(url) as client:
        with pytest.raises(QStashError, match="401"):
            await client.signing_key.get()
    async with client_of(url, token) as client:
        assert (await client.signing_key.get()).current == current
    assert program.stop() == 0
    assert not [secret for secret in (token, current, following) if secret in program.log]


REAL = {
    "QSTASH_CURRENT_SIGNING_KEY": "sig_" + "a" * 30,
    "QSTASH_NEXT_SIGNING_KEY": "sig_" + "b" * 30,
}


async def test_real_keys_are_neither_used_nor_shown_under_the_published_token(
    server: Server, prefix: str, start_program: Start
) -> None:
    env = {"REDIS_URL": server.url, "HOOKMILL_PREFIX": prefix}
    both = {**env, **REAL, "QSTASH_TOKEN": DEVELOPMENT_TOKEN}
    refused = start_program("qstash", "--port", str(free_port()), env=both)
    assert refused.wait() == 2
    assert "hookmill: QSTASH_TOKEN is a published token" in refused.log

    program, url = start_it(start_program, {**env, **REAL}, is_fresh=True)
    async with client_of(url) as client:
        with pytest.raises(QStashError, match="401"):
            await client.signing_key.get()
        with pytest.raises(QStashError, match="401"):
            await client.message.publish(url=url, body="x")
    async with client_of(url, shown_by(program)["QSTASH_TOKEN"]) as client:
        assert (await client.signing_key.rotate()).current == REAL["QSTASH_NEXT_SIGNING_KEY"]
    assert program.stop() == 0

    # One of the real keys is in the state now.
    env["QSTASH_TOKEN"] = DEVELOPMENT_TOKEN
    refused = start_program("qstash", "--port", str(free_port()), env=env)
    assert refused.wait() == 2
    assert "those of a rotation" in refused.log


async def test_each_run_makes_a_token_shows_it_once_and_keeps_it_for_this_user_while_it_runs(
    tmp_path: Path, server: Server, prefix: str, start_program: Start
) -> None:
    env = {"REDIS_URL": server.url, "HOOKMILL_PREFIX": prefix}
    tokens = []
    for _ in range(2):
        program, url = start_it(start_program, env, is_fresh=True)
        shown = shown_by(program)
        assert shown["QSTASH_URL"] == url
        tokens.append(shown["QSTASH_TOKEN"])
        assert program.log.count(tokens[-1]) == 1
        file = tmp_path / ".hookmill" / "qstash.env"
        assert file.read_text() == f"QSTASH_URL={url}\nQSTASH_TOKEN={tokens[-1]}\n"
        assert file.stat().st_mode & 0o777 == 0o600
        async with client_of(url, tokens[-1]) as client:
            assert (await client.signing_key.get()).current == DEVELOPMENT_KEYS[0]
        assert program.stop() == 0
        assert not file.exists()
    assert len({*tokens, DEVELOPMENT_TOKEN}) == 3


async def test_where_it_cannot_keep_the_token_it_runs_all_the_same(
    tmp_path: Path, server: Server, prefix: str, start_program: Start
) -> None:
    (tmp_path / ".hookmill").write_text("a file")
    env = {"REDIS_URL": server.url, "HOOKMILL_PREFIX": prefix}
    program, url = start_it(start_program, env, is_fresh=True)
    program.wait_for("the token is in no file")
    async with client_of(url, shown_by(program)["QSTASH_TOKEN"]) as client:
        await client.signing_key.get()
    assert program.stop() == 0


async def test_it_continues_after_redis_was_away(
    own_server: Callable[..., Server], start_program: Start, subscriber: Subscriber
) -> None:
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    program, url = start_it(start_program, {"REDIS_URL": server.url})
    async with client_of(url) as client:
        await client.message.publish(url=subscriber.url, body="before", delay=3)
        server.kill()
        with pytest.raises(QStashError, match="503"):
            await client.message.publish(url=f"{subscriber.url}/not-written-down")
        program.wait_for("changes not saved in Redis")
        server.start()
        await eventually(lambda: subscriber.bodies == ["before"], timeout=30)
    assert program.stop() == 0


async def test_it_stops_in_order_while_redis_is_away(
    own_server: Callable[..., Server], start_program: Start
) -> None:
    server = own_server()
    program, _ = start_it(start_program, {"REDIS_URL": server.url})
    server.kill()
    assert program.stop() == 0
    assert "Traceback" not in program.log


async def test_a_frozen_emulator_ends_if_another_took_over(
    server: Server, prefix: str, start_program: Start
) -> None:
    env = {"REDIS_URL": server.url, "HOOKMILL_PREFIX": prefix}
    frozen, _ = start_it(start_program, env)
    frozen.signal(signal.SIGSTOP)
    other, _ = start_it(start_program, env)
    frozen.signal(signal.SIGCONT)
    assert frozen.wait() == 1
    assert "took over these keys" in frozen.log
    assert other.stop() == 0
