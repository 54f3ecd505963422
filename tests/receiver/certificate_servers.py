"""The senders' side of certificates: an HTTPS server with their names, and its answers."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from hookmill.signatures.scheme import Signed
from receiver.certificates import Certificates
from tests.authority import Issuer, rsa_key, server_context
from tests.signatures import sns_messages as sns
from tests.support import Clock

NAMES = (sns.HOST, "api.paypal.com", "api.sandbox.paypal.com")
URL = sns.URL
TLS = Issuer("TLS", time.time())  # TLS clients use the clock of the machine
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Loopback(AbstractResolver):
    """Resolves every host to our server, and notes the hosts."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.asked: list[str] = []

    async def resolve(
        self,
        host: str,
        port: int = 0,  # noqa: ARG002 - aiohttp's
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - aiohttp's
    ) -> list[ResolveResult]:
        self.asked.append(host)
        return [
            ResolveResult(
                hostname=host,
                host="127.0.0.1",
                port=self._port,
                family=socket.AF_INET,
                proto=0,
                flags=0,
            )
        ]

    async def close(self) -> None:
        pass


class World:
    """The side of the senders: an HTTPS server, its answers, and the requests it got."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runners: list[web.ServerRunner] = []
        self._made: list[Certificates] = []
        self.requests: list[str] = []
        self.clock = Clock()
        self.over = asyncio.Event()
        self.answers: dict[str, Answer] = {}
        self.resolver = Loopback(0)

    async def serve(self, names: Sequence[str] = NAMES, issuer: Issuer = TLS) -> None:
        key = rsa_key("tls")
        runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        self._runners.append(runner)
        context = server_context(self._folder, issuer.issue(names, key), key)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        self.resolver = Loopback(int(runner.addresses[0][1]))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        url = f"https://{request.host}{request.raw_path}"
        self.requests.append(url)
        assert request.headers["Accept-Encoding"] == "identity"
        answer = self.answers.get(url)
        return await answer(request) if answer else web.Response(status=404)

    def publish(self, url: str, body: bytes, status: int = 200, headers: Any = None) -> None:
        async def answer(_request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(body=body, status=status, headers=headers)

        self.answers[url] = answer

    def certificates(self, trusted: Issuer = TLS) -> Certificates:
        context = ssl.create_default_context(cadata=trusted.pem.decode())
        made = Certificates(self.resolver, context, self.clock)
        self._made.append(made)
        return made

    async def hang(self, _request: web.BaseRequest) -> web.StreamResponse:
        await self.over.wait()
        return web.Response()

    async def close(self) -> None:
        self.over.set()
        for made in self._made:
            await made.close()
        for runner in self._runners:
            await runner.cleanup()


def notification(**changes: Any) -> Signed:
    return sns.delivery(sns.sign(sns.message(**changes)))
