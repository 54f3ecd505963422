"""Levels of the log that are set for a while end by Redis' clock, and leave nothing behind."""

from __future__ import annotations

import pytest
import redis

from hookmill.stream.log_levels import EVERY_PROGRAM, LogLevels, SetLevel
from hookmill.stream.producer import Producer
from tests.support import eventually


async def test_a_level_counts_for_its_time_and_can_be_taken_back(
    stream: Producer, redis_client: redis.Redis
) -> None:
    levels = LogLevels(stream.client)
    assert await levels.read() == ()
    await levels.set(EVERY_PROGRAM, "debug", 60)
    await levels.set("api-1", "error", 0.05)
    key = stream.partitions[0].log_levels
    assert 0 < redis_client.pttl(key) <= 60_000

    async def only_one() -> bool:
        return len(await levels.read()) == 1

    await eventually(only_one)
    (left,) = await levels.read()
    assert (left.program, left.level) == (EVERY_PROGRAM, "debug")
    assert 0 < left.seconds <= 60
    await levels.take_back(EVERY_PROGRAM)
    assert await levels.read() == ()
    assert not redis_client.exists(key)  # with it, what was over has gone


@pytest.mark.one_server
async def test_a_name_of_any_kind_is_kept_as_it_is(stream: Producer) -> None:
    levels = LogLevels(stream.client)
    await levels.set("a b\n\u202e", "info", 60)
    ((name, level, _),) = await levels.read()
    assert (name, level) == ("a b\n\u202e", "info")
    await levels.take_back(name)
    assert SetLevel("*", "info", 1.0) not in await levels.read()
