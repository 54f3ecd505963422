"""An endpoint on loopback that notes what is delivered to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from hookmill.debug.simulate import ReceiverAnswer, deliver
from hookmill.signatures import Scheme
from hookmill.signatures.marble import marble_scheme
from hookmill.signatures.qstash import QStash
from receiver.intake import ReceivedRequest
from tests.support import CURRENT_KEY, MARBLE_SECRET

MARBLE = marble_scheme([MARBLE_SECRET])


Answerer = Callable[[web.BaseRequest], Awaitable[web.Response]]


def answering(status: int = 200, **response: Any) -> Answerer:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, **response)

    return answer


class Endpoint:
    """A real server that keeps what it is sent and answers as it is told to."""

    def __init__(self) -> None:
        self.requests: list[ReceivedRequest] = []
        self.methods: list[str] = []
        self.answer = answering()
        self.base = ""

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        self.methods.append(request.method)
        self.requests.append(
            ReceivedRequest(request.raw_path, request.headers, request.raw_headers, body)
        )
        return await self.answer(request)

    @property
    def only(self) -> ReceivedRequest:
        (request,) = self.requests
        return request

    def qstash(self) -> QStash:
        """The scheme of a sender that was given this server's URL."""
        return QStash([CURRENT_KEY], public_url=self.base)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    async with RawTestServer(endpoint, host="127.0.0.1") as server:
        endpoint.base = str(server.make_url("")).rstrip("/")
        yield endpoint


async def send(
    endpoint: Endpoint, source: str, body: bytes, path: str = "/hook", **options: Any
) -> ReceiverAnswer:
    scheme: Scheme = endpoint.qstash() if source == "qstash" else MARBLE
    given = {"message_id": "msg_1", **options}
    return await deliver(source, scheme, endpoint.base + path, body, **given)
