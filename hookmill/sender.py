"""Signs and posts a delivery exactly as a sender would: for trying one's own endpoint.

The only module of the contract that uses aiohttp's client.
"""

from __future__ import annotations

import time
import uuid
from typing import Any, NamedTuple

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from hookmill.errors import HookmillError
from hookmill.signatures import Scheme, Signed

TIMEOUT = 30.0
"""Seconds one delivery may take."""


class SendError(HookmillError):
    """A delivery could not be handed over: it cannot be sent as it is, or nobody answered."""

    code = "send"


class Answer(NamedTuple):
    """What the endpoint said: status, and the beginning of its text."""

    status: int
    text: str


def qstash_headers(body: bytes, message_id: str) -> dict[str, str]:
    """Return the headers QStash sends beside its signature."""
    return {
        "Content-Type": "application/json" if _fields_of(body) is not None else "text/plain",
        "User-Agent": "Upstash-QStash",
        "Upstash-Message-Id": message_id,
        "Upstash-Retried": "0",
        "Upstash-Region": "EU-CENTRAL-1",
    }


def marble_headers(body: bytes, message_id: str) -> dict[str, str]:
    """Return the headers Marble sends beside its signature; they repeat what the body says.

    Its older generation, recognised by the body, came through QStash.
    """
    fields = _fields_of(body) or {}
    if "event" in fields:
        return qstash_headers(body, message_id)
    return {
        "Content-Type": "application/json",
        "User-Agent": "Marble-Webhooks/1.0",
        "x-marble-event": str(fields.get("type", "")),
        "x-marble-event-id": str(fields.get("id", message_id)),
        "x-marble-delivery-id": f"whd_{message_id}",
        "x-marble-timestamp": str(int(time.time())),
    }


HEADERS_OF = {"qstash": qstash_headers, "marble": marble_headers}


def fresh_message_id() -> str:
    """Make a message ID as a sender would."""
    return f"msg_{uuid.uuid4().hex}"


async def deliver(
    source: str, scheme: Scheme, url: str, body: bytes, *, message_id: str, forged: bool = False
) -> Answer:
    """Sign `body` and post it to `url` as `source` does. `forged` changes it after signing.

    The scheme must know the URL's base as its public URL. Raises `SendError`.
    """
    try:
        base = URL(url, encoded=True)
        headers = CIMultiDict(HEADERS_OF[source](body, message_id))
        delivery = Signed(headers, body, base.raw_path_qs, url=url)
        signed = scheme.sign(delivery, time.time())
        sent = signed.body + b" " if forged else signed.body
        # As it was written: only a sender that signs its URL puts something behind it.
        target = URL(url + signed.target.removeprefix(delivery.target), encoded=True)
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session,
            # A redirect is the endpoint's answer: followed, it would be a GET of another place.
            session.post(
                target, data=sent, headers=signed.headers, allow_redirects=False
            ) as response,
        ):
            text = (await response.content.read(1000)).decode("utf-8", "replace")
            return Answer(response.status, text.strip())
    except (aiohttp.ClientError, TimeoutError) as error:
        raise SendError(f"{url}: {str(error) or type(error).__name__}") from None
    except ValueError as error:  # a URL or a header that HTTP has no form for
        raise SendError(f"{url}: {error}") from None


async def answers(url: str) -> bool:
    """Say whether a GET of `url` is answered with 200."""
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def _fields_of(body: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
