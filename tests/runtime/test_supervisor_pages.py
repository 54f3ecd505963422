"""The admin address of a supervisor gives one answer for all of its processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hookmill.runtime.child_process import Said
from hookmill.runtime.seat import Seat
from hookmill.runtime.supervisor_pages import SupervisorPages
from tests.runtime.supervising import CHILD, Supervising
from tests.support import eventually

READY = "all processes are ready"


def test_it_is_ready_when_all_have_been_and_stays_so_while_one_is(
    supervise: Callable[..., Supervising], tmp_path: Path
) -> None:
    (tmp_path / "fate-2").write_text("1")
    running = supervise(admin_port=0, admin_host="127.0.0.1")
    running.wait_for('"status":1')
    running.wait_for("child 1 ")
    status, text = running.ask("/readyz")
    assert (status, "of the processes, 2 have not begun to work yet" in text) == (503, True)
    (tmp_path / "fate-2").unlink()
    running.wait_for(READY)
    assert running.ask("/readyz") == (200, "ready, 2 of 2 processes (1: well; 2: well)\n")
    (tmp_path / "readyz-1").write_text('503 {"error": "stream_unavailable", "detail": "no Redis"}')
    assert running.ask("/readyz") == (
        200, "ready, 1 of 2 processes (1: stream_unavailable: no Redis; 2: well)\n",
    )  # fmt: skip
    (tmp_path / "readyz-2").write_text("503 nothing")
    status, text = running.ask("/readyz")
    assert (status, "no Redis" in text) == (503, True)
    assert running.ask("/healthz") == (200, "ok, 2 of 2 processes\n")
    assert running.ask("/other")[0] == 404
    assert running.stop() == 0


def test_it_is_unhealthy_when_no_process_stays(
    supervise: Callable[..., Supervising], tmp_path: Path
) -> None:
    for number in (1, 2):
        (tmp_path / f"fate-{number}").write_text("1")
    running = supervise(admin_port=0, admin_host="127.0.0.1")
    running.wait_for('"seconds":0.5', 2)
    assert running.ask("/healthz") == (200, "ok, 0 of 2 processes\n")
    running.wait_for('"seconds":2.0', 2)
    status, text = running.ask("/healthz")
    assert (status, "processes_failing" in text) == (503, True)
    assert running.stop() == 0


def test_counts_are_added_up_and_never_go_back(
    supervise: Callable[..., Supervising], tmp_path: Path
) -> None:
    page = "200 # HELP a_b Some.\n# TYPE a_b counter\na_b_total 3.0\n# EOF\n"
    for number in (1, 2):
        (tmp_path / f"metrics-{number}").write_text(page)
    running = supervise(admin_port=0, admin_host="127.0.0.1")
    running.wait_for(READY)

    def shown() -> set[str]:
        lines = running.ask("/metrics")[1].splitlines()
        return {line for line in lines if not line.startswith("#")}

    assert shown() == {
        "a_b_total 6.0", "hookmill_processes 2.0", "hookmill_processes_wanted 2.0",
        "hookmill_process_deaths_total 0.0",
    }  # fmt: skip
    first = running.children()[0]
    os.kill(first, signal.SIGKILL)
    running.wait_for("child ", 3)
    assert {"a_b_total 9.0", "hookmill_process_deaths_total 1.0"} <= shown()
    for number in (1, 2):
        (tmp_path / f"metrics-{number}").write_text(page.replace("3.0", "10.0"))
    running.signal(signal.SIGUSR2)
    running.wait_for("all processes are replaced")
    # 3 of the killed one, 20 of the replaced ones, though nobody has asked for these meanwhile.
    assert {"a_b_total 43.0", "hookmill_process_deaths_total 1.0"} <= shown()
    assert running.stop() == 0


async def test_an_answer_that_is_read_after_the_end_of_its_process_does_not_count_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics-1").write_text("200 # TYPE a_b counter\na_b_total 3.0\n# EOF\n")
    seat = Seat(1, [sys.executable, "-c", CHILD], None, 20.0, asyncio.Event())
    pages = SupervisorPages([seat], asyncio.Event())
    child = seat._start()
    assert child is not None
    await eventually(child.ready.is_set)
    assert b"a_b_total 3.0" in (await pages.metrics()).body
    (tmp_path / "ends-1").touch()
    ask, reads = child.ask, asyncio.Event()

    async def ask_and_read_late(*asked: Any) -> Said | None:
        said = await ask(*asked)
        await reads.wait()
        return said

    monkeypatch.setattr(child, "ask", ask_and_read_late)
    asking = asyncio.create_task(pages._note_metrics(child))

    def has_ended() -> bool:
        seat.look_whether_they_ended()
        return child.ended.is_set()

    await eventually(has_ended)
    assert b"a_b_total 3.0" in (await pages.metrics()).body
    reads.set()
    said = await asking
    assert said is not None
    assert said.status == 200
    assert b"a_b_total 3.0" in (await pages.metrics()).body
