"""Consumer groups as data: listed with their work, and added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import redis

from hookmill.admin import groups
from hookmill.config.settings import Settings
from hookmill.errors import GroupRefusedError, SettingsError
from hookmill.stream.groups import KnownGroup
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.admin.facts import BEATING, SEEN, WORKED
from tests.stream.toolkit import OpenGroup, settle_all
from tests.support import message

MakeSettings = Callable[..., Settings]


async def listed(settings: Settings) -> dict[str, dict[str, Any]]:
    overview, found = await groups.list_all(settings)
    return {group.known.name: groups.describe(overview, group, 60.0) for group in found}


async def test_groups_are_listed_with_how_they_were_made_and_their_work(
    settings: MakeSettings, stream: Producer, open_group: OpenGroup
) -> None:
    await open_group(name="main")
    await stream.append([message(), message()])
    await groups.add(settings(), "search", "now")

    seen = await listed(settings())
    assert list(seen) == ["main", "search"]
    main, search = seen.values()
    assert (main["state"], main["from"], search["from"]) == ("made", "first", "now")
    assert search["since"].endswith("+00:00")
    assert (main["backlog"], search["backlog"]) == (2, 0)
    assert (main["pins"], search["pins"]) == (True, False)
    assert main["oldest_age"] >= 0


async def test_the_unfinished_bytes_of_each_group_are_those_that_were_measured(
    settings: MakeSettings, stream: Producer, open_group: OpenGroup
) -> None:
    main = await open_group(name="main")
    await groups.add(settings(), "search", "beginning")
    await stream.append([message(b"x" * 1000), message(b"x" * 1000)])
    assert (await listed(settings()))["main"]["backlog_bytes"] is None
    await settle_all(main, *(await main.take(1)).entries)
    await Upkeep(stream.client, "main").measure_backlog()

    seen = await listed(settings())
    assert 1000 < seen["main"]["backlog_bytes"] < 1500
    assert 2000 < seen["search"]["backlog_bytes"] < 3000
    await settle_all(main, *(await main.take(1)).entries)


async def test_a_group_that_redis_lost_is_listed_without_its_work(
    settings: MakeSettings, stream: Producer, redis_client: redis.Redis
) -> None:
    await groups.add(settings(), "search", "beginning")
    redis_client.xgroup_destroy(stream.partitions[0].stream, "search")
    (search,) = (await listed(settings())).values()
    assert (search["state"], search["backlog"], search["pins"]) == ("made", None, None)


async def test_a_group_is_added_only_in_the_right_number_of_partitions(
    settings: MakeSettings, stream: Producer
) -> None:
    await groups.add(settings(partitions=2), "search", "now")
    with pytest.raises(SettingsError, match="HOOKMILL_PARTITIONS is 1"):
        await groups.add(settings(), "other", "now")
    with pytest.raises(GroupRefusedError, match="already"):
        await groups.add(settings(partitions=2), "search", "now")


async def test_a_group_is_added_where_it_is_unknown_and_left_alone_elsewhere(
    settings: MakeSettings, stream: Producer
) -> None:
    await groups.add(settings(), "search", "now")
    for name in "search", "other":
        await groups.add_if_unknown(settings(), name)
    seen = await listed(settings())
    assert {name: one["from"] for name, one in seen.items()} == {
        "other": "beginning",
        "search": "now",
    }


def test_a_group_with_work_pins_the_stream_unless_a_worker_of_it_runs() -> None:
    idle = msgspec.structs.replace(WORKED, consumers=())
    busy = msgspec.structs.replace(idle, delayed=1)
    alive = msgspec.structs.replace(busy, heartbeats=(BEATING,))
    assert [group.pins(60.0) for group in (idle, busy, alive)] == [False, True, False]


def test_the_backlog_is_everything_that_is_unfinished_and_unknown_where_redis_cannot_say() -> None:
    main, search = SEEN.groups
    assert (main.backlog, search.backlog) == (1200 + 30 + 4 + 5, None)
    row = groups.describe(SEEN, groups.ListedGroup(KnownGroup("main"), main), 60.0)
    assert (row["from"], row["since"], row["backlog"]) == (None, None, 1239)
