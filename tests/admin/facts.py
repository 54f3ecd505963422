"""Facts about servers and groups, to be judged and shown."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import SecretStr

from hookmill.admin.findings import Finding
from hookmill.config.settings import Settings
from hookmill.config.source_options import SourceOptions
from hookmill.stream.facts import ConsumerFacts, GroupFacts, Heartbeat, Overview, ServerFacts
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
"""A server about which there is nothing to say."""

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
"""A group that has one worker and nothing to do."""

BEATING = Heartbeat(
    name="c1",
    host="web-1",
    pid=7,
    version="0.2.0",
    group="main",
    wire_versions=(1, 2, 3),
    handlers={"work": ("order.paid",)},
    concurrency=100,
    threads=16,
    lease=60.0,
    uptime=7200.0,
    held=3,
    oldest_held=12.0,
    free_slots=97,
    free_threads=16,
    age_ms=4000,
)
"""The heartbeat of a worker that has been up for two hours."""

SEEN = Overview(
    now_ms=1_700_000_200_000,
    partitions=1,
    length=1234,
    bytes=567_000,
    used_memory=20_000_000,
    maxmemory=100_000_000,
    groups=(
        GroupFacts(
            name="main",
            waiting=1200,
            held=30,
            delayed=4,
            again=0,
            parked=5,
            dead=2,
            oldest_ms=1_700_000_000_000,
            remembered=50_000,
            duplicates=77,
            late=1,
            consumers=(
                ConsumerFacts(name="host-1", pending=30, idle_ms=400),
                ConsumerFacts(name="host-2", pending=0, idle_ms=90_000),
            ),
        ),
        GroupFacts(
            name="search",
            waiting=None,
            held=0,
            delayed=0,
            again=0,
            parked=0,
            dead=0,
            oldest_ms=None,
            remembered=0,
            duplicates=0,
            late=0,
            consumers=(),
        ),
    ),
)
"""A stream with two groups, one of which has much to do."""

SET = Settings(
    qstash_current_signing_key=SecretStr(CURRENT_KEY),
    public_url="https://app.example",
    sources={"qstash": SourceOptions(id=("body",))},
)
"""Settings about which there is nothing to say."""


def levels(*found: Finding) -> list[tuple[str, str]]:
    return [(one.level, one.what) for one in found]


def with_groups(*groups: GroupFacts, **fields: Any) -> Overview:
    return msgspec.structs.replace(EMPTY, groups=groups, **fields)
