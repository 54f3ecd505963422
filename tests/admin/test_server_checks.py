"""The judgement on servers: a table of facts, and what is to be said of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hookmill.admin.findings import exit_status
from hookmill.admin.server_checks import judge_server
from tests.admin.facts import SET, SOUND, levels


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
