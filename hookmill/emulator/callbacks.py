"""What QStash reports of an attempt, and of a message that it gave up: messages of their own."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from hookmill.emulator.models import Answer, Callback, Headers, Message, Template


def template_of(callback: Callback, message: Message, answer: Answer, dlq_id: str) -> Template:
    """Return what a callback delivers. `dlq_id`: "" unless the message was given up."""
    return Template(
        method=callback.method,
        headers=(("Content-Type", "application/json"), *callback.headers),
        body=body_of(message, answer, dlq_id),
        retries=callback.retries,
        retry_delay=callback.retry_delay,
        timeout=callback.timeout,
        caller_ip=message.template.caller_ip,
    )


def body_of(message: Message, answer: Answer, dlq_id: str) -> bytes:
    """Return the body of a callback as QStash writes it."""
    said: dict[str, Any] = {
        "status": answer.status,
        "header": by_name(answer.headers),
        "body": _base64(answer.body or answer.error.encode()),
        "retried": message.retried,
        "maxRetries": message.template.retries,
        "sourceMessageId": message.id,
        "topicName": message.topic,
        "endpointName": message.endpoint,
        "url": message.url,
        "method": message.template.method,
        "sourceHeader": by_name(message.template.headers),
        "sourceBody": _base64(message.template.body),
        "notBefore": str(message.not_before_ms),
        "createdAt": str(message.created_ms),
        "scheduleId": message.schedule_id,
        "callerIP": message.template.caller_ip,
    }
    if dlq_id:
        said["dlqId"] = dlq_id
    return msgspec.json.encode(said)


def by_name(headers: Headers) -> dict[str, list[str]]:
    """Return headers as the API writes them: each name with all its values."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    return found


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
