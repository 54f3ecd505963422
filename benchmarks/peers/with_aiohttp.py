"""The limit: aiohttp's low-level server on uvloop only reads the body and answers."""

from __future__ import annotations

import asyncio
import os

import uvloop
from aiohttp import web


async def answer(request: web.BaseRequest) -> web.Response:
    await request.read()
    return web.Response()


async def main() -> None:
    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["PORT"]), backlog=1024).start()
    await asyncio.Event().wait()


uvloop.run(main())
