"""Pauses as data: what is refused, and when a pause ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest
import redis

from hookmill.admin import audit, pauses, status
from hookmill.admin.audit import Operator
from hookmill.admin.group_checks import judge_groups
from hookmill.admin.pauses import PauseRefusedError
from hookmill.cli.operation import table
from hookmill.config.settings import Settings
from hookmill.config.source_options import SourceOptions
from hookmill.stream.consumer import Consumer
from hookmill.stream.facts import Heartbeat, Pause
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from tests.stream.toolkit import OpenGroup

pytestmark = pytest.mark.one_server  # the scripts have tests of their own

MakeSettings = Callable[..., Settings]


@pytest.fixture
async def group(open_group: OpenGroup) -> Consumer:
    return await open_group()


async def beats(stream: Producer, *heartbeats: Heartbeat) -> None:
    for one in heartbeats:
        await Heartbeats(stream.client, "main").write(one)


async def test_a_handler_is_paused_under_all_names_that_workers_know_it_by(
    settings: MakeSettings, stream: Producer, group: Consumer
) -> None:
    old = Heartbeat(name="w0", lease=60, handlers={"old": ("a",)}, can=("pause",))
    new = Heartbeat(
        name="w1", lease=60, handlers={"new": ("a",)}, aliases={"old": "new"}, can=("pause",)
    )
    await beats(stream, old, new)
    for name in ("old", "new"):
        noted = await pauses.pause(settings(), pauses.of_handler(name))
        assert (noted.value, noted.names) == ("new", ("new", "old"))
    (listed,) = (await pauses.listed(settings())).pauses
    assert listed.names == ("new", "old")
    assert [step async for step in pauses.resume(settings(), pauses.of_handler("old"))] == [(0, 0)]
    assert (await pauses.listed(settings())).pauses == []


async def test_what_nobody_knows_is_refused_unless_it_is_wanted_anyway(
    settings: MakeSettings, group: Consumer
) -> None:
    with pytest.raises(PauseRefusedError, match="has a handler x; there are: none"):
        await pauses.pause(settings(), pauses.of_handler("x"))
    known = settings(sources={"acme": SourceOptions()})
    for target in (pauses.of_source("acne"), pauses.of_key("acne", "k")):
        with pytest.raises(PauseRefusedError, match="there are: acme, marble, qstash"):
            await pauses.pause(known, target)
    await pauses.pause(known, pauses.of_source("acme"))
    await pauses.pause(known, pauses.of_handler("x"), anyway=True)
    assert [one.name for one in (await pauses.listed(known)).pauses] == ["handler:x", "source:acme"]


@pytest.mark.parametrize("until", ["soon", "2020-01-01", "0s", "999999999d"])
async def test_a_time_that_does_not_come_is_refused(
    settings: MakeSettings, group: Consumer, until: str
) -> None:
    with pytest.raises(PauseRefusedError, match="until"):
        await pauses.pause(settings(), pauses.everything(), until=until)


async def test_a_name_that_is_not_utf_8_is_noted_with_escapes(
    settings: MakeSettings, group: Consumer
) -> None:
    """It may come from the environment, or from a header of the proxy in front of the console."""
    operator = Operator("Ren\udce9", "caf\udce9")
    noted = await pauses.pause(settings(), pauses.everything(), operator)
    assert (noted.who, noted.why) == ("Ren\\udce9", "caf\\udce9")
    (action,) = [one async for one in audit.listed(settings())]
    assert (action.who, action.why, action.state) == (noted.who, noted.why, "done")


async def test_a_worker_that_started_after_a_pause_and_does_not_heed_it_is_named(
    settings: MakeSettings, stream: Producer, group: Consumer, redis_client: redis.Redis
) -> None:
    await beats(stream, Heartbeat(name="w1", lease=60, can=("pause",)))
    await pauses.pause(settings(), pauses.everything())
    assert (await pauses.listed(settings())).heedless == []

    await beats(stream, Heartbeat(name="older", lease=60, can=("replay",)))
    # One of release 0.1 writes neither a heartbeat nor a lease number.
    read = {stream.partitions[0].stream: ">"}
    redis_client.xreadgroup("main", "oldest", read, count=1)  # type: ignore[arg-type]  # str is a key
    assert (await pauses.listed(settings())).heedless == ["older", "oldest"]
    seen = await status.look(settings())
    (row,) = status.describe(seen, 60.0)["groups"]
    assert row["heedless_workers"] == ["older", "oldest"]
    lines = [line for line in table(seen, 60.0) if "heed" in line]
    assert lines == [f"main: {pauses.words_of_heedless(name)}" for name in ("older", "oldest")]
    found = [one for one in judge_groups(seen, settings()) if "heed" in one.what]
    assert [one.what.split()[1] for one in found] == ["older", "oldest"]

    async for _ in pauses.resume(settings(), pauses.everything()):
        pass
    seen = await status.look(settings())
    assert status.describe(seen, 60.0)["groups"][0]["heedless_workers"] == []
    assert not any("heed" in line for line in table(seen, 60.0))


async def test_a_pause_says_when_it_ends(settings: MakeSettings, group: Consumer) -> None:
    noted = await pauses.pause(settings(), pauses.everything(), until="10m")
    assert noted.until_ms == noted.since_ms + 600_000
    at = await pauses.pause(settings(), pauses.everything(), until="2999-01-01T00:00+01:00")
    seen = pauses.describe(at)
    assert datetime.fromisoformat(seen["until"]).timestamp() == at.until_ms / 1000
    assert pauses.describe(Pause(kind="source", value="s", until_ms=10**15))["until"] == (
        f"{10**15} ms"
    )
