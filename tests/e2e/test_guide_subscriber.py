"""A subscriber in Node that follows the guide, without our code, verifies what we sign."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hookmill import Event, RetryPolicy, Sender, SendError
from hookmill.signatures.marble import marble_scheme
from tests.support import MARBLE_SECRET, eventually, signed_headers

NODE = shutil.which("node")
SUBSCRIBER = Path(__file__).parents[2] / "examples" / "subscriber.mjs"
WAIT = 60.0
"""Seconds for the subscriber to start, or to print a line, on a busy machine."""

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
]


class Subscriber:
    """The subscriber as a process. It prints one line for each delivery."""

    def __init__(self, folder: Path, **env: str) -> None:
        self._log = folder / "subscriber.log"
        self._read = 0
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(NODE), str(SUBSCRIBER)],
                env={"PATH": os.environ["PATH"], "PORT": "0", **env},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.url = ""

    async def line(self) -> str:
        """Wait for the next line."""
        await eventually(
            lambda: self._log.read_bytes().count(b"\n") > self._read,
            timeout=WAIT,
            what=f"a line after {self._log.read_text()!r}",
        )
        self._read += 1
        return self._log.read_bytes().split(b"\n")[self._read - 1].decode()

    async def post(self, body: bytes, headers: dict[str, str]) -> int:
        """Post a delivery unchanged; return the status."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url, data=body, headers=headers) as answer,
        ):
            return answer.status


@pytest.fixture
async def subscriber(tmp_path: Path) -> AsyncIterator[Subscriber]:
    running = Subscriber(tmp_path, MARBLE_WEBHOOK_SECRET=MARBLE_SECRET)
    try:
        listening = await running.line()
        assert listening.startswith("listening on "), listening
        running.url = f"http://127.0.0.1:{listening.rpartition(' ')[2]}/hook"
        yield running
    finally:
        running.process.kill()
        running.process.wait()


class Post(Event, tag="post.published"):
    """The guide's event, with the fields that the test needs."""

    id: str
    title: str | None = None


async def send(url: str, data: dict[str, Any], secret: str = MARBLE_SECRET) -> int:
    """Send `post.published` directly; return the subscriber's status."""
    once = RetryPolicy(attempts=1)
    async with Sender(direct=True, scheme="marble", retry_policy=once) as sender:
        try:
            await sender.send(url, Post(**data), secret=secret)
        except SendError as error:
            return error.status or 0
    return 200


@pytest.mark.parametrize(
    "title", ["Hello", "Grüße aus Köln", "🎈👩‍👩‍👧", 'a "quoted" \\ line\n\u2028', ""],
    ids=["ascii", "umlauts", "emoji", "escapes", "empty"],
)  # fmt: skip
async def test_a_delivery_that_we_sign_is_verified_and_read_unchanged(
    subscriber: Subscriber, title: str
) -> None:
    data = {"id": "p1", "title": title}

    assert await send(subscriber.url, data) == 200

    status, event, said = (await subscriber.line()).split(" ", 2)
    assert (status, event, json.loads(said)) == ("200", "post.published", data)


BODY = '{"event":"post.published","data":{"id":"p1","title":"Grüße 🎈"}}'.encode()
RIGHT = signed_headers(marble_scheme([MARBLE_SECRET]), BODY, "/hook")["x-marble-signature"]


async def test_a_changed_or_incomplete_delivery_is_refused(subscriber: Subscriber) -> None:
    genuine = {"x-marble-signature": RIGHT}
    assert RIGHT.startswith("sha256=")
    of_nothing = signed_headers(marble_scheme([MARBLE_SECRET]), b"", "/hook")
    with_time = marble_scheme([MARBLE_SECRET], with_time=True)
    refused: dict[str, tuple[bytes, dict[str, str]]] = {
        "one byte more": (BODY + b" ", genuine),
        "one byte less": (BODY[:-1], genuine),
        "another character": (BODY.replace(b"p1", b"p2"), genuine),
        "parsed and written again": (json.dumps(json.loads(BODY)).encode(), genuine),
        "no body": (b"", genuine),
        "no body, and its own signature": (b"", of_nothing),
        "no header": (BODY, {}),
        "an empty header": (BODY, {"x-marble-signature": ""}),
        "a prefix alone": (BODY, {"x-marble-signature": "sha256="}),
        "no prefix": (BODY, {"x-marble-signature": RIGHT.removeprefix("sha256=")}),
        "a digit less": (BODY, {"x-marble-signature": RIGHT[:-1]}),
        "a digit more": (BODY, {"x-marble-signature": RIGHT + "0"}),
        "no digits": (BODY, {"x-marble-signature": "sha256=" + "ü" * 32}),
        "with a time that is not asked for": (
            BODY,
            signed_headers(with_time, BODY, "/hook"),
        ),
    }
    for case, (body, headers) in refused.items():
        assert await subscriber.post(body, headers) == 401, case
        assert await subscriber.line() == "401 not verified", case

    assert await send(subscriber.url, {"id": "p1"}, secret="another secret of ours") == 401
    assert await subscriber.line() == "401 not verified"
    # It still accepts a genuine delivery.
    assert await subscriber.post(BODY, genuine) == 200
    assert (await subscriber.line()).startswith("200 post.published ")


def test_without_a_secret_it_does_not_start(tmp_path: Path) -> None:
    subscriber = Subscriber(tmp_path)
    assert subscriber.process.wait(WAIT) != 0
    assert "MARBLE_WEBHOOK_SECRET" in (tmp_path / "subscriber.log").read_text()
