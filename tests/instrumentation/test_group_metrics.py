"""What is said of groups: asked rarely, never waited for in vain, and absent where unknown."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
import structlog

from hookmill.errors import StreamUnavailableError
from hookmill.instrumentation import group_metrics
from hookmill.instrumentation.group_metrics import GroupMetrics
from hookmill.stream.facts import GroupFacts, Pause
from tests.support import eventually

GROUP = GroupFacts(
    name="main", waiting=3, held=2, delayed=7, again=4, parked=5, dead=6, oldest_ms=1000,
    remembered=0, duplicates=0, late=0, consumers=(), due=1, paused=8,
    next_due_ms=2000, could_run_ms=3500,
)  # fmt: skip


class Asked:
    """Stands for Redis; `answer` is what it says, and None while it is silent."""

    def __init__(self) -> None:
        self.times = 0
        self.answer: tuple[GroupFacts, ...] | Exception | None = (GROUP,)

    async def look(self) -> tuple[GroupFacts, ...]:
        self.times += 1
        if self.answer is None:
            await asyncio.sleep(3600)
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer


def values(metrics: GroupMetrics) -> dict[Any, float]:
    return {
        (sample.name.removeprefix("hookmill_"), *sample.labels.values()): sample.value
        for family in metrics.collect()
        for sample in family.samples
    }


async def test_what_could_run_and_what_cannot_are_told_apart() -> None:
    metrics = GroupMetrics(Asked().look, 30.0)
    assert values(metrics) == {}
    await metrics.refresh()
    seen = values(metrics)
    states = {key[2]: value for key, value in seen.items() if key[0] == "group_messages"}
    assert states == {
        "waiting": 3,
        "held": 2,
        "delayed": 7,
        "again": 4,
        "parked": 5,
        "paused": 8,
        "dead": 6,
    }
    assert seen["group_runnable_messages", "main"] == 3 + 2 + 4 + 1
    assert seen["group_backlog_messages", "main"] == 3 + 2 + 7 + 4 + 5 + 8
    assert seen["group_oldest_runnable_timestamp_seconds", "main"] == 3.5
    assert seen["group_next_due_timestamp_seconds", "main"] == 2
    assert seen["redis_up",] == 1
    assert ("group_backlog_bytes", "main") not in seen


async def test_dead_letters_are_told_by_reason_and_reasons_are_bounded() -> None:
    asked = Asked()
    reasons = {"failed": 2, "asked for": 1, "bad\x1b[31m": 4} | {f"r{n}": 1 for n in range(60)}
    asked.answer = (msgspec.structs.replace(GROUP, dead_reasons=reasons),)
    metrics = GroupMetrics(asked.look, 30.0)
    await metrics.refresh()
    found = {key[2]: value for key, value in values(metrics).items() if "letters" in key[0]}
    assert sum(found.values()) == sum(reasons.values())
    assert (found["failed"], found["asked for"]) == (2, 1)
    assert len(found) < 60
    assert found["other"] > 4


async def test_while_all_is_paused_nothing_could_run() -> None:
    asked = Asked()
    paused = Pause(kind="all")
    asked.answer = (msgspec.structs.replace(GROUP, pauses=(paused,)),)
    metrics = GroupMetrics(asked.look, 30.0)
    await metrics.refresh()
    seen = values(metrics)
    assert seen["group_runnable_messages", "main"] == GROUP.held
    assert ("group_oldest_runnable_timestamp_seconds", "main") not in seen


async def test_redis_is_asked_once_however_many_pages_are_asked_for() -> None:
    asked = Asked()
    metrics = GroupMetrics(asked.look, 30.0)
    await asyncio.gather(*(metrics.refresh() for _ in range(20)))
    await metrics.refresh()
    assert asked.times == 1


async def test_while_redis_is_away_groups_are_absent_and_pages_do_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_metrics, "PERIOD", 0.0)
    asked = Asked()
    metrics = GroupMetrics(asked.look, 30.0)
    await metrics.refresh()
    asked.answer = StreamUnavailableError("Redis is away")
    with structlog.testing.capture_logs() as logs:
        await metrics.refresh()
    assert [line["event"] for line in logs] == ["metrics know nothing of groups"]
    seen = values(metrics)
    assert seen.pop(("groups_asked_timestamp_seconds",)) > 0
    assert seen == {("redis_up",): 0}
    monkeypatch.setattr(group_metrics, "PATIENCE", 3600.0)
    asked.answer = None
    await metrics.refresh()  # it does not wait for the answer, which never comes
    await metrics.close()
    asked.answer = (GROUP,)
    await metrics.refresh()
    await eventually(lambda: values(metrics).get(("redis_up",)) == 1)


async def test_a_silent_redis_counts_as_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_metrics, "ASK_TIMEOUT", 0.01)
    asked = Asked()
    asked.answer = None
    metrics = GroupMetrics(asked.look, 30.0)
    await metrics.refresh()
    await eventually(lambda: values(metrics) == {("redis_up",): 0})
