"""Sentinels replace a master under load: both programs follow, refuse nothing and lose nothing."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hookmill.stream.facts import SentinelFacts
from hookmill.stream.sentinel import sentinel_facts
from tests.e2e.line import Line
from tests.redis_sentinel import DOWN_AFTER_MS, NAME, Watched, running_sentinels
from tests.support import Program, eventually, server_binaries

WITHIN = 5.0
"""Seconds after sentinels have chosen a master within which messages are handled again."""


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with running_sentinels(next(iter(server_binaries().values())), tmp_path) as running:
        yield running


async def send_until(line: Line, is_over: asyncio.Event) -> Counter[int]:
    """Send messages in small groups until it is over; return the answers."""
    answers: Counter[int] = Counter()
    number = 0
    while not is_over.is_set():
        answers += await line.send((line.order(number + n) for n in range(5)), concurrency=5)
        number += 5
        await asyncio.sleep(0.02)
    return answers


@pytest.mark.parametrize("how", ["killed", "frozen", "on purpose"])
async def test_a_failover_under_load_refuses_nothing_and_loses_nothing_with_the_spool(
    watched: Watched, start_program: Callable[..., Program], tmp_path: Path, how: str
) -> None:
    assert await sentinel_facts(watched.url) == SentinelFacts(sentinels=3, quorum=2, replicas=1)
    line = Line(start_program, tmp_path, watched.url, "hookmill")
    line.env |= {"HOOKMILL_APPEND_TIMEOUT": "2", "HOOKMILL_SPOOL": "spool"}
    receiver = await asyncio.to_thread(line.receiver)
    worker = await asyncio.to_thread(line.worker, HOOKMILL_LEASE="2")
    is_over = asyncio.Event()
    sending = asyncio.create_task(send_until(line, is_over))
    await eventually(lambda: len(line.noted()) >= 20)
    assert "cannot renew leases" not in worker.log
    old = watched.master()
    if how == "on purpose":
        await asyncio.to_thread(watched.ask, watched.sentinels[0], "SENTINEL", "FAILOVER", NAME)
    else:
        old.signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    await eventually(lambda: watched.master() is not old, timeout=60)
    switched, before = time.monotonic(), len(line.noted())
    await eventually(lambda: len(line.noted()) > before + 20)
    took = time.monotonic() - switched
    is_over.set()
    answers = await sending
    if how == "frozen":
        old.signal(signal.SIGCONT)
    assert [*answers] == [200], receiver.log
    await asyncio.to_thread(line.wait_for_handled, answers[200])
    assert took < WITHIN + DOWN_AFTER_MS / 1000, worker.log
    assert [receiver.returncode, worker.returncode] == [None, None]
    for program in (receiver, worker):
        assert await asyncio.to_thread(program.stop) == 0
