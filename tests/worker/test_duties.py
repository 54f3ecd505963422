"""A periodic task that hangs is found, and nothing else is taken for one."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from hookmill.errors import StreamUnavailableError
from hookmill.runtime import tasks
from hookmill.runtime.tasks import cancel_and_wait, run_periodically
from tests.support import Clock, eventually
from worker.duties import PERIOD, Duties


class Watched:
    """Duties whose clock a test moves. Each look comes when it is due, while the loop turns."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.duties = Duties(lambda name: f"the stack of {name}", patience=60.0,
                             long={"slow": 300.0}, clock=self.clock)  # fmt: skip

    async def after(self, seconds: float) -> str:
        """Let this time pass; return what is said of the worker then."""
        for _ in range(round(seconds / PERIOD)):
            self.clock.now += PERIOD
            await self.duties.look()
        return self.said

    @property
    def said(self) -> str:
        fault = self.duties.fault
        return "" if fault is None else f"{fault.code}: {fault.detail}"


@pytest.fixture
def watched() -> Watched:
    return Watched()


async def test_a_run_that_does_not_end_is_named_with_its_place_and_one_that_goes_on_is_well(
    watched: Watched,
) -> None:
    well, hangs = watched.duties.of("well"), watched.duties.of("hangs")
    hangs.note(0.0)
    with capture_logs() as logs:
        for _ in range(11):
            assert await watched.after(5) == ""
            well.note(4.0)
        assert await watched.after(5) == (
            "part_stands_still: the part hangs of the worker has stood still for 60 s: restart the "
            "worker, others take over what it holds"
        )
        assert await watched.after(5) != ""
        hangs.note(1.0)
        well.note(4.0)
        assert await watched.after(1) == ""
    assert [(line["event"], line.get("stack")) for line in logs] == [
        ("a part of the worker stands still", "the stack of hangs"),
        ("no part of the worker stands still any longer", None),
    ]


async def test_a_rest_counts_from_its_end_on_and_a_long_duty_has_more_time(
    watched: Watched,
) -> None:
    rests, slow = watched.duties.of("rests"), watched.duties.of("slow")
    rests.note(600.0)
    slow.note(0.0)
    assert await watched.after(299) == ""
    slow.note(0.0)
    assert await watched.after(299) == ""
    slow.note(0.0)
    assert await watched.after(60) == ""
    assert "rests" in await watched.after(4)


async def test_while_the_loop_is_blocked_or_the_process_stands_still_no_time_counts(
    watched: Watched,
) -> None:
    watched.duties.of("takeover").note(0.0)
    for _ in range(5):
        watched.clock.now += 100
        assert await watched.after(PERIOD) == ""
    assert await watched.after(60) != ""


async def test_a_task_that_fails_again_and_again_does_not_stand_still(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "PAUSE_AFTER_ERROR", 0.001)
    turns = watched.duties.of("rates")

    async def fail() -> float:
        raise StreamUnavailableError("Redis is away")

    task = asyncio.create_task(run_periodically("rates", fail, turns))
    for _ in range(3):
        before = turns.count

        async def has_gone_on(before: int = before) -> bool:
            return turns.count > before

        await eventually(has_gone_on)
        assert await watched.after(59) == ""
    await cancel_and_wait([task])


async def test_a_task_that_hangs_notes_nothing_more(watched: Watched) -> None:
    turns, hung = watched.duties.of("janitor"), asyncio.Event()

    async def hang() -> float:
        hung.set()
        return float(await asyncio.get_running_loop().create_future())

    task = asyncio.create_task(run_periodically("janitor", hang, turns))
    await hung.wait()
    assert await watched.after(59.5) == ""
    assert "the part janitor" in await watched.after(1)
    assert turns.pause == 0.0
    await cancel_and_wait([task])
