"""The whole line under users that have the rights of their role and no other.

What a server refuses to one of them is in its ACL log. HOOKMILL_TEST_RIGHTS=1 does the same with
all other tests that start programs.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from hookmill.stream.keys import Keys
from tests import limited
from tests.e2e.line import Line, Post, unfinished
from tests.support import Program, Server, server_binaries, wait_until

OwnServer = Callable[..., Server]
StartProgram = Callable[..., Program]

PREFIX = "hookmill"
PARTITIONS = 2

HANDLERS = """
import asyncio, os
from hookmill import Dead, Delivery, Handlers, Message
from hookmill.handlers import Backoff

handlers = Handlers()

@handlers.on("post.*")
async def in_order(delivery: Delivery[Message]) -> None:
    await asyncio.sleep(float(os.environ.get("PAUSE", "0")))

@handlers.on("order.twice", backoff=Backoff(first=0.2))
async def first(delivery: Delivery[Message]) -> None:
    assert delivery.attempt > 1

@handlers.on("order.twice")
async def second(delivery: Delivery[Message]) -> None:
    pass

@handlers.on("order.bad")
async def never(delivery: Delivery[Message]) -> None:
    raise Dead("no good")
"""


class LimitedLine(Line):
    """A line whose programs log in as the user of their role."""

    def __init__(self, start: StartProgram, folder: Path, server: Server, **env: str) -> None:
        super().__init__(start, folder, server.url, PREFIX)
        (folder / "doing.py").write_text(HANDLERS)
        self.server = server
        self.env |= {
            "HOOKMILL_PARTITIONS": str(PARTITIONS),
            "HOOKMILL_LEASE": "2",
            "HOOKMILL_GRACE": "1",
            "HOOKMILL_SOURCES__MARBLE__ORDERED_BY": "data.id",
            **env,
        }
        self._folder = folder
        self._start_limited = start

    def program(self, *command: str, **env: str) -> Program:
        """Start a program as its user, and wait until it works."""
        env = limited.limited_env(command, self.env | env)
        program = self._start_limited(*command, env=env)
        program.wait_for('"working"' if command[0] == "worker" else '"receiving"')
        return program

    def worker(self, **env: str) -> Program:
        return self.program("worker", "doing:handlers", **env)

    def receiver(self, **env: str) -> Program:
        return self.program("receiver", **env)

    def run(self, *command: str, status: int = 0) -> str:
        """Run a command as its user, and return what it writes."""
        env = limited.limited_env(command, self.env)
        done = subprocess.run(
            [sys.executable, "-m", "hookmill", *command],
            env={"PATH": "/usr/bin:/bin", **env},
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, (command, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def wait_for_group(self, client: redis.Redis, group: str) -> None:
        """Wait until a group has finished everything."""
        wait_until(
            lambda: not unfinished(client, PREFIX, PARTITIONS, group, trimmed=False),
            what=f"{group} to finish everything",
        )

    def posts(self, kind: str, count: int) -> list[Post]:
        """Return deliveries that are not ordered."""
        bodies = (b'{"type":"order.%s","n":%d}' % (kind.encode(), n) for n in range(count))
        return [self.order_of(f"{kind}-{n}", body) for n, body in enumerate(bodies)]


@pytest.fixture(params=server_binaries())
def server(request: pytest.FixtureRequest, own_server: OwnServer) -> Iterator[Server]:
    """A server with the users of all roles, which has refused nothing to them at the end."""
    options = ("--appendonly", "yes", "--appendfsync", "always")
    server = own_server(*options, binary=request.param)
    limited.make_users(server.url, PREFIX)
    yield server
    assert server.refused() == []


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """The test's own client, which may do everything."""
    with redis.Redis.from_url(server.url) as client:
        yield client


def dead_letters(client: redis.Redis) -> int:
    """Count them in Redis, because each look with the command starts a program."""
    keys = (Keys(PREFIX, number).of_group("main") for number in range(PARTITIONS))
    return sum(int(client.xlen(each.dead)) for each in keys)


def dead_ids(line: LimitedLine) -> list[str]:
    rows = line.run("dead", "list", "--json").splitlines()
    return [str(json.loads(row)["id"]) for row in rows]


async def test_the_whole_line_works_with_the_rights_of_each_role(
    start_program: StartProgram, tmp_path: Path, server: Server, client: redis.Redis
) -> None:
    line = LimitedLine(start_program, tmp_path, server, HOOKMILL_DURABILITY="aof")
    line.run("group", "add", "other", "--from", "beginning")
    receiver, victim = line.receiver(), line.worker(PAUSE="600")
    ordered = [line.post_published(number, f"post_{number % 3}") for number in range(12)]
    assert await line.send(ordered) == {200: 12}
    keys = [Keys(PREFIX, number).of_group("main") for number in range(PARTITIONS)]
    wait_until(lambda: sum(int(client.get(each.parked) or 0) for each in keys), what="parked ones")
    victim.kill()

    workers = [line.worker(HOOKMILL_DEAD_MESSAGES="3") for _ in range(2)]
    assert await line.send([*line.posts("twice", 6), *line.posts("bad", 6)]) == {200: 12}
    line.wait_for_group(client, "main")
    line.run("status")
    line.run("check", status=1)  # the group `other` has work and no worker
    line.run("group", "list", "--json")
    wait_until(lambda: dead_letters(client) == 3, what="the oldest dead letters to be dropped")
    first, second, third = dead_ids(line)
    line.run("dead", "show", first)
    line.run("dead", "replay", first, "--to", "in_order")
    wait_until(lambda: dead_letters(client) == 2, what="the replayed one to be handled")
    assert dead_ids(line) == [second, third]
    line.run("dead", "drop", second)

    for number in range(PARTITIONS):  # Redis has lost the group, and a worker makes it again
        client.xgroup_destroy(keys[number].stream, "main")
    assert await line.send(line.posts("again", 4)) == {200: 4}
    streams = [each.stream for each in keys]
    wait_until(
        lambda: all(
            b"main" in [group["name"] for group in client.xinfo_groups(one)] for one in streams
        ),
        what="the group to be made again",
    )
    line.wait_for_group(client, "main")
    for worker in workers:
        assert worker.stop() == 0
    line.run("group", "drop", "other", "--yes")
    line.run("dead", "drop", "--all", "--yes")
    assert receiver.stop() == 0


