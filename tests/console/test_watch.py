"""One reader for all browsers."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from hookmill.console.watch import Watch
from hookmill.errors import StreamUnavailableError
from hookmill.stream.facts import Overview
from tests.support import eventually

SEEN = Overview(
    now_ms=0, partitions=1, length=0, bytes=0, used_memory=0, maxmemory=0, groups=()
)  # fmt: skip


class Looks:
    """Counts the looks; each second one fails."""

    def __init__(self) -> None:
        self.count = 0

    async def look(self) -> Overview:
        self.count += 1
        if self.count % 2 == 0:
            raise StreamUnavailableError("away")
        return SEEN


async def test_however_many_listen_there_is_one_look_a_period_and_none_while_nobody_does() -> None:
    looks = Looks()
    watch = Watch(looks.look, period=0.01)
    with ExitStack() as stack:
        listeners = [stack.enter_context(watch.listening()) for _ in range(10)]
        for _ in range(5):
            before = looks.count
            assert all(["overview" in await one.next() for one in listeners])
            assert looks.count - before <= 2
    await eventually(lambda: watch._task is None)
    count = looks.count
    await asyncio.sleep(0.05)
    assert looks.count == count


async def test_pages_of_one_period_share_a_look_and_an_action_ends_that() -> None:
    looks = Looks()
    watch = Watch(looks.look, period=60)
    assert {id(seen) for seen in await asyncio.gather(*[watch.overview() for _ in range(10)])} == {
        id(SEEN)
    }
    assert looks.count == 1
    looks.count = 2  # the next look succeeds
    watch.forget()
    await watch.overview()
    assert looks.count == 3


async def test_when_it_is_closed_all_streams_end_those_that_come_later_too() -> None:
    watch = Watch(Looks().look, period=0.01)
    with watch.listening() as first:
        await first.next()
        await watch.close()
        assert await first.next() == []
        with watch.listening() as second:
            assert await second.next() == []
