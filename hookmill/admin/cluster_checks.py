"""Judges several servers: the nodes of a Redis Cluster, and the sentinels that watch a master.

No I/O: `hookmill/stream/server_inspector.py` and `hookmill/stream/sentinel.py` gather the facts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from hookmill.admin.connection_checks import judge_connections
from hookmill.admin.findings import Finding
from hookmill.admin.memory_checks import judge_bound
from hookmill.admin.server_checks import judge_server
from hookmill.admin.units import count
from hookmill.config.settings import Settings
from hookmill.errors import see
from hookmill.stream.facts import Overview, SentinelFacts, ServerFacts

NODE_TIMEOUT_MS = 5000
"""The longest `cluster-node-timeout` with which nothing is said: so long a failed master's part
takes no deliveries.
"""

LEAST_SENTINELS = 3
"""With fewer sentinels, one that fails ends all failovers."""

_SETUP = see("how-to/redis-cluster-and-sentinel.md")


def judge_nodes(
    nodes: Sequence[ServerFacts], overview: Overview, settings: Settings
) -> Iterator[Finding]:
    """Judge each node of a cluster as a server, and name the nodes that a finding is about."""
    found: dict[Finding, list[str]] = {}
    for node in nodes:
        alone = msgspec.structs.replace(
            overview, used_memory=node.used_memory, maxmemory=node.maxmemory
        )
        share = len(node.partitions) / overview.partitions
        for finding in (
            *judge_server(node, settings),
            *judge_connections(node, overview),
            *judge_bound(node, alone, settings, share),
            *_judge_settings(node),
        ):
            found.setdefault(finding, []).append(node.address)
    for finding, names in found.items():
        where = f"on {count(len(names), 'node', 'nodes')} ({', '.join(names)})"
        where = "on every node" if len(names) == len(nodes) > 1 else where
        yield msgspec.structs.replace(finding, what=f"{where}: {finding.what}")


def _judge_settings(node: ServerFacts) -> Iterator[Finding]:
    if node.settings.get("cluster-require-full-coverage") == "yes":
        yield Finding(
            level="warning",
            what="cluster-require-full-coverage is yes",
            why="a master that fails stops all the others, so no delivery is taken at all",
            do="set cluster-require-full-coverage no on each node",
        )
    timeout = node.settings.get("cluster-node-timeout", "")
    if timeout.isdecimal() and int(timeout) > NODE_TIMEOUT_MS:
        yield Finding(
            level="note",
            what=f"cluster-node-timeout is {int(timeout) / 1000:g} s",
            why="at least so long nobody takes the place of a master that fails, and deliveries "
            "for its partitions are spooled or refused",
            do=f"set cluster-node-timeout {NODE_TIMEOUT_MS} on each node, unless your network is "
            "slow",
        )
    if not node.replicas:
        yield Finding(
            level="note",
            what="no replica is connected",
            why="nobody can take its place if it fails: its partitions wait until it is back, and "
            "what it had not on its disk is lost",
            do="give each master a replica",
        )


def judge_spread(
    nodes: Iterable[ServerFacts], idle: Sequence[str], overview: Overview
) -> Iterator[Finding]:
    """Judge how the partitions lie on the masters; `idle` are those that have none."""
    counts = {node.address: len(node.partitions) for node in nodes} | dict.fromkeys(idle, 0)
    # Of a partition that cannot be asked nobody knows which node has it next.
    if overview.unseen or not counts:
        return
    each = math.ceil(overview.partitions / len(counts))
    spread = ", ".join(f"{name}: {number}" for name, number in sorted(counts.items()))
    if max(counts.values()) > each:
        yield Finding(
            level="warning",
            what=f"the partitions are spread unevenly over the masters ({spread})",
            why="the node with most of them is the first that is full or slow, while others have "
            "nothing to do",
            do=f"move slots, so that each master has at most {each}: redis-cli --cluster rebalance",
        )
    elif idle:
        yield Finding(
            level="note",
            what=f"{count(len(idle), 'master has', 'masters have')} no partition ({spread})",
            why="a master without a partition does nothing for Hookmill",
            do=f"have as many partitions as masters, or twice as many; {see('how-to/scale.md')}",
        )


def judge_unseen(unseen: Mapping[int, str]) -> Iterator[Finding]:
    """Name the partitions that cannot be asked."""
    for why in unseen.values():
        yield Finding(
            level="warning",
            what=why,
            why="deliveries for this partition are spooled or refused, its messages wait, and they "
            "are missing in all that is said here",
            do="see what its node does; if it has failed, one of its replicas takes its place",
        )


def judge_sentinels(
    seen: SentinelFacts, server: ServerFacts | None, settings: Settings
) -> Iterator[Finding]:
    """Judge the sentinels that watch the master."""
    if seen.sentinels < LEAST_SENTINELS:
        yield Finding(
            level="warning",
            what=f"{count(seen.sentinels, 'sentinel watches', 'sentinels watch')} the master",
            why="once one of them is away, the others are no majority, and nothing replaces a "
            "master that fails",
            do=f"have at least {LEAST_SENTINELS} sentinels, on machines that fail singly; {_SETUP}",
        )
    if seen.quorum > seen.sentinels:
        yield Finding(
            level="warning",
            what=f"the quorum is {seen.quorum}, and there are {seen.sentinels} sentinels",
            why="they can never agree that the master has failed, so nothing replaces it",
            do=f"set the quorum to {seen.sentinels // 2 + 1}: SENTINEL SET NAME quorum NUMBER",
        )
    if not seen.replicas:
        yield Finding(
            level="warning",
            what="the sentinels know no replica of the master",
            why="there is nothing that could take its place",
            do=f"give the master a replica; {_SETUP}",
        )
    least = server.settings.get("min-replicas-to-write") if server is not None else None
    if settings.durability.startswith("replicas:") and least == "0":
        yield Finding(
            level="warning",
            what="min-replicas-to-write is 0",
            why="a master that is cut off from its replicas takes deliveries until its "
            "connections are closed; they are refused, but those of workers are lost",
            do="set min-replicas-to-write 1 on each server",
        )
