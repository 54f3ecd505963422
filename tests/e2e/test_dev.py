"""`make run` as a newcomer sees it: samples of both senders are handled, and Ctrl-C ends all."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import aiohttp
import redis

from hookmill.debug.simulate import deliver
from hookmill.emulator.credentials import DEVELOPMENT_TOKEN
from hookmill.signatures.marble import DEVELOPMENT_SECRET, marble_scheme
from tests.ports import free_port
from tests.support import Program, Server, wait_until


def test_the_samples_are_handled_and_ctrl_c_ends_every_process(
    start_program: Callable[..., Program],
) -> None:
    port = free_port()
    dev = start_program(
        "dev", "--samples", env={"PORT": str(port), "HOOKMILL_LOG_FORMAT": "console"}
    )
    dev.wait_for("Ctrl-C ends everything", timeout=60)

    for what in (
        r"accepted .*source=qstash",
        r"accepted .*source=marble",
        r"handled .*handler=send_receipt",
        r"handled .*handler=rebuild_page",
        r"handled .*attempt=2 .*handler=reindex",
        r"duplicate dropped .*id=msg_sample_order",
        r"refused .*code=body_mismatch",
        r"published .*program=dev",
        r"receipt sent .*order=A-1002",
        r"QStash reports a delivery .*status=200",
    ):
        assert re.search(what, dev.log), f"{what} is not in:\n{dev.log}"
    assert "error" not in dev.log.replace('"error"', ""), dev.log
    assert "hookmill.dev.samples.OrderPaid" in asyncio.run(_page_of_a_message(dev, "order.paid"))
    (socket_path,) = set(re.findall(r"unix://(/\S+)", dev.log))
    children = _children_of(dev.pid)

    dev.signal(signal.SIGINT)
    assert dev.wait() == 0
    assert children, "there were no children to end"
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    assert not _is_open(port)
    assert not Path(socket_path).exists()


def test_the_receiver_has_the_admin_port_and_each_worker_one_of_its_own(
    start_program: Callable[..., Program],
) -> None:
    port = free_port()
    dev = start_program("dev", env={"PORT": str(free_port()), "HOOKMILL_ADMIN_PORT": str(port)})
    wait_until(lambda: dev.log.count("admin address open") == 3 or dev.returncode is not None)
    opened = [json.loads(line) for line in dev.log.splitlines() if "admin address open" in line]
    ports = {line["program"]: line["port"] for line in opened}
    assert ports["receiver"] == port
    assert len(set(ports.values())) == 3
    assert dev.stop() == 0


async def _page_of_a_message(dev: Program, of_type: str) -> str:
    """Return the page of a message in the console of `hookmill dev`."""
    dev.wait_for("log in once")
    (link,) = re.findall(r"http://127.0.0.1:[0-9]+/login[?]once=[-\w]+", dev.log)
    base, _, once = link.partition("/login?once=")
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        async with http.post(f"{base}/login", data={"token": once}) as response:
            assert response.status == 200
        async with http.get(f"{base}/messages", params={"type": of_type}) as response:
            path = re.findall(r'href="(/messages/[^"?]+)"', await response.text())[0]
        async with http.get(base + path) as response:
            return await response.text()


async def test_only_its_own_user_can_have_its_handlers_run(
    start_program: Callable[..., Program], own_server: Callable[..., Server]
) -> None:
    # The terminal of a developer who works with production.
    production, port = own_server(), free_port()
    dev = start_program("dev", env={"PORT": str(port), "REDIS_URL": production.url})
    dev.wait_for("Ctrl-C ends everything")
    assert '"set_by":"REDIS_URL"' in dev.log
    assert "hookmill dev --on-redis-url" in dev.log

    folder = dev.log_path.parent / ".hookmill"
    made = dict(line.split("=", 1) for line in (folder / "dev.env").read_text().splitlines())
    assert (folder / "dev.env").stat().st_mode & 0o777 == 0o600
    secrets = [value for name, value in made.items() if not name.endswith("_URL")]
    assert len(secrets) == 5
    assert not [secret for secret in secrets if secret in dev.log]
    assert made["REDIS_URL"].startswith("unix://")
    shown = _command_lines(dev.pid)
    assert len(shown) == 6
    assert not [secret for secret in secrets if secret in str(shown)]

    dev.wait_for("log in once")
    (link,) = re.findall(r'"url":"(http://127.0.0.1:[0-9]+/login[^"]*)"', dev.log)
    console = next(pid for pid in _children_of(dev.pid) if "--link" in _command_line(pid))
    assert made["MARBLE_WEBHOOK_SECRET"] not in _environment(console)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as http:
        base, _, once = link.partition("/login?once=")
        for status in (200, 403):
            async with http.post(f"{base}/login", data={"token": once}) as response:
                assert response.status == status
        async with http.get(f"{base}/") as response:
            assert "operator" in await response.text()

    url = f"http://127.0.0.1:{port}/marble"
    own = start_program("send", "--source", "marble", "--url", url, env={})
    assert (own.wait(), own.log.strip()) == (0, "200")
    forged = await deliver(
        "marble", marble_scheme([DEVELOPMENT_SECRET]), url, b"{}", message_id="forged"
    )
    assert forged.status == 401
    keys = f"{made['QSTASH_URL']}/v2/keys?qstash_token="
    async with aiohttp.ClientSession() as http:
        for token, status in ((DEVELOPMENT_TOKEN, 401), (made["QSTASH_TOKEN"], 200)):
            async with http.get(keys + token) as response:
                assert response.status == status

    assert dev.stop() == 0
    assert not (folder / "dev.env").exists()
    with redis.Redis.from_url(production.url) as client:
        assert list(client.scan_iter()) == []


def test_on_the_redis_that_is_set_it_has_a_prefix_of_its_own(
    start_program: Callable[..., Program], own_server: Callable[..., Server]
) -> None:
    server = own_server()
    env = {"PORT": str(free_port()), "REDIS_URL": server.url, "HOOKMILL_PREFIX": "production"}
    dev = start_program("dev", "--on-redis-url", env={**env, "USER": "ada"})
    dev.wait_for("Ctrl-C ends everything")
    assert dev.log.index("QStash emulator is running") < dev.log.index("Ctrl-C ends everything")
    kept = (dev.log_path.parent / ".hookmill" / "dev.env").read_text()
    assert "HOOKMILL_PREFIX=dev-ada\n" in kept
    dev.signal(signal.SIGHUP)  # its terminal was closed
    assert dev.wait() == 0
    with redis.Redis.from_url(server.url) as client:
        keys = [key.decode() for key in client.scan_iter()]
    assert keys
    assert [key for key in keys if not key.startswith("dev-ada:")] == []
    assert server.url not in dev.log


def test_a_program_that_fails_ends_all_and_the_exit_status_says_so(
    start_program: Callable[..., Program],
) -> None:
    dev = start_program(
        "dev", "no_such_module:handlers", env={"PORT": str(free_port()), "HOOKMILL_GROUP": "mine"}
    )
    assert dev.wait(60) == 1
    assert "hookmill: a program ended by itself: see its lines above\n" in dev.log
    assert "there is no group" not in dev.log  # it adds the group of the settings


def _children_of(pid: int) -> list[str]:
    tasks = Path(f"/proc/{pid}/task")
    return [pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def _command_lines(pid: int) -> list[str]:
    """Return those of the process' children, which every user of the machine can see."""
    return [_command_line(child) for child in _children_of(pid)]


def _environment(pid: str) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


def _command_line(pid: str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
