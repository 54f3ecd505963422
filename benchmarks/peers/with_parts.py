"""The limit of our parts: aiohttp's low-level server on uvloop with our parts in its handler.

There are no limits, no metrics and no log lines. `with_parts.py verify` verifies; `store` makes a
message of the delivery as well and appends it, in batches.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import uvloop
from aiohttp import web

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hookmill.config.settings import load_settings
from hookmill.config.sources import sources_of
from hookmill.message import PACKED_VERSION
from hookmill.signatures import Verified
from hookmill.stream.arrival import Arrival, Row, row_of
from hookmill.stream.client import Client
from hookmill.stream.producer import Producer
from receiver.intake import ReceivedRequest, admit, delivery_of

(source,) = sources_of(load_settings())


class Parts:
    """The handlers, and the messages that wait to be appended."""

    def __init__(self, stream: Producer) -> None:
        self._stream = stream
        self._waiting: list[tuple[Row, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def verify(self, request: web.BaseRequest) -> web.Response:
        delivery = delivery_of(source, await whole(request))
        verdict = source.scheme.verify(delivery, time.time())
        return web.Response(status=200 if isinstance(verdict, Verified) else 401)

    async def store(self, request: web.BaseRequest) -> web.Response:
        admitted = admit(source, await whole(request), time.time())
        if not isinstance(admitted, Arrival):
            return web.Response(status=401)
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append((row_of(admitted, PACKED_VERSION), stored))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await stored
        return web.Response()

    async def _flush(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            await self._stream.append_rows([row for row, _ in group])
            for _, stored in group:
                stored.set_result(None)
        self._flushing = None


async def whole(request: web.BaseRequest) -> ReceivedRequest:
    return ReceivedRequest(
        request.raw_path, request.headers, request.raw_headers, await request.read()
    )


async def main() -> None:
    parts = Parts(Producer(Client(os.environ["REDIS_URL"], "bench")))
    runner = web.ServerRunner(web.Server(getattr(parts, sys.argv[1]), access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["PORT"]), backlog=1024).start()
    await asyncio.Event().wait()


uvloop.run(main())
