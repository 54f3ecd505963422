"""Shared by the sender's tests: an event, secrets, retry policies, and a way to catch an error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hookmill import (
    Event,
    RetryPolicy,
    Sender,
    SendError,
)
from hookmill.signatures import Signed
from tests.scripted import Call

TOKEN = "token_5d1f0c9a7d3e2468"

SECRET = "subscribers_own_secret"

WHSEC = "whsec_c3Vic2NyaWJlcnMgb3duIHNlY3JldA=="

URL = "https://app.example/hook"

QUICK = RetryPolicy(attempts=4, total=20, first_pause=0.01, longest_pause=0.02, patience=5)

THRICE = RetryPolicy(attempts=3, first_pause=0.01, longest_pause=0.02)

IMPATIENT = RetryPolicy(attempts=3, total=0.3, first_pause=0.01, longest_pause=0.02)


class PostPublished(Event, tag="post.published"):
    id: str
    title: str = ""


POST = PostPublished(id="1", title="ä")

Open = Callable[..., Sender]


async def failed(sending: Awaitable[Any]) -> SendError:
    """The error of a sending, which shows neither the token nor the secret."""
    with pytest.raises(SendError) as caught:
        await sending
    error = caught.value
    said = f"{error!r}{error}{error.body}{error.__dict__}"
    assert TOKEN not in said
    assert SECRET not in said
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    return error


def received(call: Call) -> Signed:
    """What the subscriber gets of what was published: QStash hands body and headers through."""
    headers = call.headers.copy()
    prefix = "upstash-forward-"
    for name, value in call.headers.items():
        if name.lower().startswith(prefix):
            headers[name[len(prefix) :]] = value
    url = call.target.removeprefix("/v2/publish/").partition("#")[0]
    return Signed(headers, call.body, url.removeprefix("https://app.example"), "POST", url)
