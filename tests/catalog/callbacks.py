"""A callback of QStash as it is written, and the fields that it becomes."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from hookmill.catalog.qstash import DeliveryFailed
from hookmill.message import Message

POST = '{"event":"post.published","data":{"id":"p1","title":"Grüße 🎈"}}'.encode()
ANSWER = b"the disk is full\n"

WIRE: dict[str, Any] = {
    "status": 507,
    "header": {"Content-Type": ["text/plain"], "Via": ["1.1 a", "1.1 b"]},
    "body": base64.b64encode(ANSWER).decode(),
    "retried": 3,
    "maxRetries": 3,
    "sourceMessageId": "msg_source",
    "topicName": "subscribers",
    "endpointName": "acme",
    "url": "https://acme.example/hook",
    "method": "POST",
    "sourceHeader": {"Content-Type": ["application/json"], "X-Marble-Signature": ["sha256=0"]},
    "sourceBody": base64.b64encode(POST).decode(),
    "notBefore": "1701198458025",
    "createdAt": "1701198447054",
    "scheduleId": "scd_1",
    "callerIP": "192.0.2.1",
}
CREATED = datetime(2023, 11, 28, 19, 7, 27, 54_000, UTC)
FAILED: dict[str, Any] = WIRE | {"dlqId": "1701198460000-0"}


def stored(body: bytes | dict[str, Any]) -> Message:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Message(id="msg_1", source="qstash-callbacks", type="", body=raw, received_ms=0)


def failed(**changed: Any) -> DeliveryFailed:
    return DeliveryFailed.from_message(stored(FAILED | changed))
