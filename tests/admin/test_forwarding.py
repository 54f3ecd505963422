"""Deliveries are sent on to a local program as they came, once each and in their order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from hookmill.admin import forwarding
from hookmill.admin.forwarding import Forwarder, ForwardRefusedError, Sent
from hookmill.admin.tailing import Wanted
from hookmill.config.settings import Settings
from hookmill.config.source_options import SourceOptions
from hookmill.config.sources import sources_of
from hookmill.signatures import Signed
from hookmill.signatures.scheme import Verified
from hookmill.stream.producer import Producer
from hookmill.stream.redactions import Redactions
from tests.ports import free_port
from tests.support import message


class Got(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


class Program:
    """A program that keeps what it gets, and answers with `status`."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.url = ""
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        await self.may_answer.wait()
        self.got.append(Got(request.raw_path, dict(request.headers), body))
        return web.Response(status=self.status, headers=self.headers)


@pytest.fixture
async def program() -> AsyncIterator[Program]:
    made = Program()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    async with TestServer(app) as server:
        made.url = str(server.make_url("/")).rstrip("/")
        yield made
        made.may_answer.set()


Forward = Callable[..., Any]


@pytest.fixture
def forward(stream: Producer, settings: Callable[..., Settings]) -> Forward:
    """Send on all that there is, and return what became of it."""

    async def forward_all(
        url: str, fields: dict[str, Any] | None = None, source: str | None = None, **options: Any
    ) -> list[Sent]:
        given = settings(**(fields or {}))
        wanted = Wanted(source=source)
        forwarder = Forwarder(stream.client, given, url, wanted, **options)
        await forwarder.start(since_ms=0)
        try:
            return [sent async for sent in forwarder.look()]
        finally:
            await forwarder.close()

    return forward_all


async def test_each_delivery_comes_as_it_was_and_in_the_order_of_the_stream(
    stream: Producer, program: Program, forward: Forward
) -> None:
    headers = b"Content-Type: text/x\r\nX-Twice: 1\r\nUser-Agent: the sender\r\nHost: evil.example"
    await stream.append(
        [
            message(b"\xff\x00 raw", id="1", source="shop", type="a", header_block=headers),
            message(b"second", id="2", source="bank"),
        ]
    )
    program.status = 418
    sent = await forward(program.url, {"sources": {"bank": SourceOptions(path="/in/bank")}})
    assert [(got.path, got.body) for got in program.got] == [
        ("/shop", b"\xff\x00 raw"),
        ("/in/bank", b"second"),
    ]
    first = program.got[0].headers
    assert first.pop("Host") != "evil.example"
    assert first == {
        "Content-Type": "text/x",
        "X-Twice": "1",
        "User-Agent": "the sender",
        "Content-Length": "6",
    }
    assert [(one.status, one.source, one.type, one.message_id) for one in sent] == [
        (418, "shop", "a", "1"),
        (418, "bank", "", "2"),
    ]


async def test_a_path_of_the_url_counts_for_all_sources_and_no_redirect_is_followed(
    stream: Producer, program: Program, forward: Forward
) -> None:
    await stream.append([message(source="shop"), message(source="bank")])
    program.status, program.headers = 307, {"Location": f"{program.url}/elsewhere"}
    await forward(f"{program.url}/hook", source="shop")
    assert [got.path for got in program.got] == ["/hook"]


async def test_a_delivery_can_be_signed_anew(
    stream: Producer,
    program: Program,
    forward: Forward,
    settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_SECRET", "a secret of development")
    table = {"preset": "github", "secrets": [{"env": "SHOP_SECRET"}]}
    fields = {"sources": {"shop": SourceOptions.model_validate(table)}}
    old = b"X-Hub-Signature-256: sha256=00\r\nX-GitHub-Event: push"
    await stream.append([message(source="shop", header_block=old), message(source="sns")])
    sent = await forward(program.url, fields, signs=True)
    assert sent[0].status == 200
    assert sent[1].error.startswith("it cannot be signed: sns signs with a certificate")
    (got,) = program.got
    (source,) = sources_of(settings(**fields))
    from multidict import CIMultiDict  # noqa: PLC0415 - one use

    delivery = Signed(CIMultiDict(got.headers), got.body, got.path)
    assert isinstance(source.scheme.verify(delivery, 0.0), Verified)


async def test_what_a_source_redacts_is_not_sent_on(
    stream: Producer, program: Program, forward: Forward
) -> None:
    await Redactions(stream.client).note({"shop": ("email",)})
    await stream.append([message(source="shop"), message(source="bank")])
    sent = await forward(program.url)
    assert [got.path for got in program.got] == ["/bank"]
    assert sent[0].error == "source shop redacts fields, so its deliveries are not sent on"
    with pytest.raises(ForwardRefusedError, match="source shop redacts fields"):
        await forward(program.url, source="shop")


async def test_a_program_that_is_dead_or_hangs_costs_a_line_each_and_nothing_is_tried_again(
    stream: Producer, program: Program, forward: Forward, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stream.append([message(), message(header_block=b"X-A: a\x00b")])
    sent = await forward(f"http://127.0.0.1:{free_port()}")
    assert [one.status for one in sent] == [None, None]
    assert "Cannot connect" in sent[0].error

    sent = await forward(program.url)
    assert sent[0].status == 200
    assert sent[1].error.startswith("it cannot be sent: ")

    monkeypatch.setattr(forwarding, "TIMEOUT", 0.1)
    program.may_answer.clear()
    sent = await forward(program.url)
    assert sent[0].error == "no answer within 0.1 s"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "http://10.0.0.1:3000",
        "http://127.0.0.1.example",
        "http://localhost.x",
    ],
)
async def test_another_machine_gets_nothing_unless_that_is_said(url: str, forward: Forward) -> None:
    with pytest.raises(ForwardRefusedError, match="is on another machine"):
        await forward(url)
    assert await forward(url, anywhere=True) == []


@pytest.mark.parametrize("url", ["", "localhost:3000", "ftp://localhost", "http://localhost?a=1"])
async def test_what_is_no_url_is_refused(url: str, forward: Forward) -> None:
    with pytest.raises(ForwardRefusedError, match="give an http or https URL"):
        await forward(url)


@pytest.mark.parametrize("url", ["http://localhost:1", "http://127.9.9.9", "https://[::1]:1/a"])
async def test_this_machine_has_several_names(url: str, forward: Forward) -> None:
    assert await forward(url) == []
