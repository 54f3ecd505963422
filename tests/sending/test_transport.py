"""Requests that fail: which are retried, and what is known afterwards."""

from __future__ import annotations

import asyncio
import time

import pytest

from hookmill import (
    Published,
    RetryPolicy,
    SendError,
)
from hookmill.sending import qstash_client
from tests.ports import free_port
from tests.scripted import (
    Scripted,
    Step,
    cut,
    garbage,
    half,
    raw,
    says,
    silent,
)
from tests.sending.helpers import (
    IMPATIENT,
    POST,
    THRICE,
    URL,
    Open,
    failed,
)
from tests.support import eventually


@pytest.mark.parametrize(
    "steps",
    [
        ["cut unread"],
        [cut],
        [half],
        [says(500, "oops")],
        [says(503, "", Retry_After="0")],
        [says(429, "", Burst_RateLimit_Reset="0")],
        [says(429, "slow down")],
        [garbage(b"")],
        [garbage(b"<html>")],
        [garbage(b'{"message":"ok"}')],
        [garbage(b"[]")],
        [garbage(b'{"messageId":5}')],
        [raw(b"SMTP ready\r\n")],
        ["cut unread", cut, says(500)],
        [cut, half, garbage(b"null")],
    ],
    ids=lambda steps: "+".join(getattr(one, "__name__", str(one)) for one in steps),
)
async def test_whatever_breaks_in_between_it_is_published_once(
    sender_to: Open, steps: list[Step | str]
) -> None:
    async with Scripted(steps) as server:
        published = await sender_to(server).send(URL, POST)

    assert list(server.published) == [published.deduplication_id]
    assert published.message_id == "msg_0"
    assert not server.steps


async def test_an_attempt_that_takes_too_long_is_retried_and_the_message_published_once(
    sender_to: Open,
) -> None:
    async with Scripted([silent]) as server:
        sender = sender_to(server, retry_policy=RetryPolicy(total=1, first_pause=0.01))
        published = await sender.send(URL, POST)

    assert list(server.published) == [published.deduplication_id]


@pytest.mark.parametrize(
    ("step", "status", "says_why"),
    [
        ("cut unread", None, "the connection was lost"),
        (cut, None, "the connection was lost"),
        (half, None, "the connection was lost"),
        (says(500, "oops"), 500, "status 500"),
        (garbage(b"<html>"), 200, "the response cannot be read"),
        (raw(b"SMTP ready\r\n"), None, "the connection was lost"),
        (silent, None, "no response within"),
    ],
    ids=["cut unread", "cut", "half", "500", "garbage", "no HTTP", "silent"],
)
async def test_after_the_last_attempt_the_error_says_that_it_may_be_published(
    sender_to: Open, step: Step | str, status: int | None, says_why: str
) -> None:
    async with Scripted([step] * 3) as server:
        retry_policy = IMPATIENT if step is silent else THRICE
        error = await failed(sender_to(server, retry_policy=retry_policy).send(URL, POST))

    assert error.may_be_published
    assert error.status == status
    assert says_why in str(error)
    assert "after 3 attempts; it may have been accepted" in str(error)
    assert error.deduplication_id is not None
    assert len(server.published) <= 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_because_it_would_send_the_token_elsewhere(
    sender_to: Open, status: int
) -> None:
    async with Scripted() as other, Scripted([says(status, Location=other.base)]) as server:
        error = await failed(sender_to(server).send(URL, POST))

    assert other.calls == []
    assert len(server.calls) == 1
    assert (error.status, error.may_be_published) == (status, False)


async def test_after_a_lost_response_a_refusal_still_says_that_it_may_be_published(
    sender_to: Open,
) -> None:
    async with Scripted([cut, says(401)]) as server:
        error = await failed(sender_to(server).send(URL, POST))

    assert (error.status, error.may_be_published) == (401, True)
    assert list(server.published) == [error.deduplication_id]


async def test_without_a_server_nothing_is_published(sender_to: Open) -> None:
    sender = sender_to(f"http://127.0.0.1:{free_port()}")
    error = await failed(sender.send(URL, POST))
    assert (error.status, error.may_be_published) == (None, False)
    assert "Cannot connect to host 127.0.0.1" in str(error)
    assert "after 4 attempts; nothing was accepted" in str(error)


async def test_sending_again_with_the_errors_id_does_not_publish_twice(sender_to: Open) -> None:
    async with Scripted([cut] * 3) as server:
        sender = sender_to(server, retry_policy=THRICE)
        error = await failed(sender.send(URL, POST))
        published = await sender.send(URL, POST, deduplication_id=error.deduplication_id)

    assert published == Published("msg_0", True, error.deduplication_id, URL)
    assert len(server.published) == 1


@pytest.mark.parametrize("limit", ["RateLimit", "Burst-RateLimit"])
async def test_a_limit_longer_than_our_patience_is_an_error_at_once_with_its_end(
    sender_to: Open, limit: str
) -> None:
    reset = int(time.time()) + 300
    headers = {f"{limit}-Limit": "500", f"{limit}-Remaining": "0", f"{limit}-Reset": str(reset)}
    async with Scripted([says(429, "exceeded", **headers)]) as server:
        error = await failed(sender_to(server).send(URL, POST))

    assert len(server.calls) == 1
    assert (error.status, error.may_be_published) == (429, False)
    assert error.resets_at is not None
    assert abs(error.resets_at.timestamp() - reset) < 60
    assert f"{error.resets_at:%Y-%m-%d %H:%M}" in str(error)


async def test_no_attempt_starts_when_qstash_may_have_forgotten_the_id(sender_to: Open) -> None:
    # The pause would end beyond the ten minutes in which QStash knows the ID.
    patient = RetryPolicy(patience=3600)
    async with Scripted([cut, says(429, "", Retry_After="600")]) as server:
        sender = sender_to(server, retry_policy=patient)
        error = await failed(sender.send(URL, POST))

    assert len(server.calls) == 2
    assert error.may_be_published


async def test_no_attempt_starts_after_this_process_was_stopped_for_too_long(
    sender_to: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qstash_client, "DEDUPLICATION_WINDOW", 3.0)
    retry_policy = RetryPolicy(total=1, patience=5, first_pause=0)
    async with Scripted([says(503, Retry_After="1")]) as server:
        sending = asyncio.create_task(sender_to(server, retry_policy=retry_policy).send(URL, POST))
        await eventually(lambda: server.calls, what="the request")
        await asyncio.sleep(0.2)  # whether it has got its answer by then changes nothing
        time.sleep(3)  # noqa: ASYNC251 - nothing goes on, as when a process is stopped
        error = await failed(sending)

    assert len(server.calls) == 1
    assert error.deduplication_id is not None


async def test_cancelling_ends_a_sending_at_once(sender_to: Open) -> None:
    async with Scripted([silent]) as server:
        sending = asyncio.create_task(sender_to(server).send(URL, POST))
        await eventually(lambda: server.calls, what="the request")
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert len(server.calls) == 1


async def test_one_slow_host_does_not_keep_another_waiting(sender_to: Open) -> None:
    impatient = RetryPolicy(attempts=1, connect=60, total=100)
    async with Scripted([silent] * 100) as slow, Scripted() as quick:
        sender = sender_to("", direct=True, retry_policy=impatient)
        sending = [asyncio.create_task(sender.send(slow.base, POST)) for _ in range(100)]
        await eventually(lambda: len(slow.calls) == 100, timeout=60, what="100 requests")
        await sender.send(quick.base, POST)
        await sender.close()
        assert all(
            isinstance(one, SendError)
            for one in await asyncio.gather(*sending, return_exceptions=True)
        )
