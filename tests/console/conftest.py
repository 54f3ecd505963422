"""Consoles to look at: each a real HTTP server over a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from hookmill.config.settings import Settings
from hookmill.console.app import serving
from tests.console.browsing import OPERATOR, READER, Browser
from tests.given_up import emptied, give_up

__all__ = ["emptied", "give_up"]

OpenConsole = Callable[..., Awaitable[Browser]]


@pytest.fixture
async def console(settings: Callable[..., Settings]) -> AsyncIterator[OpenConsole]:
    """Serve a console, and return a browser on it: `await console(console_token="...")`."""
    async with AsyncExitStack() as stack:

        async def start(**fields: Any) -> Browser:
            port, running = await stack.enter_async_context(
                serving(settings(console_port=0, **fields))
            )
            jar = aiohttp.CookieJar(unsafe=True)  # that of an IP address, too
            http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
            return Browser(http, f"http://127.0.0.1:{port}", running)

        yield start


@pytest.fixture
async def operator(console: OpenConsole) -> Browser:
    """A browser that has logged in as an operator."""
    browser = await console(console_token=OPERATOR, console_reader_token=READER)
    await browser.log_in(OPERATOR, "Ada")
    return browser
