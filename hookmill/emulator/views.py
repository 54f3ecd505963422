"""Records as the API shows them: JSON objects with the names that the SDKs read. Pure, no I/O.

Empty values are left out, as QStash does.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, TypeAlias

from hookmill.emulator.callbacks import by_name
from hookmill.emulator.models import (
    AttemptResult,
    CallbackTarget,
    CronSchedule,
    DlqMessage,
    FlowControlKey,
    LogEntry,
    PublishRequest,
    QStashMessage,
    Queue,
    Receipt,
    SigningKeys,
    Template,
    UrlGroup,
)
from hookmill.emulator.parsing import is_url
from hookmill.emulator.redaction import body_shown, headers_shown

Json: TypeAlias = dict[str, Any]


def published(request: PublishRequest, receipts: Sequence[Receipt]) -> Json | list[Json]:
    """Show the receipts of a request: an object for a URL, a list for a URL group."""
    if is_url(request.destination):
        return receipt(receipts[0])
    return [{**receipt(one), "url": one.url} for one in receipts]


def receipt(one: Receipt) -> Json:
    """Show the ID of a message, and whether it is a duplicate."""
    return {
        "messageId": one.message_id,
        **({"deduplicated": True} if one.is_duplicate else {}),
    }


def message(one: QStashMessage) -> Json:
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


def dlq_message(one: DlqMessage) -> Json:
    """Show a DLQ message with the result of its last attempt."""
    result = one.result
    return {
        **message(one.message),
        "dlqId": one.id,
        "responseStatus": result.status,
        **_filled(responseHeader=by_name(result.headers)),
        **_body("responseBody", _response_body(result)),
    }


def log_entry(one: LogEntry) -> Json:
    """Show a log entry.

    Some values have two names, because the Python SDK reads other names than the documentation.
    """
    template, result = one.message.template, one.result
    response: Json = {}
    if result is not None:
        headers = by_name(result.headers)
        response = {
            "responseStatus": result.status,
            **_filled(
                responseHeader=headers,
                responseHeaders=headers,
                responseBody=_base64(_response_body(result)),
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
        **response,
    }


def schedule(one: CronSchedule) -> Json:
    """Show a schedule, and the states of its last messages."""
    request, template = one.request, one.request.template
    return {
        "scheduleId": one.id,
        "destination": request.destination,
        "cron": one.cron,
        "createdAt": one.created_ms,
        "isPaused": one.is_paused,
        "nextScheduleTime": one.next_ms,
        **_template(template),
        **_headers(template),
        **_body("body", body_shown(template)),
        "retries": template.retries,
        **_filled(
            delay=request.delay_ms // 1000,
            timeout=int(template.timeout),
            queueName=request.queue,
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
    """Show a queue; `lag` is the number of its messages."""
    return {
        "name": one.name,
        "createdAt": one.created_ms,
        "updatedAt": one.updated_ms,
        "parallelism": one.parallelism,
        "paused": one.is_paused,
        "lag": lag,
    }


def flow_control_key(one: FlowControlKey, *, waiting: int, active: int) -> Json:
    """Show a flow-control key, with the numbers of waiting and active messages."""
    return {
        "flowControlKey": one.key,
        "waitListSize": waiting,
        "parallelismMax": one.parallelism,
        "parallelismCount": active,
        "rateMax": one.rate,
        "rateCount": one.started,
        "ratePeriod": int(one.period),
        "ratePeriodStart": one.period_start_ms // 1000,
        "isPaused": one.is_paused,
        "isPinnedParallelism": one.is_parallelism_pinned,
        "isPinnedRate": one.is_rate_pinned,
    }


def keys(one: SigningKeys) -> Json:
    """Show the signing keys."""
    return {"current": one.current, "next": one.next}


# --- parts ---


def _identity(one: QStashMessage) -> Json:
    return {
        "messageId": one.id,
        "url": one.url,
        **_filled(
            topicName=one.url_group,
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


def _url_of(callback: CallbackTarget | None) -> str:
    return callback.url if callback is not None else ""


def _callback_headers(template: Template, ending: str) -> Json:
    """Show the callbacks' headers. The names end in `Headers` in a log, in `Header` elsewhere."""
    found: Json = {}
    for name, callback in (
        ("callback", template.callback),
        ("failureCallback", template.failure_callback),
    ):
        if callback is not None and callback.headers:
            found[f"{name}{ending}"] = by_name(headers_shown(callback.headers, template.redact))
    return found


def _response_body(result: AttemptResult) -> bytes:
    """Return the response's body; the error where there was no response."""
    return result.body or result.error.encode()


def _body(name: str, body: bytes) -> Json:
    """Show a body as text if it is UTF-8, otherwise as base64 under another name."""
    try:
        return {name: body.decode()}
    except UnicodeDecodeError:
        return {f"{name}Base64": _base64(body)}


def _base64(body: bytes) -> str:
    return base64.b64encode(body).decode()


def _filled(**fields: Any) -> Json:
    """Leave out empty values."""
    return {name: value for name, value in fields.items() if value}
