"""`hookmill message` prints a message's story for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from hookmill.stream.consumer import Consumer
from hookmill.stream.producer import Producer
from tests.cli.running import hookmill
from tests.histories import BOUNDS, retry, settlement
from tests.support import Server, message
from worker.outcome import Done

pytestmark = pytest.mark.one_server


@pytest.fixture
async def group(open_group: Callable[..., Any]) -> Consumer:
    opened: Consumer = await open_group(history=BOUNDS)
    return opened


async def test_the_story_is_printed_and_steers_no_terminal(
    stream: Producer, group: Consumer, server: Server, prefix: str, redis_client: redis.Redis
) -> None:
    env = {"REDIS_URL": server.url, "HOOKMILL_PREFIX": prefix}
    hostile = message(id="m\x1b[2J", type="x  y\u202e", header_block=b"X-A: \x1b]0;t\x07")
    await stream.append([hostile])
    (entry,) = (await group.take(1)).entries
    await group.settle([retry(entry, "Traceback\n\x1b[31mValueError: no", after=600)])

    shown = hookmill("message", "m\x1b[2J", env=env)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\x1b" not in shown.stdout
    assert "\u202e" not in shown.stdout
    assert "message: m\\x1b[2J\n" in shown.stdout
    assert "delayed for book until " in shown.stdout
    assert "next attempt " in shown.stdout
    assert "\\x1b[31mValueError: no\n" in shown.stdout

    as_json = json.loads(hookmill("message", entry.ref.id, "--json", env=env).stdout)
    (of_main,) = as_json["groups"]
    assert (as_json["message_id"], of_main["places"][0]["state"]) == ("m\x1b[2J", "delayed")
    assert of_main["attempts"][0]["error"] == "Traceback\n\x1b[31mValueError: no"
    redis_client.delete(group.partitions[0].delayed, group.partitions[0].delayed_entries)


async def test_several_matches_are_listed_and_none_ends_with_1(
    stream: Producer, group: Consumer, server: Server, prefix: str
) -> None:
    env = {"REDIS_URL": server.url, "HOOKMILL_PREFIX": prefix}
    await stream.append([message(id="m", source=source) for source in ("shop", "bank")])
    entries = (await group.take(2)).entries
    await group.settle([settlement(entry, Done("book")) for entry in entries])
    listed = hookmill("message", "m", env=env).stdout.splitlines()
    assert listed[0] == "2 messages have this ID; give the first word of a line:"
    assert [line.split("  ")[0] for line in listed[1:]] == [entry.ref.id for entry in entries]
    nobody = hookmill("message", "nobody", env=env)
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert nobody.stderr.startswith("hookmill: no message nobody was found, of these sources: ")
