"""What a million dead letters cost an operator and Redis: `python -m benchmarks.dead_letters`.

It fills a server of its own with dead letters of 1.8 kB, of twelve errors, and asks what `hookmill
dead` and the console ask, and loads the console's pages. For each it prints how long it lasts, how
much CPU we and Redis take, how many scripts run, and the longest of them by Redis' slow log, which
counts what a busy machine takes away from Redis as well. `--count` makes it smaller.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import redis

from hookmill.admin.body_paths import condition_of
from hookmill.admin.dead_groups import groups
from hookmill.admin.dead_letters import page, select
from hookmill.admin.filters import EVERYTHING, DeadLetterFilter, Selection
from hookmill.config.settings import Settings
from hookmill.console.app import serving
from hookmill.message import PACKED_VERSION, Death, Message, Progress
from hookmill.stream.client import Client
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.unfinished import OneMessage, UnfinishedWork
from tests.support import Server

AT_ONCE = 1_000
BODY = b'{"type":"order.paid","data":{"order":{"id":%d,"total":12},"note":"' + b"x" * 880 + b'"}}'
ERROR = """Traceback (most recent call last):
  File "/app/shop/handlers.py", line 40, in send
    await client.post(url)
  File "/app/shop/step{kind}.py", line 12, in call_{kind}
    raise Refused(order)
shop.errors.Refused: order {number} was refused by 'https://example.org/{number}'
"""


def letter(number: int) -> dict[bytes, bytes]:
    """Return the fields of a dead letter."""
    body = BODY % number
    message = Message(
        id=f"msg_{number}", source="qstash", type="order.paid", body=body,
        received_ms=1_700_000_000_000, header_block=b"User-Agent: x\r\nContent-Type: y",
    )  # fmt: skip
    progress = Progress(owner=f"{number + 1}-0", handler="send", attempts=8, failed_ms=1)
    text = ERROR.format(kind=number % 12, number=number)
    death = Death(reason="failed", error=text, died_ms=1_700_000_000_000 + number)
    return {**message.to_fields(PACKED_VERSION), **progress.to_fields(), **death.to_fields()}


def fill(client: redis.Redis, key: str, count: int) -> None:
    """Add that many dead letters."""
    for first in range(0, count, AT_ONCE):
        with client.pipeline(transaction=False) as batch:
            for number in range(first, min(first + AT_ONCE, count)):
                batch.xadd(key, letter(number))  # type: ignore[arg-type]  # bytes are taken too
            batch.execute()


class Measure:
    """Measures what one question costs, and prints a line of a table."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    async def __call__(self, what: str, ask: Callable[[], Awaitable[Any]]) -> None:
        self._client.slowlog_reset()
        self._client.config_resetstat()
        used = self._cpu()
        began, had = time.perf_counter(), time.process_time()
        found = await ask()
        seconds, own = time.perf_counter() - began, time.process_time() - had
        cpu = self._cpu() - used
        rows: Any = self._client.slowlog_get(100_000)
        longest = max((row["duration"] for row in rows), default=0) / 1000
        stats: Any = self._client.info("commandstats")
        scripts = stats.get("cmdstat_evalsha", {}).get("calls", 0)
        print(
            f"| {what} | {found:,} | {seconds * 1000:,.0f} ms | {own * 1000:,.0f} ms | "
            f"{cpu * 1000:,.0f} ms | {scripts:,} | {cpu * 1000 / max(1, scripts):.1f} ms | "
            f"{longest:.1f} ms |"
        )

    def _cpu(self) -> float:
        info: Any = self._client.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def last_of(steps: AsyncIterator[Any]) -> Any:
    """Go to the end, and return the last value."""
    found = None
    async for one in steps:
        found = one
    return found


