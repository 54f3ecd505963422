"""`hookmill group drop`: what it says before, who keeps it from it, and what a kill leaves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from hookmill.errors import GroupRefusedError
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.groups import Groups
from tests.cli.running import at_a_terminal, faults, hookmill
from tests.stream.full_group import fill
from tests.support import Program, Server, Stream, eventually, message, wait_until

KILLED = """
import os, signal, sys
from hookmill.cli.main import main
from hookmill.stream.connections import Connections

left, ask = int(sys.argv.pop(1)), Connections.ask

async def ask_or_die(self, commands, *rest):
    global left
    commands = list(commands)
    steps = ("UNLINK", "SCAN", "HSET")
    if commands[0][0] in steps or (commands[0][0] == "EVALSHA" and commands[0][2] == 5):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return await ask(self, commands, *rest)

Connections.ask = ask_or_die
main()
"""
"""`hookmill`, which kills itself before one of the steps that change something or lead to it."""


def own_keys(client: redis.Redis, name: str) -> list[bytes]:
    return [key for key in client.scan_iter(count=1000) if b"}:%s:" % name.encode() in key]


def is_silent(client: redis.Redis) -> bool:
    """Return whether the killed worker was silent for so long that its leases count as ended."""
    rows: Any = client.xinfo_consumers("hookmill:{0}:stream", "search")
    return all(row["idle"] >= 600 for row in rows)


def killed_after(steps: int, url: str) -> int:
    """Drop the group `search` with a process that is killed after so many steps; return its exit
    status.
    """
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(steps), "group", "drop", "search", "--yes"],
        env={"PATH": os.environ["PATH"], "REDIS_URL": url, "HOOKMILL_LEASE": "1"},
        stdout=subprocess.DEVNULL,
        check=False,
    ).returncode


async def work_begins(client: Client) -> bool:
    """Return whether a worker that starts now can work in the group `search`, and whether one that
    has worked before would make it again.
    """
    begun = []
    for makes_group in (False, True):
        late = Consumer(client, "search", "late", dedup_window=60, makes_group=makes_group)
        try:
            await late.open()
            begun.append(makes_group)
        except GroupRefusedError:
            pass
        finally:
            await late.close()
    assert begun in ([], [False, True])
    return bool(begun)


STEPS = 9
"""In two partitions: drop, keys, the search for more keys and their end, the last note."""


@pytest.mark.parametrize(
    ("binary", "steps"),
    [*(("valkey", steps) for steps in range(STEPS)), ("redis", 1), ("redis", 4)],
)
async def test_a_drop_that_was_killed_at_any_step_is_finished_by_the_next_one(
    own_server: Callable[..., Server], binary: str, steps: int
) -> None:
    server = own_server(binary=binary)
    with redis.Redis.from_url(server.url) as plain:
        async with Client(server.url, "hookmill", partitions=2) as client:
            groups = Groups(client)
            await fill(client, "search")
            await eventually(lambda: is_silent(plain))
            killed = await asyncio.to_thread(killed_after, steps, server.url)
            assert killed == -signal.SIGKILL
            # Before its first step the drop has changed nothing. After it nobody works there.
            assert await work_begins(client) == (steps == 0)
            state = (await groups.known())["search"].state
            assert state == ("dropping" if steps else "made")
            await groups.drop("search")
            assert own_keys(plain, "search") == []
            assert not await work_begins(client)
            await groups.add("search", "beginning")


def group(url: str, *command: str, status: int = 0) -> str:
    done = hookmill("group", *command, env={"REDIS_URL": url, "HOOKMILL_LEASE": "1"})
    assert done.returncode == status, done
    return done.stdout or done.stderr


async def test_it_says_what_goes_and_wants_a_yes(own_server: Callable[..., Server]) -> None:
    server = own_server()
    async with Client(server.url, "hookmill") as client:
        await fill(client, "search")
    with redis.Redis.from_url(server.url) as plain:
        await eventually(lambda: is_silent(plain))
    what = (
        "drop group search for good, with its messages: 0 waiting, 44 held, 1 delayed, 1 again, "
        "16 parked, 1 dead"
    )

    def drop(*options: str, status: int = 0) -> str:
        return group(server.url, "drop", "search", *options, status=status)

    assert drop(status=1) == faults(f"{what}? There is nobody to ask: give --yes")
    command, env = ["group", "drop", "search"], {"REDIS_URL": server.url, "HOOKMILL_LEASE": "1"}
    shown = await asyncio.to_thread(at_a_terminal, command, env, "n\n")
    assert f"{what}? [y/N]" in shown
    assert "the group was not dropped" in shown
    with redis.Redis.from_url(server.url) as plain:
        assert own_keys(plain, "search")
        shown = await asyncio.to_thread(at_a_terminal, command, env, "y\n")
        assert "dropped group search" in shown
        assert own_keys(plain, "search") == []
    assert group(server.url, "list") == "there is no group\n"
    again = drop("--yes")  # it was dropped: what late workers may have left goes, too
    assert again.endswith("0 waiting\ndropped group search\n")


def test_a_group_that_there_is_not_is_not_dropped(own_server: Callable[..., Server]) -> None:
    server = own_server()
    group(server.url, "add", "search", "--from", "now")
    said = group(server.url, "drop", "typo\x1b", "--yes", status=1)
    assert said == "hookmill: there is no group typo\\x1b; there are: search\n"


WORKER = """
import asyncio
from hookmill import Delivery, Handlers, Message

