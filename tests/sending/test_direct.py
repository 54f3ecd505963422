"""Direct delivery: the same messages without QStash."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime

import pytest

from hookmill import (
    FlowControl,
    Outgoing,
    Published,
    SendError,
)
from hookmill.signatures import Signed, Verified
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec_verifier import SpecVerifier
from tests.scripted import (
    Scripted,
    cut,
    says,
    silent,
)
from tests.sending.helpers import (
    POST,
    SECRET,
    URL,
    WHSEC,
    Open,
    failed,
)


async def test_direct_delivery_posts_to_the_url_itself_signed_for_each_attempt(
    sender_to: Open,
) -> None:
    async with Scripted([says(503), cut, says(204)]) as server:
        sender = sender_to("", direct=True, secret=WHSEC, scheme="standard-webhooks")
        url = f"{server.base}/hook/../x?a=%2F#frag"
        published = await sender.send(url, POST, headers={"X-A": "1"})

    assert published == Published(
        str(published.deduplication_id), False, published.deduplication_id, url
    )
    for call in server.calls:
        assert (call.method, call.target) == ("POST", "/hook/../x?a=%2F")
        assert call.headers["webhook-id"] == published.deduplication_id
        assert call.headers["X-A"] == "1"
        assert not [name for name in call.headers if name.lower().startswith(("upstash", "auth"))]
        delivery = Signed(call.headers, call.body)
        scheme = SpecVerifier(PRESETS["standard-webhooks"].spec, [WHSEC])
        assert scheme.verify(delivery, time.time()) == Verified(0)
    assert len({call.body for call in server.calls}) == 1


async def test_direct_delivery_sends_its_id_in_the_header_that_subscribers_read(
    sender_to: Open,
) -> None:
    async with Scripted([cut, says(200)]) as server:
        sender = sender_to("", direct=True, secret=SECRET, scheme="marble")
        published = await sender.send(server.base, POST)

    ids = [call.headers["Upstash-Message-Id"] for call in server.calls]
    assert ids == [published.message_id] * 2


async def test_direct_delivery_keeps_to_the_given_retries_and_timeout(
    sender_to: Open,
) -> None:
    async with Scripted([says(500)] * 2 + [silent]) as server:
        sender = sender_to("", direct=True)
        error = await failed(sender.send(server.base, POST, retries=1))
        assert len(server.calls) == 2
        assert "after 2 attempts" in str(error)
        error = await failed(sender.send(server.base, POST, retries=0, timeout=1))
    assert "no response within 1 s" in str(error)


async def test_a_request_that_may_have_counted_is_never_retried_unnoticed(sender_to: Open) -> None:
    # aiohttp itself sends a PUT again if a connection that it kept is closed.
    async with Scripted([says(200), cut, says(403)]) as server:
        sender = sender_to("", direct=True)
        await sender.send(server.base, POST)
        error = await failed(sender.send(server.base, POST, method="PUT"))

    assert [call.method for call in server.calls] == ["POST", "PUT", "PUT"]
    assert "after 2 attempts" in str(error)
    assert error.may_be_published


async def test_a_username_and_password_in_a_url_are_used_and_never_shown(
    sender_to: Open,
) -> None:
    async with Scripted([says(200), says(403)]) as server:
        sender, url = sender_to("", direct=True), server.base.replace("//", f"//u:{SECRET}@")
        await sender.send(f"{url}/a/../b?c=%2F", POST)
        error = await failed(sender.send(f"{url}?t={SECRET}", POST))

    assert server.calls[0].target == "/a/../b?c=%2F"
    assert server.calls[0].headers["Authorization"].startswith("Basic ")
    assert f"delivering to {server.base}?..." in str(error)


async def test_direct_delivery_of_several_reports_each(sender_to: Open) -> None:
    async with Scripted() as server, Scripted([says(410, "gone")] * 9) as gone:
        results = await sender_to("", direct=True).send_many(
            [Outgoing(server.base, POST), Outgoing(gone.base, POST), Outgoing(server.base, POST)]
        )
    assert [type(one) for one in results] == [Published, SendError, Published]


@pytest.mark.parametrize("status", [200, 400])
async def test_a_subscriber_that_answers_without_an_end_costs_the_beginning_of_its_answer(
    sender_to: Open, status: int
) -> None:
    written, is_closed = 0, asyncio.Event()

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        head = f"HTTP/1.1 {status} x\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                await writer.drain()
                written += 0x10000
        is_closed.set()

    async with await asyncio.start_server(endless, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        sending = sender_to("", direct=True).send(url, POST, retries=0)
        if status == 200:
            await sending
        else:
            assert len((await failed(sending)).body) <= 1000
        await is_closed.wait()
    assert written < 32 * 1024 * 1024  # what the buffers of both sockets hold


async def test_direct_delivery_refuses_what_only_qstash_can_do(sender_to: Open) -> None:
    async with Scripted() as server:
        sender, url = sender_to("", direct=True), server.base
        for sending in (
            sender.send(url, POST, delay=5),
            sender.send(url, POST, not_before=datetime.now(UTC)),
            sender.send(url, POST, callback=URL),
            sender.send(url, POST, failure_callback=URL),
            sender.send(url, POST, retry_delay="1000"),
            sender.send(url, POST, flow_control=FlowControl(key="k", rate=1)),
            sender.send(url, b"", content_based_deduplication=True),
            sender.enqueue("q", url, POST),
            sender.send_to_group("g", POST),
            sender.schedules.create(url, POST, cron="* * * * *"),
            sender.schedules.list(),
        ):
            error = await failed(sending)
            assert "only QStash" in str(error)
            assert not error.may_be_published
        await sender.send(url, POST, label="one")  # its log is not there, and nothing is lost
    assert len(server.calls) == 1
