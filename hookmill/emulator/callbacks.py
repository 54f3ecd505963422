"""Callbacks: messages that report the result of an attempt, or a message that failed for good."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from hookmill.emulator.models import AttemptResult, CallbackTarget, Headers, QStashMessage, Template


def template_of(
    callback: CallbackTarget, message: QStashMessage, result: AttemptResult, dlq_id: str
) -> Template:
    """Return what a callback delivers. `dlq_id` is "" unless the message is in the DLQ."""
    return Template(
        method=callback.method,
        headers=(("Content-Type", "application/json"), *callback.headers),
        body=body_of(message, result, dlq_id),
        retries=callback.retries,
        retry_delay=callback.retry_delay,
        timeout=callback.timeout,
        caller_ip=message.template.caller_ip,
    )


def body_of(message: QStashMessage, result: AttemptResult, dlq_id: str) -> bytes:
    """Return the body of a callback as QStash writes it."""
    content: dict[str, Any] = {
        "status": result.status,
        "header": by_name(result.headers),
        "body": _base64(result.body or result.error.encode()),
        "retried": message.retried,
        "maxRetries": message.template.retries,
        "sourceMessageId": message.id,
        "topicName": message.url_group,
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
        content["dlqId"] = dlq_id
    return msgspec.json.encode(content)


def by_name(headers: Headers) -> dict[str, list[str]]:
    """Return headers as the API writes them: each name with all its values."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    return found


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
