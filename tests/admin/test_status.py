"""The status of stream and groups as data."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

import msgspec
import pytest

from hookmill.admin import status
from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.stream.facts import Overview
from tests.admin.facts import SEEN
from tests.support import Server


def test_the_status_for_programs_gives_ages_instead_of_times() -> None:
    seen = status.describe(SEEN, 60.0)

    assert seen["stream"] == {"partitions": 1, "length": 1234, "bytes": 567_000}
    assert (seen["used_memory"], seen["maxmemory"]) == (20_000_000, 100_000_000)
    main, search = seen["groups"]
    assert main == {
        "name": "main",
        "waiting": 1200,
        "held": 30,
        "delayed": 4,
        "again": 0,
        "parked": 5,
        "dead": 2,
        "oldest_age": 200.0,
        "remembered": 50_000,
        "duplicates": 77,
        "late": 1,
        "workers": 1,
        "consumers": [
            {"name": "host-1", "pending": 30, "idle_ms": 400},
            {"name": "host-2", "pending": 0, "idle_ms": 90_000},
        ],
    }
    assert (search["waiting"], search["oldest_age"], search["workers"]) == (None, None, 0)


def test_a_bound_that_is_not_set_is_none() -> None:
    bare = msgspec.structs.replace(SEEN, maxmemory=0)

    assert status.describe(bare, 60.0)["maxmemory"] is None


async def test_watching_yields_the_error_while_redis_is_away(
    own_server: Callable[..., Server],
) -> None:
    server = own_server()
    async with aclosing(status.watch(Settings(redis_url=server.url), 0.01)) as looks:
        assert isinstance(await anext(looks), Overview)
        server.kill()
        assert isinstance(await anext(looks), StreamUnavailableError)
        server.start()
        while not isinstance(await anext(looks), Overview):
            pass


async def test_without_watching_a_redis_that_is_away_is_an_error_of_ours() -> None:
    with pytest.raises(StreamUnavailableError):
        await status.look(Settings(redis_url="redis://127.0.0.1:1"))
