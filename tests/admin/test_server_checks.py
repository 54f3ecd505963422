"""The judgement on servers and settings: a table of facts, and what is to be said of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pydantic import SecretStr

from hookmill.admin.findings import Finding, exit_status
from hookmill.admin.server_checks import (
    judge_groups,
    judge_memory,
    judge_server,
    judge_settings,
    readable_size,
)
from hookmill.config.settings import Settings
from hookmill.config.source_options import SourceOptions
from hookmill.stream.facts import ConsumerFacts, GroupFacts, Overview, ServerFacts
from tests.support import CURRENT_KEY

GB = 1_000_000_000

SOUND = ServerFacts(
    flavour="Redis",
    version="8.10.1",
    aof=True,
    aof_failed=False,
    snapshot_failed=False,
    appendfsync="always",
    policy="noeviction",
    is_replica=False,
    replicas=0,
    is_cluster=False,
    missing=(),
    has_waitaof=True,
    refusal="",
    clock_ahead=0.0,
    hidden=(),
)
EMPTY = Overview(
    now_ms=0, partitions=1, length=0, bytes=0, used_memory=GB, maxmemory=4 * GB, groups=()
)
WORKED = GroupFacts(
    name="main",
    waiting=0,
    held=0,
    delayed=0,
    again=0,
    parked=0,
    dead=0,
    oldest_ms=None,
    remembered=0,
    duplicates=0,
    late=0,
    consumers=(ConsumerFacts(name="c1", pending=0, idle_ms=1000),),
)
SET = Settings(
    qstash_current_signing_key=SecretStr(CURRENT_KEY),
    public_url="https://app.example",
    sources={"qstash": SourceOptions(id=("body",))},
)


def levels(*found: Finding) -> list[tuple[str, str]]:
    return [(one.level, one.what) for one in found]


def with_groups(*groups: GroupFacts, **fields: Any) -> Overview:
    return msgspec.structs.replace(EMPTY, groups=groups, **fields)


def test_where_all_is_well_nothing_is_found_but_what_the_window_costs() -> None:
    overview = with_groups(WORKED)

    found = [
        *judge_settings(SET),
        *judge_server(SOUND, SET),
        *judge_memory(SOUND, overview, SET, None),
        *judge_groups(overview, SET),
    ]

    assert levels(*found) == [("note", "0 message IDs are remembered: about 0 B")]
    assert exit_status(found) == 0


@pytest.mark.parametrize(
    ("changed", "level", "what"),
    [
        ({"version": "6.0.16"}, "error", "Redis 6.0.16 is too old"),
        ({"version": "5.0.14"}, "error", "Redis 5.0.14 is too old"),
        ({"version": "7.0.15"}, "note", "Redis 7.0.15 is no longer maintained by its makers"),
        ({"version": "7.4.9"}, "warning", "Redis 7.4.9 has known security faults"),
        ({"version": "8.2.8"}, "warning", "Redis 8.2.8 has known security faults"),
        ({"version": "8.10.0"}, "warning", "Redis 8.10.0 has known security faults"),
        ({"version": "8.2.0-rc1"}, "warning", "Redis 8.2.0-rc1 has known security faults"),
        (
            {"flavour": "Valkey", "version": "9.1.1"},
            "warning",
            "Valkey 9.1.1 has known security faults",
        ),
        ({"flavour": "Valkey", "version": "7.0.0"}, "error", "Valkey 7.0.0 is too old"),
        ({"missing": ("XAUTOCLAIM",)}, "error", "the server does not have XAUTOCLAIM"),
        ({"is_cluster": True}, "warning", "the server is a node of a Redis Cluster"),
        ({"is_replica": True, "refusal": "READONLY"}, "error", "the server is a replica"),
        ({"refusal": "MISCONF"}, "error", "the server refuses writes: MISCONF"),
        ({"aof_failed": True}, "error", "the last AOF write failed"),
        ({"snapshot_failed": True}, "error", "the last snapshot failed"),
        ({"aof": False}, "error", "appendonly is off"),
        ({"appendfsync": "everysec"}, "warning", "appendfsync is everysec"),
        ({"appendfsync": "no"}, "warning", "appendfsync is no"),
        ({"clock_ahead": 3.25}, "warning", "this machine's clock is 3.2 s ahead of Redis'"),
        ({"clock_ahead": -9.0}, "warning", "this machine's clock is 9.0 s behind Redis'"),
        (
            {"hidden": ("CONFIG (NOPERM)",), "appendfsync": None},
            "note",
            "could not be looked at: CONFIG (NOPERM)",
        ),
    ],
)
def test_what_is_wrong_with_a_server_is_said_by_its_name(
    changed: dict[str, Any], level: str, what: str
) -> None:
    found = list(judge_server(msgspec.structs.replace(SOUND, **changed), SET))

    assert levels(*found) == [(level, what)]
    assert found[0].why
    assert found[0].do


@pytest.mark.parametrize(
    "changed",
    [
        {"version": "6.2.14"},
        {"version": "7.2.4"},
        {"version": "8.12.0"},
        {"version": "9.9"},
        {"flavour": "Valkey", "version": "7.2.5"},
        {"flavour": "Valkey", "version": "9.1.2"},
        {"flavour": "Valkey", "version": "9.2.0"},
        {"clock_ahead": 1.9},
        {"missing": None, "has_waitaof": None},
    ],
)
def test_what_is_sound_or_not_known_is_not_found_fault_with(changed: dict[str, Any]) -> None:
    assert list(judge_server(msgspec.structs.replace(SOUND, **changed), SET)) == []


@pytest.mark.parametrize(
    ("durability", "changed", "expected"),
    [
        ("aof", {"appendfsync": "everysec"}, []),
        ("aof", {"has_waitaof": False}, []),
        (
            "aof",
            {"has_waitaof": False, "appendfsync": "everysec"},
            ["HOOKMILL_DURABILITY is aof, the server has no WAITAOF, appendfsync is everysec"],
        ),
        ("aof", {"aof": False}, ["appendonly is off"]),
        ("replicas:2", {"replicas": 2}, []),
        (
            "replicas:2",
            {"replicas": 1},
            ["HOOKMILL_DURABILITY is replicas:2; 1 replica is connected"],
        ),
    ],
)
def test_a_server_must_be_able_to_keep_the_durability_that_is_asked(
    durability: str, changed: dict[str, Any], expected: list[str]
) -> None:
    asked = SET.model_copy(update={"durability": durability})

    found = list(judge_server(msgspec.structs.replace(SOUND, **changed), asked))

    assert [one.what for one in found] == expected
    assert exit_status(found) == (2 if expected else 0)


@pytest.mark.parametrize(
    ("policy", "used", "limit", "expected"),
    [
        ("allkeys-lru", GB, 4 * GB, [("error", "maxmemory-policy is allkeys-lru")]),
        (
            "volatile-ttl",
            GB,
            0,
            [
                ("warning", "maxmemory-policy is volatile-ttl"),
                ("note", "maxmemory is not set"),
            ],
        ),
        (
            "noeviction",
            4 * GB,
            4 * GB,
            [("error", "100% of maxmemory is in use (4 GB of 4 GB)")],
        ),
        (
            "noeviction",
            round(3.4 * GB),
            4 * GB,
            [("warning", "85% of maxmemory is in use (3.4 GB of 4 GB)")],
        ),
        ("noeviction", 3 * GB, 4 * GB, []),
        ("noeviction", GB // 2, GB, [("warning", "HOOKMILL_BACKLOG_BYTES is not below maxmemory")]),
    ],
)
def test_the_room_that_is_left_is_judged(
    policy: str, used: int, limit: int, expected: list[tuple[str, str]]
) -> None:
    server = msgspec.structs.replace(SOUND, policy=policy)
    overview = with_groups(WORKED, used_memory=used, maxmemory=limit)

    found = levels(*judge_memory(server, overview, SET, None))

    assert found[:-1] == expected  # the last is what the window costs


@pytest.mark.parametrize(
    ("rate", "groups", "window", "level", "what"),
    [
        (
            None,
            [1_000_000],
            259_200,
            "note",
            "1,000,000 message IDs are remembered: about 37 MB",
        ),
        (
            10.0,
            [0],
            259_200,
            "note",
            (
                "at 10 messages a second, 2,592,000 to 5,184,000 message IDs are remembered: "
                "96 MB to 192 MB"
            ),
        ),
        (
            10.0,
            [0, 0],
            3600 * 24,
            "note",
            (
                "at 10 messages a second, 864,000 to 1,728,000 message IDs are remembered, "
                "in each of 2 groups: 64 MB to 128 MB"
            ),
        ),
        (
            200.0,
            [0],
            259_200,
            "warning",
            (
                "at 200 messages a second, 51,840,000 to 103,680,000 message IDs are remembered: "
                "1.9 GB to 3.8 GB"
            ),
        ),
        (
            0.5,
            [],
            259_200,
            "note",
            (
                "at 0.5 messages a second, 129,600 to 259,200 message IDs are remembered: "
                "4.8 MB to 9.6 MB"
            ),
        ),
    ],
)
def test_what_the_dedup_window_costs_is_said_for_one_to_two_windows(
    rate: float | None, groups: list[int], window: int, level: str, what: str
) -> None:
    overview = with_groups(*(msgspec.structs.replace(WORKED, remembered=n) for n in groups))
    settings = SET.model_copy(update={"dedup_window": window})

    (found,) = judge_memory(SOUND, overview, settings, rate)

    assert levels(found) == [(level, what)]


@pytest.mark.parametrize(
    ("rate", "retention", "level", "what"),
    [
        (None, 3600.0, "note", "handled messages stay for 1 h: 1,000 entries, 500 kB now"),
        (
            100.0,
            3600.0,
            "note",
            "handled messages stay for 1 h: 360,000 entries, 180 MB, at 100 a second",
        ),
        (
            100.0,
            86_400.0,
            "warning",
            "handled messages stay for 24 h: 8,640,000 entries, 4.3 GB, at 100 a second",
        ),
    ],
)
def test_what_the_retention_costs_is_said(
    rate: float | None, retention: float, level: str, what: str
) -> None:
    overview = with_groups(WORKED, length=1000, bytes=500_000)
    settings = SET.model_copy(update={"retention": retention})

    *_, found = judge_memory(SOUND, overview, settings, rate)

    assert levels(found) == [(level, what)]


@pytest.mark.parametrize(
    "changed", [{"waiting": 1}, {"waiting": None}, {"held": 1}, {"delayed": 1}, {"again": 1}]
)
@pytest.mark.parametrize(
    "consumers",
    [(), (ConsumerFacts(name="gone", pending=1, idle_ms=61_000),)],
)
def test_a_group_with_work_that_nobody_runs_raises_an_alarm(
    changed: dict[str, Any], consumers: tuple[ConsumerFacts, ...]
) -> None:
    group = msgspec.structs.replace(WORKED, consumers=consumers, **changed)

    found = list(judge_groups(with_groups(group, length=1), SET))

    assert levels(*found) == [
        ("warning", "nobody runs group main, and messages wait for it"),
    ]
    assert exit_status(found) == 1


@pytest.mark.parametrize(
    ("changed", "lease"),
    [
        ({"waiting": 5}, 60.0),
        ({"consumers": ()}, 60.0),
        ({"waiting": 5, "consumers": (ConsumerFacts(name="c", pending=5, idle_ms=99_000),)}, 100.0),
    ],
)
def test_a_group_that_is_run_or_has_no_work_raises_none(
    changed: dict[str, Any], lease: float
) -> None:
    group = msgspec.structs.replace(WORKED, **changed)
    settings = SET.model_copy(update={"lease": lease})

    assert list(judge_groups(with_groups(group, length=5), settings)) == []


def test_messages_that_no_group_of_ours_will_ever_see_are_told() -> None:
    other = msgspec.structs.replace(WORKED, name="other")

    found = judge_groups(with_groups(other, length=3), SET)

    assert levels(*found) == [
        ("warning", "no worker of group main has ever run, and messages are there"),
    ]
    assert list(judge_groups(with_groups(other, length=0), SET)) == []


def test_dead_letters_are_noted() -> None:
    one, many = (msgspec.structs.replace(WORKED, dead=n) for n in (1, 2000))

    assert levels(*judge_groups(with_groups(one), SET)) == [
        ("note", "1 dead letter lies in group main")
    ]
    assert levels(*judge_groups(with_groups(many), SET)) == [
        ("note", "2,000 dead letters lie in group main")
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        (
            {"qstash_current_signing_key": CURRENT_KEY},
            [("warning", "HOOKMILL_PUBLIC_URL is not set")],
        ),
        ({"dedup_window": 3600}, [("warning", "a message ID is remembered for 1 h only")]),
    ],
)
def test_what_was_set_is_judged(fields: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert levels(*judge_settings(Settings(**fields))) == expected


def test_a_variable_that_nothing_reads_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKMILL_LAESE", "5")

    assert levels(*judge_settings(SET)) == [
        ("warning", "HOOKMILL_LAESE is set, and nothing reads it")
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1500, "1.5 kB"), (99_400, "99 kB"),
        (999_400, "999 kB"), (1_900_000_000, "1.9 GB"), (5e12, "5.0 TB"),
    ],
)  # fmt: skip
def test_bytes_are_written_as_people_do(number: float, text: str) -> None:
    assert readable_size(number) == text
