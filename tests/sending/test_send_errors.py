"""The error of a request: what it says, and that it shows no secret."""

from __future__ import annotations

import json

import aiohttp
import pytest

from hookmill import (
    HookmillError,
    SendError,
)
from tests.scripted import (
    Scripted,
    raw,
    says,
)
from tests.sending.helpers import (
    POST,
    SECRET,
    THRICE,
    TOKEN,
    URL,
    Open,
    failed,
)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 412, 422])
async def test_a_refusal_is_not_retried_and_carries_the_response(
    sender_to: Open, status: int
) -> None:
    said = json.dumps({"error": f"bad {TOKEN} and {SECRET}" + "x" * 5000})
    async with Scripted([says(status, said)]) as server:
        sender = sender_to(server, secret=SECRET, scheme="marble")
        error = await failed(sender.send(URL, POST, deduplication_id="mine"))

    assert len(server.calls) == 1
    assert (error.status, error.may_be_published, error.deduplication_id) == (status, False, "mine")
    assert error.body.startswith('{"error": "bad [hidden] and [hidden]x')
    assert len(error.body) <= 1000
    assert f"status {status} after 1 attempt" in str(error).replace(",", "")
    assert "nothing was accepted" in str(error)


@pytest.mark.parametrize("filler", [*range(185, 200, 5), *range(975, 1000, 5)])
async def test_not_even_a_part_of_a_secret_is_shown(sender_to: Open, filler: int) -> None:
    said = "x" * filler + TOKEN + SECRET
    async with Scripted([says(400, said), says(400, said[: filler + 12])]) as server:
        sender = sender_to(server, secret=SECRET, scheme="marble")
        for _ in range(2):
            error = await failed(sender.send(URL, POST))
            assert TOKEN[:6] not in f"{error}{error.body}"
            assert SECRET[:6] not in f"{error}{error.body}"


async def test_the_text_of_an_error_obeys_no_subscriber(sender_to: Open) -> None:
    said = "no\x1b[2J\u202e\x9b\n2026-01-01 a line of its own"
    async with Scripted([says(400, said.encode())]) as server:
        error = await failed(sender_to("", direct=True).send(server.base, POST))

    assert str(error).isprintable()
    assert str(error).endswith(r"no\x1b[2J\u202e\x9b\n2026-01-01 a line of its own")
    assert error.body == said  # the field has what was received


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 abc " + SECRET.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + SECRET.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + SECRET.encode() + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
    ids=["status", "header", "chunk", "gzip"],
)
@pytest.mark.parametrize("direct", [False, True])
async def test_a_response_that_is_not_http_shows_nothing_of_the_urls_query(
    sender_to: Open, data: bytes, direct: bool
) -> None:
    async with Scripted([raw(data)] * 3) as server:
        sender = sender_to(server, retry_policy=THRICE, direct=direct)
        url = f"{server.base if direct else URL}?key={SECRET}"
        if direct and b"gzip" in data:
            assert await sender.send(url, POST)  # its status says it all
        else:
            error = await failed(sender.send(url, POST))
            assert "\n" not in str(error)


def test_a_send_error_is_a_hookmill_error_and_aiohttps_errors_are_not() -> None:
    assert issubclass(SendError, HookmillError)
    assert not issubclass(aiohttp.ClientError, HookmillError)
