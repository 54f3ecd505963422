"""The status of stream and groups as data."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import aclosing

import msgspec
import pytest

from hookmill.admin import status
from hookmill.config.settings import Settings
from hookmill.errors import GroupRefusedError, StreamUnavailableError
from hookmill.stream.facts import Overview
from tests.admin.facts import BEATING, SEEN, WORKED, with_groups
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
        "paused": 0,
        "pauses": [],
        "dead": 2,
        "dead_bytes": None,
        "dead_reasons": {},
        "backlog_bytes": None,
        "oldest_dead_age": None,
        "oldest_age": 200.0,
        "remembered": 50_000,
        "duplicates": 77,
        "late": 1,
        "workers": 1,
        "consumers": [
            {"name": "host-1", "pending": 30, "idle_ms": 400, "lease_number": None},
            {"name": "host-2", "pending": 0, "idle_ms": 90_000, "lease_number": None},
        ],
        "heartbeats": [],
        "sick_workers": [],
        "heedless_workers": [],
        "due": 0,
        "runnable": 1230,
        "could_run_age": None,
    }
    assert (search["waiting"], search["oldest_age"], search["workers"]) == (None, None, 0)


def test_the_status_of_one_group_leaves_the_others_out_and_of_none_names_them() -> None:
    (seen,) = status.only(SEEN, "search").groups
    assert seen.name == "search"
    with pytest.raises(GroupRefusedError, match="there is no group typo; there are: main, search"):
        status.only(SEEN, "typo")


def test_the_status_for_programs_lists_each_heartbeat() -> None:
    group = msgspec.structs.replace(WORKED, heartbeats=(BEATING,))

    (row,) = status.describe(with_groups(group), 60.0)["groups"]

    assert row["heartbeats"] == [
        {
            "name": "c1",
            "host": "web-1",
            "pid": 7,
            "version": "0.2.0",
            "group": "main",
            "wire_versions": (1, 2, 3),
            "handlers": {"work": ("order.paid",)},
            "aliases": {},
            "ignored": (),
            "can": (),
            "concurrency": 100,
            "threads": 16,
            "lease": 60.0,
            "uptime": 7200.0,
            "held": 3,
            "oldest_held": 12.0,
            "free_slots": 97,
            "free_threads": 16,
            "program": "",
            "stuck_threads": 0,
            "sick": "",
            "sick_why": "",
            "troubles": {},
            "age_ms": 4000,
        }
    ]
    json.dumps(row)  # all of it can be written


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
