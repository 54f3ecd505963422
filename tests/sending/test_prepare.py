"""A message that cannot be sent is refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from hookmill import (
    Event,
    Outgoing,
    Published,
    SendError,
)
from tests.scripted import Scripted
from tests.sending.helpers import (
    POST,
    SECRET,
    URL,
    WHSEC,
    Open,
    failed,
)


async def test_an_empty_secret_is_refused_and_nothing_is_sent_unsigned(sender_to: Open) -> None:
    async with Scripted() as server:
        for given in ({}, {"secret": SECRET, "scheme": "marble"}):
            sender = sender_to(server, **given)
            for options in ({"secret": ""}, {"scheme": ""}, {"secret": "", "scheme": "marble"}):
                error = await failed(sender.send(URL, POST, **options))  # type: ignore[arg-type] # several options
                assert not error.may_be_published
    assert server.calls == []


async def test_an_invalid_secret_or_scheme_is_the_error_of_one_message(sender_to: Open) -> None:
    wrong: list[Any] = [{"secret": b"bytes"}, {"scheme": ["marble"], "secret": SECRET}]
    async with Scripted() as server:
        sender = sender_to(server)
        results = await sender.send_many(
            [*(Outgoing(URL, POST, **{"scheme": "marble", **one}) for one in wrong),
             Outgoing(URL, POST)]
        )  # fmt: skip
    assert [type(one) for one in results] == [SendError, SendError, Published]


async def test_a_message_that_cannot_be_sent_is_refused_before_anything_is_sent(
    sender_to: Open,
) -> None:
    async with Scripted() as server:
        sender = sender_to(server)
        for sending in (
            sender.send("ftp://app.example", POST),
            sender.send(URL, POST, delay="soon"),
            sender.send(URL, POST, secret=SECRET, scheme="nobody"),
            sender.send(URL, POST, secret=SECRET),
            sender.send(URL, POST, scheme="marble"),
            sender.send(URL, POST, secret="not base64!", scheme="standard-webhooks"),
            sender.send(URL, POST, secret=SECRET, scheme="discord"),
            sender.send(URL, Event()),
            sender.send(URL, {"a": object()}),
            sender.send(URL, POST, content_based_deduplication=True),
            sender.send(URL, b"raw", secret=SECRET, scheme="linear"),
            sender.send(URL, bytearray(b"{}"), secret=SECRET, scheme="linear"),  # type: ignore[arg-type] # not its type, but bytes
            sender.send(
                URL, b"", secret=WHSEC, scheme="standard-webhooks", deduplication_id="a.b"
            ),
            sender.send(URL, POST, secret=SECRET, scheme="marble",
                        headers={"X-Marble-Signature": "sha256=0"}),
            sender.send(URL, POST, secret=WHSEC, scheme="standard-webhooks",
                        headers={"Webhook-Id": "7"}),
            sender.send_to_group("https://a.example", POST),
            sender.send_to_group("g", POST, secret=SECRET, scheme="square"),
            sender.enqueue("a/../b", URL, POST),
            sender.schedules.create(URL, POST, cron=""),
            sender.schedules.create(URL, POST, cron="* * * * *", schedule_id="../x"),
            sender.schedules.create(URL, POST, cron="* * * * *", secret=SECRET, scheme="stripe"),
            sender.schedules.get("a/b"),
        ):  # fmt: skip
            error = await failed(sending)
            assert not error.may_be_published, error
            assert error.status is None
        with pytest.raises(TypeError, match="dealy"):
            await sender.send(URL, POST, dealy=5)  # type: ignore[call-arg]
    assert server.calls == []


async def test_content_is_compared_where_it_can_be_equal(sender_to: Open) -> None:
    async with Scripted() as server:
        published = await sender_to(server, secret=SECRET, scheme="marble").send(
            URL, POST, content_based_deduplication=True
        )

    assert server.only.headers["Upstash-Content-Based-Deduplication"] == "true"
    assert "Upstash-Deduplication-Id" not in server.only.headers
    assert published.deduplication_id is None
