"""Callbacks of QStash, from the signed request to a typed handler, with real processes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import redis

from hookmill.debug import simulate
from hookmill.debug.fixtures import qstash_headers
from hookmill.signatures.qstash import QStash
from tests.e2e.line import unfinished
from tests.ports import free_port
from tests.support import CURRENT_KEY, NEXT_KEY, Program, Server, signed_headers, wait_until

HANDLERS = """
import json
import sys

from hookmill import Delivery, Handlers
from hookmill.catalog.marble import PostPublished
from hookmill.catalog.qstash import DeliveryFailed, DeliverySucceeded

handlers = Handlers()


@handlers.on(DeliveryFailed)
async def note(delivery: Delivery[DeliveryFailed]) -> None:
    failed = delivery.event
    post = failed.source_event(PostPublished)
    row = [delivery.id, failed.source_message_id, failed.status, failed.body.decode(), post.title]
    with open("noted.txt", "a") as notes:
        notes.write(json.dumps(row) + "\\n")


@handlers.on(DeliverySucceeded)
def note_success(delivery: Delivery[DeliverySucceeded]) -> None:
    with open("noted.txt", "a") as notes:
        notes.write(json.dumps([delivery.id, "succeeded"]) + "\\n")
"""
TABLE = """
[sources.qstash-callbacks]
ordered_by = "sourceMessageId"
"""
PATH = "/qstash-callbacks"
PUBLISHED = '{"event":"post.published","data":{"id":"p1","title":"Grüße 🎈"}}'.encode()


def callback(**changed: Any) -> bytes:
    said = {
        "status": 500,
        "body": base64.b64encode(b"the disk is full").decode(),
        "retried": 3,
        "maxRetries": 3,
        "sourceMessageId": "msg_source",
        "sourceBody": base64.b64encode(PUBLISHED).decode(),
        "createdAt": "1701198447054",
        "dlqId": "1701198460000-0",
    }
    return json.dumps(said | changed).encode()


class Line(NamedTuple):
    """A receiver's address, folder and environment, and how QStash posts to it."""

    base: str
    folder: Path
    env: dict[str, str]

    async def post(
        self,
        body: bytes,
        message_id: str,
        *,
        signed: bytes | None = None,
        key: str = CURRENT_KEY,
        target: str = PATH,
        token: str = "",
    ) -> int:
        """Post a callback. By default it is genuine. It can be signed with another key, or for
        another body or target.
        """
        signer = QStash([key], public_url=self.base)
        headers = qstash_headers(body, message_id)
        headers |= signed_headers(signer, body if signed is None else signed, target)
        if token:
            headers["Upstash-Signature"] = token
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.base + PATH, data=body, headers=headers) as answer,
        ):
            return answer.status

    @property
    def prefix(self) -> str:
        """The prefix of its keys in Redis."""
        return self.env["HOOKMILL_PREFIX"]

    @property
    def noted(self) -> list[Any]:
        """The lines that the handlers wrote."""
        notes = self.folder / "noted.txt"
        return (
            [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
        )


@pytest.fixture
def line(tmp_path: Path, server: Server, prefix: str) -> Line:
    (tmp_path / "hookmill.toml").write_text(TABLE)
    (tmp_path / "outcomes.py").write_text(HANDLERS)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    env = {
        "REDIS_URL": server.url,
        "PORT": str(port),
        "QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY,
        "QSTASH_NEXT_SIGNING_KEY": NEXT_KEY,
        "HOOKMILL_PUBLIC_URL": base,
        "HOOKMILL_PREFIX": prefix,
    }
    return Line(base, tmp_path, env)


async def test_a_failed_delivery_reaches_its_handler_typed_and_once(
    line: Line, start_program: Callable[..., Program], redis_client: redis.Redis
) -> None:
    receiver = start_program("receiver", env=line.env)
    receiver.wait_for('"receiving"')
    failed, succeeded = callback(), callback(dlqId=None, status=204)

    # Forged: another key, a genuine token with another body, a token for another of our URLs.
    assert await line.post(failed, "msg_f1", key="sig_strange") == 401
    assert await line.post(failed, "msg_f2", signed=succeeded) == 401
    assert await line.post(failed, "msg_f3", target="/qstash") == 401
    assert not redis_client.keys(f"{line.prefix}:*")

    assert await line.post(failed, "msg_1", key=NEXT_KEY) == 200
    assert await line.post(failed, "msg_1") == 200  # a duplicate, with a new token
    token = signed_headers(QStash([CURRENT_KEY], public_url=line.base), succeeded, PATH)
    again = token["Upstash-Signature"]
    assert await line.post(succeeded, "msg_2", token=again) == 200
    assert await line.post(succeeded, "msg_3", token=again) == 401  # the same token with another ID

    # The same as `hookmill send --source qstash-callbacks`.
    made = await simulate.deliver(
        "qstash-callbacks",
        QStash([CURRENT_KEY], public_url=line.base),
        line.base + PATH,
        message_id="msg_4",
        event_type="delivery.succeeded",
    )
    assert made.status == 200

    worker = start_program("worker", "outcomes:handlers", env=line.env)
    wait_until(lambda: len(line.noted) >= 3, what="three handled callbacks", timeout=60)
    wait_until(
        lambda: unfinished(redis_client, line.prefix, 1, trimmed=False) == 0,
        what="settled messages",
        timeout=60,
    )
    worker.wait_for("duplicate dropped")
    assert [receiver.stop(), worker.stop()] == [0, 0]

    other = ["msg_4", "succeeded"]
    assert line.noted.count(other) == 1
    # These two keep the order of their arrival, because they belong to one message.
    assert [row for row in line.noted if row != other] == [
        ["msg_1", "msg_source", 500, "the disk is full", "Grüße 🎈"],
        ["msg_2", "succeeded"],
    ]
    assert worker.log.count("duplicate dropped") == 1
    codes = [json.loads(row).get("code") for row in receiver.log.splitlines() if "refused" in row]
    assert codes[:3] == ["signature_mismatch", "body_mismatch", "wrong_url"]
    assert "Traceback" not in receiver.log + worker.log
