"""A blocked event loop is logged with the handler that blocks it."""

from __future__ import annotations

import json
from typing import Any

from tests.support import wait_until
from tests.worker.processes import WorkerProcesses


def logged(log: str, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def test_a_handler_that_blocks_the_event_loop_is_named_while_it_does(
    processes: WorkerProcesses,
) -> None:
    worker = processes.start("""
        def calculate():
            while not os.path.exists("go-on"):
                time.sleep(0.01)

        @handlers.on("blocking")
        async def blocking(delivery):
            say("blocking began")
            calculate()

        @handlers.on("good")
        async def good(delivery):
            await asyncio.sleep(600)
        """)
    processes.send("good", "blocking")
    worker.wait_for("event loop blocked")
    (blocked,) = logged(worker.log, "event loop blocked")
    assert (blocked["handler"], blocked["level"]) == ("blocking", "warning")
    assert blocked["id"].startswith("m1-")
    assert blocked["seconds"] >= 2
    assert ", in calculate" in blocked["stack"]
    (worker.log_path.parent / "go-on").touch()
    worker.wait_for("event loop no longer blocked")
    wait_until(lambda: processes.pending == 1)
    (free,) = logged(worker.log, "event loop no longer blocked")
    assert free["seconds"] >= blocked["seconds"]
    assert len(logged(worker.log, "event loop blocked")) == 1


def test_a_task_of_the_handlers_own_that_blocks_the_event_loop_is_named_as_well(
    processes: WorkerProcesses,
) -> None:
    worker = processes.start("""
        async def calculate():
            time.sleep(20)

        @handlers.on("work")
        async def work(delivery):
            await asyncio.create_task(calculate(), name="sums")
        """)
    processes.send("work")
    worker.wait_for("event loop blocked")
    (blocked,) = logged(worker.log, "event loop blocked")
    assert blocked["task"] == "sums"
    assert ", in calculate" in blocked["stack"]
