"""Answers at the admin address from a thread of its own, so that a program whose event loop is
blocked says so, instead of giving no answer.

A page that needs the program's event loop is made there (`in_program`). Where the loop does not
make it in time, another answer is given in its place.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Mapping

from hookmill.runtime.admin_request import Answer
from hookmill.runtime.admin_server import AdminServer, Page


class AdminThread:
    """An `AdminServer` in a thread: `start` it in the program's event loop, and `stop` it. Its
    pages are made in the thread.
    """

    def __init__(self, host: str, port: int, pages: Mapping[str, Page], program: str = "") -> None:
        self._server = AdminServer(host, port, pages, program)
        self._loop = asyncio.new_event_loop()
        # With a copy of our context, so that its log lines name the program, too.
        self._thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._loop.run_forever,),
            name="admin address",
            daemon=True,
        )

    async def start(self) -> int:
        """Listen; return the port, 0 where a supervisor does. Raise `SettingsError` if that is
        impossible.
        """
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(self._server.start(), self._loop)
        try:
            return await asyncio.wrap_future(starting)
        except BaseException:
            await self._end()
            raise

    async def stop(self) -> None:
        """Stop listening, close all connections, and end the thread."""
        stopping = asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop)
        await asyncio.wrap_future(stopping)
        await self._end()

    async def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()


def in_program(page: Page, seconds: float, otherwise: Page) -> Page:
    """Return a page that is made in the event loop that runs now. Where that takes longer, the
    answer is `otherwise`, which is made in the thread of the admin address.
    """
    loop = asyncio.get_running_loop()

    async def made() -> Answer:
        making = asyncio.run_coroutine_threadsafe(_made(page), loop)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(making)
        except TimeoutError:
            return await otherwise()

    return made


async def _made(page: Page) -> Answer:
    return await page()
