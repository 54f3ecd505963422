"""How a command's event loop ends after a Ctrl-C."""

from __future__ import annotations

import asyncio
import signal

import pytest

from hookmill.cli.start import run
from hookmill.stream.client import Client
from tests.support import Server


@pytest.mark.one_server
def test_ctrl_c_between_two_questions_to_redis_is_not_lost(server: Server, prefix: str) -> None:
    async def ask_on_and_on() -> None:
        async with Client(server.url, prefix) as client:
            await client.execute(prefix, "PING")
            signal.raise_signal(signal.SIGINT)
            for _ in range(100):
                await client.execute(prefix, "PING")

    with pytest.raises(KeyboardInterrupt):
        run(ask_on_and_on())


def test_a_ctrl_c_that_asyncio_forgot_is_one() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(KeyboardInterrupt):
        run(cancelled())


async def test_a_command_that_cannot_begin_leaves_no_warning() -> None:
    async def never_begun() -> None:
        raise AssertionError

    with pytest.raises(RuntimeError, match="running event loop"):
        run(
            never_begun()
        )  # Python's warning of a coroutine that was never awaited is an error here
