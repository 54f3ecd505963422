"""The check-up as data: what is gathered, judged and sorted, on real servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import redis
from pydantic import SecretStr

from hookmill.admin import checkup
from hookmill.admin.findings import Finding, Level, exit_status, worst_first
from hookmill.admin.group_checks import judge_groups
from hookmill.admin.id_rates import GivenRates
from hookmill.admin.memory_checks import judge_bound, judge_needs
from hookmill.admin.server_checks import judge_server
from hookmill.admin.settings_checks import judge_settings
from hookmill.config.settings import Settings
from hookmill.config.source_options import SourceOptions
from hookmill.errors import SettingsError
from hookmill.instrumentation.rates import Field, written
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Settlement
from hookmill.stream.producer import Producer
from hookmill.stream.rates import RateHistory
from tests.admin.facts import SET, SOUND, WORKED, levels, with_groups
from tests.support import CURRENT_KEY, Server, message

OpenGroup = Callable[..., Awaitable[Consumer]]


def test_where_all_is_well_nothing_is_found_but_what_the_window_costs() -> None:
    overview = with_groups(WORKED)

    found = [
        *judge_settings(SET),
        *judge_server(SOUND, SET),
        *judge_bound(SOUND, overview, SET),
        *judge_needs(overview, SET, None),
        *judge_groups(overview, SET),
    ]

    assert levels(*found) == [("note", "0 message IDs are remembered: about 0 B")]
    assert exit_status(found) == 0


def test_the_worst_findings_come_first_and_those_of_one_level_keep_their_order() -> None:
    levels_given: list[tuple[Level, str]] = [
        ("note", "a"), ("warning", "b"), ("error", "c"), ("warning", "d")
    ]  # fmt: skip
    given = [Finding(level=level, what=what, why="", do="") for level, what in levels_given]
    assert [one.what for one in worst_first(given)] == ["c", "b", "d", "a"]


def test_each_fault_of_the_settings_is_an_error() -> None:
    found = checkup.findings_of(SettingsError(["PORT: too high", "HOOKMILL_LEASE: too short"]))

    assert levels(*found) == [("error", "PORT: too high"), ("error", "HOOKMILL_LEASE: too short")]


@pytest.mark.parametrize(
    ("options", "status", "worst"),
    [
        (("--appendonly", "no"), 2, ("error", "appendonly is off")),
        (("--appendonly", "yes"), 1, ("warning", "appendfsync is everysec")),
        (("--appendonly", "yes", "--appendfsync", "always"), 0, ("note", "maxmemory is not set")),
    ],
)
async def test_the_exit_status_follows_the_worst_finding_which_comes_first(
    own_server: Callable[..., Server],
    options: tuple[str, ...],
    status: int,
    worst: tuple[str, str],
) -> None:
    settings = Settings(
        redis_url=own_server("--save", "", *options).url,
        qstash_current_signing_key=SecretStr(CURRENT_KEY),
        public_url="https://app.example",
    )

    found = await checkup.check(settings, GivenRates(10))

    assert exit_status(found) == status
    assert found[0].level == worst[0]
    assert worst in levels(*found)
    assert any("2,592,000 to 5,184,000 message IDs are remembered" in one.what for one in found)


async def test_the_server_of_the_tests_has_one_error(
    settings: Callable[..., Settings], redis_client: redis.Redis
) -> None:
    found = await checkup.check(settings())

    assert [one.what for one in found if one.level == "error"] == ["appendonly is off"]


async def test_a_redis_that_is_away_is_a_finding_and_the_settings_are_judged_all_the_same() -> None:
    found = await checkup.check(Settings(redis_url="redis://:hunter2@127.0.0.1:1"))

    assert exit_status(found) == 2
    assert found[0].what.startswith("Redis cannot be used: Error ")
    assert ("note", "no source is configured") in levels(*found)
    assert "hunter2" not in repr(found)


async def test_a_group_without_workers_is_found_as_long_as_messages_wait_for_it(
    settings: Callable[..., Settings], stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await stream.append([message()])
    alarm = "no worker of group main runs, and messages wait for it"

    assert alarm in [finding.what for finding in await checkup.check(settings())]

    (entry,) = (await group.take(1)).entries
    assert alarm not in [finding.what for finding in await checkup.check(settings())]
    await group.settle([Settlement(entry.ref)])


async def test_a_wrong_number_of_partitions_is_found(
    stream: Producer, settings: Callable[..., Settings], redis_client: redis.Redis, prefix: str
) -> None:
    what = "HOOKMILL_PARTITIONS is 2, but this stream was made with 3"
    redis_client.set(f"{prefix}:partitions", 3)
    found = await checkup.check(settings(partitions=2))
    assert ("error", what) in levels(*found)
    found = await checkup.check(settings(partitions=3))
    assert not [one for one in found if "HOOKMILL_PARTITIONS" in one.what]


async def test_a_rate_is_divided_among_the_sources_by_what_came_in_a_day(
    settings: Callable[..., Settings], stream: Producer
) -> None:
    came: dict[Field, int] = {("in", "shop", "accepted"): 30, ("in", "hub", "accepted"): 10}
    await RateHistory(stream.client).add(written(came))
    tables = {
        "shop": SourceOptions(preset="github", dedup_window=3600),
        "hub": SourceOptions(preset="github"),
    }
    found = await checkup.check(settings(sources=tables, dedup_window=7200), GivenRates(40))
    said = [one.what for one in found if one.what.startswith("of these")]
    assert said == [
        "of these, source shop has 108,000 to 216,000: 4 MB to 8 MB",
        "of these, source hub has 72,000 to 144,000: 2.7 MB to 5.3 MB",
    ]
