"""Pauses as data: what is refused, and when a pause ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from hookmill.admin import audit, pauses
from hookmill.admin.audit import Operator
from hookmill.admin.pauses import PauseRefusedError
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
    (listed,) = await pauses.listed(settings())
    assert listed.names == ("new", "old")
    assert [step async for step in pauses.resume(settings(), pauses.of_handler("old"))] == [(0, 0)]
    assert await pauses.listed(settings()) == []


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
    assert [one.name for one in await pauses.listed(known)] == ["handler:x", "source:acme"]


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


async def test_a_pause_says_when_it_ends(settings: MakeSettings, group: Consumer) -> None:
    noted = await pauses.pause(settings(), pauses.everything(), until="10m")
    assert noted.until_ms == noted.since_ms + 600_000
    at = await pauses.pause(settings(), pauses.everything(), until="2999-01-01T00:00+01:00")
    seen = pauses.describe(at)
    assert datetime.fromisoformat(seen["until"]).timestamp() == at.until_ms / 1000
    assert pauses.describe(Pause(kind="source", value="s", until_ms=10**15))["until"] == (
        f"{10**15} ms"
    )
