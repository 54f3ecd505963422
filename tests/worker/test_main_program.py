"""The worker as a program: how it ends, and what keeps it from starting."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog

from hookmill import Delivery, Handlers
from hookmill.config.settings import Settings
from hookmill.errors import HandlersError
from hookmill.message import Message
from hookmill.runtime import process
from hookmill.runtime.tasks import cancel_and_wait
from hookmill.stream.producer import Producer
from tests.support import Program, Server, Stream, message
from worker import leases, main
from worker.app import Worker
from worker.main import WorkerFailedError

MakeSettings = Callable[..., Settings]
StartWorker = Callable[..., Awaitable[Worker]]


async def test_a_signal_ends_the_program_with_its_lifespan_around_everything(
    stream: Producer, settings: MakeSettings
) -> None:
    order: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[str]:
        order.append("open")
        yield "the database"
        order.append("close")

    handlers = Handlers(lifespan)

    @handlers.on("*")
    async def work(delivery: Delivery[Message], database: str) -> None:
        order.append(f"work with {database}")
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
        order.append("done")

    await stream.append([message()])
    with structlog.testing.capture_logs() as logs:
        await main._work_until_signalled(settings(), handlers, process.ForcedEnd(0))
    assert order == ["open", "work with the database", "done", "close"]
    said = [line["event"] for line in logs]
    assert said == ["working", "stopping", "handled", "stopped"]


@pytest.mark.parametrize("part", ["pool", "delayed", "settler watch", "unstarted"])
async def test_a_program_that_lost_a_part_of_itself_ends_with_an_error(
    stream: Producer, settings: MakeSettings, part: str
) -> None:
    # A worker that only looks alive is worse than none, because nothing starts another.
    handlers = Handlers()
    ran = []

    @handlers.on("*")
    async def work(delivery: Delivery[Message]) -> None:
        (task,) = [task for task in asyncio.all_tasks() if task.get_name() == part]
        await cancel_and_wait([task])
        ran.append(delivery.id)

    await stream.append([message(id="m")])
    with pytest.raises(WorkerFailedError, match=part):
        await main._work_until_signalled(settings(), handlers, process.ForcedEnd(0))
    assert ran == ["m"]


def test_handlers_that_could_never_run_are_refused_before_anything_starts(
    settings: MakeSettings,
) -> None:
    handlers = Handlers()

    @handlers.on("*")
    async def work(delivery: Delivery[Message], database: None) -> None:
        pass

    with pytest.raises(HandlersError, match="no lifespan"):
        main.run(settings(), handlers)


def test_handlers_that_do_not_end_do_not_keep_the_process(
    own_server: Callable[..., Server],
    start_program: Callable[..., Program],
    tmp_path: Path,
) -> None:
    (tmp_path / "app.py").write_text(
        "import asyncio, time\n"
        "from hookmill import Handlers\n"
        "handlers = Handlers()\n"
        "@handlers.on('plain')\n"
        "def plain(delivery):\n"
        "    print('in a thread', flush=True)\n"
        "    time.sleep(600)\n"
        "@handlers.on('async')\n"
        "async def stubborn(delivery):\n"
        "    print('on the loop', flush=True)\n"
        "    while True:\n"
        "        try:\n"
        "            await asyncio.sleep(600)\n"
        "        except asyncio.CancelledError:\n"
        "            pass\n"
    )
    server = own_server()
    program = start_program(
        "worker", "app:handlers", env={"REDIS_URL": server.url, "HOOKMILL_SHUTDOWN": "0"}
    )

    async def send() -> None:
        stream = Stream(server.url, "hookmill")
        await stream.append([message(type="plain"), message(type="async")])
        await stream.close()

    asyncio.run(send())
    program.wait_for("in a thread")
    program.wait_for("on the loop")
    assert program.stop() == 0
    with redis.Redis.from_url(server.url) as client:
        # One was requeued; the lease of the other ends.
        assert client.xlen("hookmill:{0}:main:again") == 1
        summary: Any = client.xpending("hookmill:{0}:stream", "main")
        assert summary["pending"] == 1


def test_two_leases_may_fail_before_one_is_over() -> None:
    keeper = leases.LeaseKeeper.__new__(leases.LeaseKeeper)
    keeper._lease = 60.0
    assert keeper.period == 20.0


async def test_a_worker_that_learns_late_of_another_number_of_partitions_ends(
    stream: Producer, settings: MakeSettings
) -> None:
    # Redis was unavailable when it started, or the start would have been refused.
    await stream.client.agree_on_partitions()
    worker = Worker(settings(partitions=3), Handlers(), None)
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(10):
            assert await worker.start() == "pool"
    await worker.stop(1)
    (line,) = (line for line in logs if line["log_level"] == "error")
    assert "HOOKMILL_PARTITIONS is 3, but this stream was made with 1" in line["error"]
