"""The limit: aiohttp's low-level server on uvloop only reads the body and answers."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import uvloop
from aiohttp import web

BODY_LIMIT = 64 * 1024 * 1024


async def answer(request: web.BaseRequest) -> web.Response:
    await request.read()
    return web.Response()


def request_of(
    message: Any, payload: Any, protocol: Any, writer: Any, task: Any
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(
        message, payload, protocol, writer, task, loop, client_max_size=BODY_LIMIT
    )


async def main() -> None:
    server = web.Server(answer, request_factory=request_of, access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["PORT"]), backlog=1024).start()
    await asyncio.Event().wait()


uvloop.run(main())