async def test_a_receiver_at_overload_and_without_redis_works_with_its_rights(
    start_program: StartProgram, tmp_path: Path, server: Server, client: redis.Redis
) -> None:
    limits = {"HOOKMILL_BACKLOG_MESSAGES": "20", "HOOKMILL_BACKLOG_BYTES": "1000000"}
    # It spools soon while Redis stands still.
    spool = {"HOOKMILL_SPOOL": str(tmp_path / "spool"), "HOOKMILL_APPEND_TIMEOUT": "3"}
    line = LimitedLine(start_program, tmp_path, server, **limits)
    made = line.worker()
    assert made.stop() == 0
    receiver = line.receiver(**spool)
    answers = await line.send(line.posts("twice", 60))
    assert answers[503] > 0
    receiver.wait_for("backlog full, deliveries get 503")  # from the watch of pinning groups

    worker = line.worker()
    line.wait_for_group(client, "main")
    server.signal(signal.SIGSTOP)
    assert await line.send(line.posts("late", 3)) == {200: 3}
    server.signal(signal.SIGCONT)
    marker = tmp_path / "spool.active"
    wait_until(lambda: not marker.exists(), what="the spool to be drained")
    line.wait_for_group(client, "main")
    assert receiver.stop() == 0
    assert worker.stop() == 0


async def test_a_receiver_waits_for_replicas_with_its_rights(
    start_program: StartProgram,
    tmp_path: Path,
    server: Server,
    own_server: OwnServer,
    client: redis.Redis,
) -> None:
    name = Path(server.binary).name.split("-")[0]
    replica = own_server("--replicaof", "127.0.0.1", str(server.port), binary=name)
    with redis.Redis.from_url(replica.url) as other:
        wait_until(lambda: other.info()["master_link_status"] == "up", what="the replica")
    line = LimitedLine(start_program, tmp_path, server, HOOKMILL_DURABILITY="replicas:1")
    receiver = line.receiver()
    assert await line.send(line.posts("twice", 3)) == {200: 3}
    assert receiver.stop() == 0


def test_a_receiver_whose_user_lacks_a_right_ends_and_names_it(
    start_program: StartProgram, tmp_path: Path, own_server: OwnServer
) -> None:
    """Only an overload needs this one."""
    ends_and_names(start_program, tmp_path, own_server(), "zcard", "receiver")


def test_a_worker_whose_user_lacks_a_right_ends_and_names_it(
    start_program: StartProgram, tmp_path: Path, own_server: OwnServer
) -> None:
    """Only a change of the duplicate window needs this one."""
    ends_and_names(start_program, tmp_path, own_server(), "copy", "worker", "doing:handlers")


def ends_and_names(
    start_program: StartProgram, tmp_path: Path, server: Server, right: str, *command: str
) -> None:
    limited.make_users(server.url, PREFIX)
    line = LimitedLine(start_program, tmp_path, server)
    with redis.Redis.from_url(server.url) as client:
        limited.ask(client, "ACL", "SETUSER", f"hookmill-{command[0]}", f"-{right}")
        program = start_program(*command, env=limited.limited_env(command, line.env))
        assert program.wait() == 2
        address = f"127.0.0.1:{server.port}"
        assert (
            f"REDIS_URL: {address} refuses this to the user hookmill-{command[0]}: "
            f"{right.upper()}; see https://"
        ) in program.log
        assert limited.PASSWORD not in program.log
        assert client.dbsize() == 0


def test_the_console_reads_everything_and_can_do_nothing(
    start_program: StartProgram, tmp_path: Path, server: Server, client: redis.Redis
) -> None:
    line = LimitedLine(start_program, tmp_path, server, HOOKMILL_PARTITIONS="1")
    assert line.worker(HOOKMILL_PARTITIONS="1").stop() == 0
    stream = Keys(PREFIX).stream
    console = limited.as_role("console", server.url)
    with redis.Redis.from_url(console) as looking:
        changing: list[tuple[Any, ...]] = [
            ("XADD", stream, "*", "a", "b"),
            ("EVAL", f"return redis.call('XADD', '{stream}', '*', 'a', 'b')", 0),
            ("DEL", stream),
            ("SET", f"{PREFIX}:partitions", "9"),
            ("FLUSHALL",),
            ("CONFIG", "SET", "save", ""),
            ("ACL", "WHOAMI"),
            ("KEYS", "*"),
        ]
        for command in changing:
            with pytest.raises(redis.exceptions.NoPermissionError):
                limited.ask(looking, *command)
        sha = looking.script_load(f"return redis.call('XADD', '{stream}', '*', 'a', 'b')")
        with pytest.raises(redis.exceptions.ResponseError):
            looking.evalsha(sha, 1, stream)
    assert client.xlen(stream) == 0
    refused = limited.refused_and_forgotten(client)
    assert len(refused) >= len(changing)

    line.env |= {"REDIS_URL": console}
    said = line.run("check", "--json", status=1)
    assert "could not be looked at: whether it takes writes" in said
    limited.refused_and_forgotten(client)
    for command in (("status", "--json"), ("dead", "list"), ("group", "list")):
        line.run(*command)