handlers = Handlers()

@handlers.on("*")
async def work(delivery: Delivery[Message]) -> None:
    print("works", flush=True)
    await asyncio.sleep(1)
"""


@pytest.fixture
def start_worker(
    own_server: Callable[..., Server], start_program: Callable[..., Program], tmp_path: Path
) -> Callable[..., Program]:
    (tmp_path / "app.py").write_text(WORKER)

    def start(url: str, **env: str) -> Program:
        given = {"REDIS_URL": url, "HOOKMILL_GROUP": "search", "HOOKMILL_LEASE": "1", **env}
        return start_program("worker", "app:handlers", env=given)

    return start


def test_it_is_refused_while_a_worker_runs_and_a_worker_that_slept_through_it_ends(
    own_server: Callable[..., Server], start_worker: Callable[..., Program]
) -> None:
    server = own_server()
    group(server.url, "add", "search", "--from", "now")
    worker = start_worker(server.url)
    worker.wait_for('"working"')
    with redis.Redis.from_url(server.url) as plain:
        wait_until(lambda: plain.hlen("hookmill:{0}:search:heartbeats"), what="a heartbeat")
        (name,) = plain.hkeys("hookmill:{0}:search:heartbeats")
        said = group(server.url, "drop", "search", "--yes", status=1)
        assert said == faults(
            f"workers of group search run: {name.decode()}. Stop them first; a worker that was "
            "killed counts as running for one lease"
        )
        asyncio.run(send(server.url))
        worker.wait_for("works")
        worker.signal(signal.SIGSTOP)
        wait_until(lambda: not alive(server.url), what="the end of the heartbeat")
        group(server.url, "drop", "search", "--yes")
        worker.signal(signal.SIGCONT)
        assert worker.wait(60) == 2
        assert worker.log.endswith(
            "hookmill: group search was dropped. `hookmill group add search --from beginning` (or "
            "`--from now`) makes it again\n"
        )
        assert [key for key in own_keys(plain, "search") if plain.ttl(key) == -1] == []
    late = start_worker(server.url)
    assert late.wait() == 2
    assert "group search was dropped" in late.log
    assert group(server.url, "list") == "there is no group\n"


async def send(url: str) -> None:
    stream = Stream(url, "hookmill")
    await stream.append([message()])
    await stream.close()


def alive(url: str) -> int:
    (row,) = [json.loads(line) for line in group(url, "list", "--json").splitlines()]
    return int(row["workers"])


def test_the_default_group_can_be_dropped_and_its_next_worker_does_not_make_it(
    own_server: Callable[..., Server], start_worker: Callable[..., Program]
) -> None:
    server = own_server()
    first = start_worker(server.url, HOOKMILL_GROUP="main")
    first.wait_for('"working"')
    assert first.stop() == 0
    group(server.url, "drop", "main", "--yes")
    second = start_worker(server.url, HOOKMILL_GROUP="main")
    assert second.wait() == 2
    assert "`hookmill group add main --from beginning`" in second.log
    group(server.url, "add", "main", "--from", "now")
    third = start_worker(server.url, HOOKMILL_GROUP="main")
    third.wait_for('"working"')
    assert third.stop() == 0
