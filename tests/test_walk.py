"""The walk in docs/explanation/architecture.md is true: a POST passes these files in this order,
until its handler runs and its outcome is stored.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import aiohttp
import redis

from hookmill import Delivery, Event, Handlers
from hookmill.config.settings import Settings
from hookmill.config.sources import Source, sources_of
from receiver.app import Receiver
from receiver.main import stream_of
from tests.support import MARBLE_SECRET, eventually, is_idle, signed_headers
from worker.app import Worker

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "explanation" / "architecture.md"
PACKAGES = ("hookmill/", "receiver/", "worker/")
SCRIPTS = "hookmill/stream/scripts"
MOST_STEPS = 20
"""A newcomer reads so many steps in a few minutes."""


class Step(NamedTuple):
    """A file, and the function in it. A Lua script has no function."""

    file: str
    function: str = ""


RUN_SCRIPT = Step("hookmill/stream/script_runner.py", "try_each")


def steps_told() -> list[Step]:
    """Read the numbered list of the page: `1. `file`, `function`: what happens there`."""
    found = re.findall(r"^\d+\. `([\w/.]+)`(?:, `(\w+)`)?: \w", PAGE.read_text(), re.MULTILINE)
    return [Step(*words) for words in found]


class Post(NamedTuple):
    title: str
    body: bytes
    headers: dict[str, str]


def signed(source: Source, title: str) -> Post:
    body = b'{"event":"post.published","data":{"title":"%s"}}' % title.encode()
    return Post(title, body, signed_headers(source.scheme, body, source.path))


class PostPublished(Event, tag="post.published"):
    title: str


handlers = Handlers()
titles: list[str] = []


@handlers.on(PostPublished)
async def rebuild(delivery: Delivery[PostPublished]) -> None:
    titles.append(delivery.event.title)


@contextmanager
def steps_taken() -> Iterator[list[Step]]:
    """Collect our functions in the order of their first calls, and the scripts that run."""
    taken: dict[Step, None] = {}

    def look(frame: FrameType, event: str, _: Any) -> None:
        file = frame.f_code.co_filename.removeprefix(f"{ROOT}/")
        if not file.startswith(PACKAGES):
            return
        step = Step(file, frame.f_code.co_name)
        if event == "call":
            taken.setdefault(step)
        elif event == "return" and step == RUN_SCRIPT:
            # A coroutine first returns when it waits, and by then the script's call was sent.
            taken.setdefault(Step(f"{SCRIPTS}/{frame.f_locals['name']}.lua"))

    result: list[Step] = []
    sys.setprofile(look)
    try:
        yield result
    finally:
        sys.setprofile(None)
        result += taken


@asynccontextmanager
async def running(settings: Settings, sources: list[Source]) -> AsyncIterator[str]:
    """Run a receiver and a worker in this process. Yields the receiver's base URL."""
    stream, worker = stream_of(settings), Worker(settings, handlers, None)
    receiver = Receiver(settings, sources, stream)
    port = await receiver.start()
    worker.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await worker.stop(5.0)
        await receiver.stop()
        await stream.client.close()


async def test_a_post_passes_the_files_that_the_architecture_page_lists_in_that_order(
    settings: Callable[..., Settings], redis_client: redis.Redis, prefix: str
) -> None:
    told = steps_told()
    chosen = settings(marble_webhook_secret=MARBLE_SECRET, host="127.0.0.1")
    (source,) = sources_of(chosen)
    async with running(chosen, [source]) as url, aiohttp.ClientSession() as http:
        first = signed(source, "the first one opens connections and loads scripts")

        async def publish(post: Post) -> None:
            async with http.post(url + source.path, data=post.body, headers=post.headers) as answer:
                assert answer.status == 200
            await eventually(lambda: titles[-1:] == [post.title] and is_idle(redis_client, prefix))

        await publish(first)
        for number in range(5):  # a worker may also look by itself, just before the POST
            next_one = signed(source, f"Hello {number}")
            with steps_taken() as taken:
                await publish(next_one)
            places = [taken.index(step) if step in taken else -1 for step in told]
            if places == sorted(places):
                break

    assert titles[-1].startswith("Hello")
    missed = [step for step, place in zip(told, places, strict=True) if place < 0]
    assert not missed, f"a POST does not pass {missed}"
    assert places == sorted(places), "the steps are in another order"


def test_the_list_is_short_and_names_each_file_once() -> None:
    files = [step.file for step in steps_told()]
    assert 10 <= len(files) <= MOST_STEPS
    assert len(set(files)) == len(files)
