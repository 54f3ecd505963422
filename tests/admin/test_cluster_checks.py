"""The judgement on several servers: nodes of a cluster, and sentinels."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hookmill.admin.cluster_checks import judge_nodes, judge_sentinels, judge_spread, judge_unseen
from hookmill.stream.facts import SentinelFacts, ServerFacts
from tests.admin.facts import EMPTY, GB, SET, SOUND, levels

WATCHED = SentinelFacts(sentinels=3, quorum=2, replicas=1)
STREAM = msgspec.structs.replace(EMPTY, partitions=6)
LAX = SET.model_copy(update={"durability": "replicas:1"})


def node(number: int, *partitions: int, **changed: Any) -> ServerFacts:
    settings = {"cluster-require-full-coverage": "no", "cluster-node-timeout": "5000"}
    given = {"replicas": 1, "maxmemory": 4 * GB, "settings": settings, "partitions": partitions}
    return msgspec.structs.replace(
        SOUND, is_cluster=True, address=f"n{number}:1", **{**given, **changed}
    )


EVEN = [node(1, 0, 1), node(2, 2, 3), node(3, 4, 5)]


def test_of_a_cluster_that_is_well_nothing_is_said() -> None:
    assert list(judge_nodes(EVEN, STREAM, SET)) == []
    assert list(judge_spread(EVEN, [], STREAM)) == []
    assert list(judge_sentinels(WATCHED, SOUND, SET)) == []


@pytest.mark.parametrize(
    ("changed", "level", "what"),
    [
        (
            {"settings": {"cluster-require-full-coverage": "yes"}},
            "warning",
            "cluster-require-full-coverage is yes",
        ),
        ({"settings": {"cluster-node-timeout": "15000"}}, "note", "cluster-node-timeout is 15 s"),
        ({"replicas": 0}, "note", "no replica is connected"),
        ({"policy": "allkeys-lru"}, "error", "maxmemory-policy is allkeys-lru"),
        ({"clock_ahead": 9.0}, "warning", "this machine's clock is 9.0 s ahead of Redis'"),
        (
            {"used_memory": 5 * GB},
            "error",
            "125% of maxmemory is in use (5 GB of 4 GB)",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_nodes_where_it_is(
    changed: dict[str, Any], level: str, what: str
) -> None:
    one = [node(1, 0, 1), node(2, 2, 3, **changed), node(3, 4, 5)]
    every = [node(1, 0, 1, **changed), node(2, 2, 3, **changed)]

    assert levels(*judge_nodes(one, STREAM, SET)) == [(level, f"on 1 node (n2:1): {what}")]
    assert levels(*judge_nodes(every, STREAM, SET)) == [(level, f"on every node: {what}")]


@pytest.mark.parametrize(
    ("nodes", "idle", "level", "what"),
    [
        (
            [node(1, 0, 1, 2, 3), node(2, 4, 5)],
            ["n3:1"],
            "warning",
            "the partitions are spread unevenly over the masters (n1:1: 4, n2:1: 2, n3:1: 0)",
        ),
        (
            EVEN,
            ["n4:1"],
            "note",
            "1 master has no partition (n1:1: 2, n2:1: 2, n3:1: 2, n4:1: 0)",
        ),
    ],
)
def test_partitions_that_lie_unevenly_are_counted_by_node(
    nodes: list[ServerFacts], idle: list[str], level: str, what: str
) -> None:
    assert levels(*judge_spread(nodes, idle, STREAM)) == [(level, what)]


def test_partitions_that_cannot_be_asked_are_named_and_their_spread_is_not_judged() -> None:
    away = msgspec.structs.replace(STREAM, unseen={2: "partition 2 cannot be asked"})

    assert levels(*judge_unseen(away.unseen)) == [("warning", "partition 2 cannot be asked")]
    assert list(judge_spread([node(1, 0, 1, 3, 4, 5)], ["n2:1"], away)) == []


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"sentinels": 2}, "2 sentinels watch the master"),
        ({"quorum": 4}, "the quorum is 4, and there are 3 sentinels"),
        ({"replicas": 0}, "the sentinels know no replica of the master"),
    ],
)
def test_sentinels_that_could_not_replace_the_master_are_warned_of(
    changed: dict[str, int], what: str
) -> None:
    found = judge_sentinels(WATCHED._replace(**changed), SOUND, SET)

    assert levels(*found) == [("warning", what)]


def test_a_master_that_takes_writes_without_replicas_is_warned_of_where_these_are_asked_for() -> (
    None
):
    server = msgspec.structs.replace(SOUND, settings={"min-replicas-to-write": "0"})

    assert levels(*judge_sentinels(WATCHED, server, LAX)) == [
        ("warning", "min-replicas-to-write is 0")
    ]
    assert list(judge_sentinels(WATCHED, server, SET)) == []
