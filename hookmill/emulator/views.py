"""The records as the API shows them: JSON objects with the names that the SDKs read. Pure.

What is empty is left out, as the service does it.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from hookmill.emulator.callbacks import by_name
from hookmill.emulator.models import (
    Answer,
    Callback,
    DeadLetter,
    Gate,
    Keys,
    LogEntry,
    Message,
    Order,
    Queue,
    Receipt,
    Schedule,
    Template,
    UrlGroup,
)
from hookmill.emulator.parsing import is_url
from hookmill.emulator.redaction import body_shown, headers_shown
from hookmill.emulator.requests import Page

Json: TypeAlias = dict[str, Any]
Place: TypeAlias = tuple[int, str]
"""Where an item stands in its list: a time in milliseconds, and what tells apart those of it."""

T = TypeVar("T")


def published(order: Order, receipts: Sequence[Receipt]) -> Json | list[Json]:
    """Show what became of an order: an object for a URL, a list for a URL group."""
    if is_url(order.destination):
        return receipt(receipts[0])
    return [{**receipt(one), "url": one.url} for one in receipts]


def receipt(one: Receipt) -> Json:
    """Show the ID of a message, and whether it was there before."""
    return {
        "messageId": one.message_id,
        **({"deduplicated": True} if one.is_duplicate else {}),
    }


def message(one: Message) -> Json:
    """Show a message that is on its way."""
    return {
        **_identity(one),
        **_template(one.template),
        **_headers(one.template),
        **_body("body", body_shown(one.template)),
        "maxRetries": one.template.retries,
        "notBefore": one.not_before_ms or one.created_ms,
        "createdAt": one.created_ms,
        **_callback_headers(one.template, "Header"),
    }


def dead_letter(one: DeadLetter) -> Json:
    """Show a message that was given up, and the answer that was the last."""
    answer = one.answer
    return {
        **message(one.message),
        "dlqId": one.id,
        "responseStatus": answer.status,
        **_filled(responseHeader=by_name(answer.headers)),
        **_body("responseBody", _said(answer)),
    }


def log_entry(one: LogEntry) -> Json:
    """Show a change of a message's state. Two names stand twice: the SDK in Python reads others
    than the documentation has.
    """
    template, answer = one.message.template, one.answer
    seen: Json = {}
    if answer is not None:
        headers = by_name(answer.headers)
        seen = {
            "responseStatus": answer.status,
            **_filled(
                responseHeader=headers,
                responseHeaders=headers,
                responseBody=_base64(_said(answer)),
            ),
        }
    return {
        "time": one.at_ms,
        "state": one.state,
        **_identity(one.message),
        **_template(template),
        "maxRetries": template.retries,
        **_headers(template),
        **_filled(
            error=one.error,
            nextDeliveryTime=one.next_ms,
            timeout=int(template.timeout * 1000),
            retryDelayExpr=template.retry_delay,
        ),
        **_callback_headers(template, "Headers"),
        **seen,
    }


def schedule(one: Schedule) -> Json:
    """Show a schedule, and how its last messages fare."""
    order, template = one.order, one.order.template
    return {
        "scheduleId": one.id,
        "destination": order.destination,
        "cron": one.cron,
        "createdAt": one.created_ms,
        "isPaused": one.is_paused,
        "nextScheduleTime": one.next_ms,
        **_template(template),
        **_headers(template),
        **_body("body", body_shown(template)),
        "retries": template.retries,
        **_filled(
            delay=order.delay_ms // 1000,
            timeout=int(template.timeout),
            queueName=order.queue,
            callerIp=template.caller_ip,
            lastScheduleTime=one.last_ms,
            lastScheduleStates=one.last_states,
            error=one.error,
        ),
        **_callback_headers(template, "Header"),
    }


def url_group(one: UrlGroup) -> Json:
    """Show a URL group with its endpoints."""
    return {
        "name": one.name,
        "createdAt": one.created_ms,
        "updatedAt": one.updated_ms,
        "endpoints": [
            {**_filled(name=endpoint.name), "url": endpoint.url} for endpoint in one.endpoints
        ],
    }


def queue(one: Queue, lag: int) -> Json:
    """Show a queue; `lag` is how many messages are in it."""
    return {
        "name": one.name,
        "createdAt": one.created_ms,
        "updatedAt": one.updated_ms,
        "parallelism": one.parallelism,
        "paused": one.is_paused,
        "lag": lag,
    }


def gate(one: Gate, *, waiting: int, active: int) -> Json:
    """Show a flow-control key, and how many of its messages wait or are under way."""
    return {
        "flowControlKey": one.key,
        "waitListSize": waiting,
        "parallelismMax": one.parallelism,
        "parallelismCount": active,
        "rateMax": one.rate,
        "rateCount": one.began,
        "ratePeriod": int(one.period),
        "ratePeriodStart": one.period_start_ms // 1000,
        "isPaused": one.is_paused,
        "isPinnedParallelism": one.is_parallelism_pinned,
        "isPinnedRate": one.is_rate_pinned,
    }


def keys(one: Keys) -> Json:
    """Show the signing keys."""
    return {"current": one.current, "next": one.next}


# --- pages ---


def oldest_first(items: Sequence[T], page: Page, place_of: Callable[[T], Place]) -> tuple[
    list[T], Json
]:  # fmt: skip
    """Cut a page out of items that stand in the order of their places; return them, and the
    cursor to the next page where there is one.

    A cursor names the last item given, so that what came or went meanwhile shifts nothing.
    """
    start = page.cursor
    left = [one for one in items if start is None or place_of(one) > start]
    return _cut(left, page.size, place_of)


def latest_first(entries: Sequence[LogEntry], page: Page) -> tuple[list[LogEntry], Json]:
    """Cut a page out of log entries, the latest of which stands first.

    Those of one millisecond are told apart by their number in it, the oldest being the first: what
    comes later does not change it.
    """
    in_order: list[tuple[Place, LogEntry]] = []
    seen: Counter[int] = Counter()
    for entry in reversed(entries):
        seen[entry.at_ms] += 1
        in_order.append(((entry.at_ms, f"{seen[entry.at_ms]:06d}"), entry))
    start = page.cursor
    left = [pair for pair in reversed(in_order) if start is None or pair[0] < start]
    given, cursor = _cut(left, page.size, lambda pair: pair[0])
    return [entry for _, entry in given], cursor


def _cut(left: list[T], size: int, place_of: Callable[[T], Place]) -> tuple[list[T], Json]:
    given = left[:size]
    if len(left) <= size:
        return given, {}
    at_ms, which = place_of(given[-1])
    return given, {"cursor": f"{at_ms}-{which}"}


# --- parts ---


def _identity(one: Message) -> Json:
    return {
        "messageId": one.id,
        "url": one.url,
        **_filled(
            topicName=one.topic,
            endpointName=one.endpoint,
            queueName=one.queue,
            scheduleId=one.schedule_id,
        ),
    }


def _template(template: Template) -> Json:
    control = template.flow_control
    return {
        "method": template.method,
        **_filled(
            callback=_url_of(template.callback),
            failureCallback=_url_of(template.failure_callback),
            callerIP=template.caller_ip,
            retryDelayExpression=template.retry_delay,
            label=template.labels[0] if template.labels else "",
            labels=list(template.labels),
        ),
        **(
            {
                "flowControlKey": control.key,
                **_filled(parallelism=control.parallelism, rate=control.rate),
                "period": int(control.period),
            }
            if control is not None
            else {}
        ),
    }


def _headers(template: Template) -> Json:
    return _filled(header=by_name(headers_shown(template.headers, template.redact)))


def _url_of(callback: Callback | None) -> str:
    return callback.url if callback is not None else ""


def _callback_headers(template: Template, ending: str) -> Json:
    """Show what callbacks are given; the log's names end otherwise than a message's."""
    found: Json = {}
    for name, callback in (
        ("callback", template.callback),
        ("failureCallback", template.failure_callback),
    ):
        if callback is not None and callback.headers:
            found[f"{name}{ending}"] = by_name(headers_shown(callback.headers, template.redact))
    return found


def _said(answer: Answer) -> bytes:
    """Return the answer's body; where there was no answer, why."""
    return answer.body or answer.error.encode()


def _body(name: str, body: bytes) -> Json:
    """Show a body as text if it is UTF-8, else as base64 under another name."""
    try:
        return {name: body.decode()}
    except UnicodeDecodeError:
        return {f"{name}Base64": _base64(body)}


def _base64(body: bytes) -> str:
    return base64.b64encode(body).decode()


def _filled(**fields: Any) -> Json:
    """Leave out what is empty."""
    return {name: value for name, value in fields.items() if value}
