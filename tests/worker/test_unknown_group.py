"""A worker whose group nobody made ends with 2, says which groups there are, and leaves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import redis

from hookmill.stream.facts import Backlog
from hookmill.stream.groups import Groups
from hookmill.stream.upkeep import Upkeep
from tests.support import Program, Server, Stream, message
from tests.worker.processes import WorkerProcesses

Start = Callable[..., Program]

HANDLERS = """
@handlers.on("*")
async def work(delivery: Delivery[Message]) -> None:
    say("handled " + delivery.id)
"""

REFUSED = (
    "hookmill: there is no group typo; there are: main. Make it once with `hookmill group add typo "
    "--from beginning` (or `--from now`)\n"
)


def test_a_worker_of_a_mistyped_group_leaves_nothing_and_no_delivery_is_refused_because_of_it(
    processes: WorkerProcesses,
) -> None:
    """Later 503 `backlog_full`, although `main` had finished everything."""
    main = processes.start(HANDLERS)
    main.wait_for('"working"')
    with redis.Redis.from_url(processes.server.url) as client:
        before = set(client.scan_iter())
        typo = processes.start(HANDLERS, HOOKMILL_GROUP="typo")
        assert typo.wait() == 2
        assert typo.log == REFUSED
        assert not [key for key in set(client.scan_iter()) - before if b"typo" in key]
    asyncio.run(append_beyond_the_limit(processes, main))
    assert main.stop() == 0


async def append_beyond_the_limit(processes: WorkerProcesses, main: Program) -> None:
    """Append twice as many messages as may be unfinished; `main` handles them meanwhile."""
    stream = Stream(processes.server.url, "hookmill", limit=Backlog(10, 0))
    for number in range(20):
        await stream.append([message(id=f"m{number}")])
        await asyncio.to_thread(main.wait_for, f"handled m{number}\n")
        await Upkeep(stream.client, "main").measure_backlog()
    await stream.close()


def test_once_it_was_added_its_worker_starts(processes: WorkerProcesses) -> None:
    async def add() -> None:
        stream = Stream(processes.server.url, "hookmill")
        await stream.append([message(id="m1")])
        await Groups(stream.client).add("search", "beginning")
        await stream.close()

    asyncio.run(add())
    search = processes.start(HANDLERS, HOOKMILL_GROUP="search")
    search.wait_for("handled m1")
    assert search.stop() == 0


def test_a_worker_of_an_unknown_group_that_starts_before_its_redis_ends(
    own_server: Callable[..., Server], start_program: Start, tmp_path: Path
) -> None:
    server = own_server()
    server.kill()
    processes = WorkerProcesses(server, start_program, tmp_path)
    worker = processes.start(HANDLERS, HOOKMILL_GROUP="typo")
    worker.wait_for("Redis cannot be used yet")
    server.start()
    assert worker.wait() == 2
    assert worker.log.endswith(REFUSED.replace("there are: main", "there are: none"))
    with redis.Redis.from_url(server.url) as client:
        assert not [key for key in client.scan_iter() if client.ttl(key) == -1]


def test_a_running_worker_makes_its_group_again_after_redis_lost_all(
    processes: WorkerProcesses,
) -> None:
    async def add() -> None:
        stream = Stream(processes.server.url, "hookmill")
        await Groups(stream.client).add("search", "now")
        await stream.close()

    asyncio.run(add())
    search = processes.start(HANDLERS, HOOKMILL_GROUP="search")
    search.wait_for('"working"')
    with redis.Redis.from_url(processes.server.url) as client:
        client.flushall()
    search.wait_for("the consumer group is gone: opening it again")
    processes.send("order.paid")
    search.wait_for("handled m0")
    assert search.stop() == 0