async def measure_pages(url: str, ask: Measure, letters: DeadLetters, count: int) -> None:
    """Load the pages of the console as a browser does; what is found are bytes of a page."""
    settings = Settings(redis_url=url, prefix="bench", console_port=0, console_host="127.0.0.1")
    oldest, newest = [
        (await page(letters, newest_first=which, count=1)).rows[0].id for which in (False, True)
    ]
    times = [int(one.partition("-")[0]) for one in (oldest, newest)]
    paths = {
        "overview": "/",
        "dead letters": "/dead",
        "dead letters, from the middle on": f"/dead?before_id={sum(times) // 2}-0",
        "dead letters of one source": "/dead?source=qstash",
        "dead letters that match nothing": "/dead?source=none",
        "dead letters with a value": f"/dead?where=data.order.id%3D{count - 5_000}",
        "one dead letter": f"/dead/{oldest}",
        "errors": "/dead/errors",
        "handlers": "/handlers",
        "messages": "/messages",
        "messages that are dead": "/messages?state=dead",
        "workers": "/workers",
        "sources": "/sources",
        "audit": "/audit",
    }
    async with serving(settings) as (port, _), aiohttp.ClientSession() as http:

        async def load(path: str) -> int:
            async with http.get(f"http://127.0.0.1:{port}{path}") as answer:
                return len(await answer.read())

        await ask("warm up", lambda: load("/dead"))
        for what, path in paths.items():
            await ask(f"page: {what}", partial(load, path))


async def measure(url: str, client: redis.Redis, count: int) -> None:
    """Ask all that is asked of dead letters."""
    opened = Client(url, "bench", timeout=30)
    letters = DeadLetters(opened, "main")
    client.config_set("slowlog-log-slower-than", 1000)
    client.config_set("slowlog-max-len", 100_000)
    ask = Measure(client)
    narrow = DeadLetterFilter(where=(condition_of(f"data.order.id={count - 5_000}"),))

    async def rows_of(**how: Any) -> int:
        return len((await page(letters, **how)).rows)

    async def grouped(most: int | None) -> int:
        return len((await last_of(groups(letters, most=most))).groups)

    async def counted(wanted: DeadLetterFilter) -> int:
        selected = await select(letters, Selection(filter=wanted))
        return int((await last_of(selected.counting())).tried)

    async def replayed(most: int) -> int:
        selected = await select(letters, Selection(limit=most))
        return int((await last_of(selected.replay())).done)

    async def dropped() -> int:
        return int((await last_of((await select(letters, EVERYTHING)).drop())).done)

    async def looked(only: OneMessage | None = None) -> int:
        return int(await last_of(UnfinishedWork(opened, "main", "run", only).look()))

    print(
        "| asked | found | lasts | our CPU | Redis' CPU | scripts | Redis' CPU a script | "
        "the longest |\n|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    await ask("warm up", rows_of)
    await ask("first page, newest", rows_of)
    await ask("first page, oldest", lambda: rows_of(newest_first=False))
    await ask("a value in the body among the newest 10,000", lambda: rows_of(wanted=narrow))
    await ask("groups of the newest 10,000", lambda: grouped(10_000))
    await measure_pages(url, ask, letters, count)
    await ask("what is unfinished (`hookmill replay`)", looked)
    one = OneMessage(0, f"{count}-1")
    await ask("whether one message is (replayed on its page)", lambda: looked(one))
    await ask("groups of all", lambda: grouped(None))
    await ask("counted by reason", lambda: counted(DeadLetterFilter(reason="failed")))
    await ask("10,000 replayed", lambda: replayed(10_000))
    await ask("the rest dropped", dropped)
    await opened.close()


def main() -> None:
    """Start a server, fill it, measure."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=1_000_000)
    count = options.parse_args().count
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("redis-server is not installed")
    with tempfile.TemporaryDirectory() as folder:
        server = Server(binary, Path(folder))
        server.start()
        try:
            with redis.Redis.from_url(server.url) as client:
                keys = "bench:{0}"
                client.xgroup_create(f"{keys}:stream", "main", "0", mkstream=True)
                client.xgroup_create(f"{keys}:main:again", "main", "0", mkstream=True)
                fill(client, f"{keys}:main:dead", count)
                asyncio.run(measure(server.url, client, count))
        finally:
            server.kill()


if __name__ == "__main__":
    main()
