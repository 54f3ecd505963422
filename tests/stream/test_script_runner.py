"""Scripts are loaded where they are missing, and run while Redis is full."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.stream import script_runner
from hookmill.stream.client import Client
from hookmill.stream.entries import Settlement
from hookmill.stream.script_runner import Call, ScriptRunner
from hookmill.stream.upkeep import Upkeep
from tests.stream.toolkit import (
    OwnServer,
    again,
    dead,
    ids,
    opened,
    release,
    settle_all,
    written,
)
from tests.support import (
    Server,
    eventually,
    message,
    server_binaries,
)


@pytest.mark.parametrize("has_flags", [True, False], ids=["script flags", "as before 7.0"])
@pytest.mark.parametrize("binary", list(server_binaries()))
async def test_a_full_redis_refuses_appends_and_can_still_be_drained(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch, binary: str, has_flags: bool
) -> None:
    if not has_flags:  # what a server says that does not know them
        monkeypatch.setattr(script_runner, "_ALLOW_OOM", "#!lua flags=none-that-is-known\n")
    server = own_server(binary=binary)
    async with opened(server) as (stream, group):
        with redis.Redis.from_url(server.url) as client:
            await group.open()
            await stream.append([message(id=name) for name in ("again", "dead", "late", "new")])
            retried, dead_one, late = (await group.take(3)).entries
            used: Any = client.info("memory")
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", used["used_memory"] // 2)

            for ask in (lambda: stream.append([message()]), stream.probe):
                with pytest.raises(StreamUnavailableError, match="maxmemory"):
                    await ask()
            assert client.xlen(stream.partitions[0].stream) == 4
            # A worker that starts now can open the group as well.
            stream.client._is_agreed = False
            assert await group.open() == 0
            await group.settle(
                [
                    Settlement(retried.ref, (again(retried),)),
                    Settlement(dead_one.ref, (dead(dead_one),)),
                    Settlement(late.ref, (again(late, delay_ms=1),)),
                ]
            )
            await eventually(lambda: release(group))
            taken = await group.take(5)
            assert ids(taken.entries) == ["again", "late", "new"]
            await settle_all(group, *taken.entries)
            assert await group.open() == 0
            assert await Upkeep(stream.client, "main").trim(0) == 4
            assert written(client, group) == (0, 0, 0, 1)


def run_alone(prefix: str, number: int, token: str) -> Call:
    """Count a run in a partition. Another token is another run."""
    keys = [f"{prefix}:{{{number}}}:{name}" for name in ("suspects", "deliveries")]
    return Call(number, keys, [1, "1-1", token])


async def test_a_script_that_the_server_does_not_know_is_loaded_and_its_calls_run_once(
    server: Server, redis_client: redis.Redis, prefix: str
) -> None:
    redis_client.script_flush()
    async with Client(server.url, prefix) as client:
        runner = ScriptRunner(client, drains=False)
        first, second, third = ([run_alone(prefix, n, token) for n in range(2)] for token in "abc")
        assert await runner.try_each("alone", first, ("ECHO", "behind")) == [1, 1, b"behind"]
        redis_client.script_flush()  # as a server that was started again
        assert await runner.run_each("alone", second) == [2, 2]
        assert await runner.run("alone", third[0]) == 3
    redis_client.delete(*(key for call in first for key in call.keys))


async def test_each_call_succeeds_or_fails_for_itself(
    server: Server, redis_client: redis.Redis, prefix: str
) -> None:
    first, second, third = ([run_alone(prefix, n, token) for n in (1, 0)] for token in "abc")
    redis_client.set(first[0].keys[0], "no hash")
    async with Client(server.url, prefix) as client:
        runner = ScriptRunner(client, drains=False)
        refused, times = await runner.try_each("alone", first)
        assert isinstance(refused, StreamUnavailableError)
        assert times == 1
        with pytest.raises(StreamUnavailableError, match="WRONGTYPE"):
            await runner.run_each("alone", second)
        assert await runner.run("alone", third[1]) == 3
    redis_client.delete(*(key for call in first for key in call.keys))


async def test_no_call_asks_nothing() -> None:
    async with Client("redis://127.0.0.1:1", "t") as client:
        assert await ScriptRunner(client, drains=True).run_each("alone", []) == []


def test_a_scripts_parts_are_put_in_their_place() -> None:
    text = script_runner.script_text("take")
    assert "--#include" not in text
    for part in ("local function decide(", "local function own(", "local function may_run("):
        assert text.count(part) == 1
