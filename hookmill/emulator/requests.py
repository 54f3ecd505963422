"""Reads requests to publish, enqueue, schedule or batch. Pure, no I/O.

The result is a record, or an `ApiError` that says what is wrong and where. A destination is kept
exactly as it was written, because the token of its delivery must name exactly that URL.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_plus

import msgspec

from hookmill.emulator.models import (
    ApiError,
    CallbackTarget,
    FlowLimits,
    Headers,
    PublishRequest,
    Template,
)
from hookmill.emulator.options import CONNECTION_HEADERS, Options, options_of
from hookmill.emulator.parsing import (
    LATEST_SECONDS,
    check_url,
    check_url_or_name,
    json_of,
    name_of,
    period_of,
    printable,
    shown,
    whole_number,
)

RETRIES = 3
"""How often a message is retried where the request does not say."""

_CLIENT_HEADERS = frozenset({"accept-encoding", "user-agent"})
"""Headers that describe the HTTP client. They are not forwarded with all others, because the
emulator is another client.
"""


class ApiRequest(NamedTuple):
    """A request to the API. `target` is its path and query, unchanged."""

    target: str
    headers: Headers
    body: bytes = b""
    peer: str = ""
    """The client's IP address."""


class ScheduleRequest(NamedTuple):
    """A request to create a schedule. `schedule_id` "": a new one is made."""

    request: PublishRequest
    cron: str
    schedule_id: str


class _Item(msgspec.Struct):
    """A message of a batch."""

    destination: str
    headers: dict[str, str | int | list[str]] | None = None
    body: str | None = None
    queue: str | None = None


def read_publish(request: ApiRequest) -> PublishRequest:
    """Read POST `/v2/publish/{destination}`."""
    destination, in_query = _destination(request.target, segments=2)
    options = options_of(request.headers, in_query)
    if options.text("cron"):
        raise ApiError(400, "Upstash-Cron: create a schedule with /v2/schedules/{destination}")
    return _publish_request(destination, options, request)


def read_enqueue(request: ApiRequest, queue: str) -> PublishRequest:
    """Read POST `/v2/enqueue/{queue}/{destination}`."""
    destination, in_query = _destination(request.target, segments=3)
    options = options_of(request.headers, in_query)
    return _publish_request(destination, options, request, name_of("queue", queue))


def read_schedule(request: ApiRequest) -> ScheduleRequest:
    """Read POST `/v2/schedules/{destination}`."""
    destination, in_query = _destination(request.target, segments=2)
    options = options_of(request.headers, in_query)
    cron, schedule_id = options.text("cron"), options.text("schedule-id")
    if not cron:
        raise ApiError(400, "Upstash-Cron is missing: it sets the times, as in `*/5 * * * *`")
    if options.text("not-before"):
        raise ApiError(400, "Upstash-Not-Before: use Upstash-Delay to delay a schedule's messages")
    queue = options.text("queue-name")
    return ScheduleRequest(
        _publish_request(destination, options, request, name_of("queue", queue) if queue else ""),
        cron,
        name_of("schedule ID", schedule_id) if schedule_id else "",
    )


def read_batch(request: ApiRequest) -> list[PublishRequest | ApiError]:
    """Read POST `/v2/batch`: a publish request for each item, or the error of that item."""
    items = json_of(request.body, list[msgspec.Raw], "an array of messages")
    return [_read_item(item, request.peer) for item in items]


def _read_item(raw: msgspec.Raw, peer: str) -> PublishRequest | ApiError:
    try:
        item = json_of(bytes(raw), _Item, "a message with its destination")
        check_url_or_name(item.destination, "destination")
        given = (item.headers or {}).items()
        headers = tuple(
            (name, str(value))
            for name, values in given
            for value in (values if isinstance(values, list) else [values])
        )
        request = ApiRequest("", headers, (item.body or "").encode(), peer)
        queue = name_of("queue", item.queue) if item.queue else ""
        return _publish_request(item.destination, options_of(headers), request, queue)
    except ApiError as error:
        return error


def _destination(target: str, *, segments: int) -> tuple[str, Headers]:
    """Split a request's target into the destination, as it was written, and the query's options.

    `segments` of the API's own path come before the destination.
    """
    if not target.startswith("/"):  # the absolute form, which clients send to a proxy
        target = "/" + target.split("/", 3)[-1]
    path, mark, query = target.split("/", segments + 1)[-1].partition("?")
    pieces = query.split("&")
    ours = [piece for piece in pieces if piece.startswith(("upstash-", "qstash_token="))]
    if ours:
        query = "&".join(piece for piece in pieces if piece not in ours)
        mark = mark if query else ""
    pairs = (piece.partition("=") for piece in ours)
    destination = path + mark + query
    check_url_or_name(destination, "destination")
    return destination, tuple((name, unquote_plus(value)) for name, _, value in pairs)


def _publish_request(
    destination: str, options: Options, request: ApiRequest, queue: str = ""
) -> PublishRequest:
    delay = options.seconds("delay")
    not_before = options.number("not-before", 0, highest=LATEST_SECONDS)
    if queue and (delay or not_before):
        raise ApiError(
            400,
            "Upstash-Delay and Upstash-Not-Before cannot be used with a queue, because it delivers "
            "in order, each message after the one before; publish without a queue instead",
        )
    return PublishRequest(
        destination=destination,
        template=_template(options, request),
        queue=queue,
        delay_ms=int(delay * 1000),
        not_before_ms=not_before * 1000,
        deduplication_id=options.text("deduplication-id"),
        is_deduplicated_by_content=options.flag("content-based-deduplication"),
    )


def _template(options: Options, request: ApiRequest) -> Template:
    retries = options.number("retries", RETRIES)
    return Template(
        method=options.method(),
        headers=_forwarded(options, request.headers),
        body=request.body,
        retries=retries,
        retry_delay=options.retry_delay(),
        timeout=options.seconds("timeout"),
        callback=_callback(options, "callback", retries),
        failure_callback=_callback(options, "failure-callback", retries),
        labels=tuple(options.items("label")),
        flow_control=_flow_limits(options),
        caller_ip=request.peer,
        redact=tuple(_redacted(field) for field in options.items("redact-fields")),
    )


def _forwarded(options: Options, headers: Headers) -> Headers:
    """Return the headers for the destination: the forwarded ones, and a content type.

    With `Upstash-Header-Forward`, all headers that can be forwarded are.
    """
    forwarded = options.forwarded()
    named = {name.lower() for name, _ in forwarded}
    is_all = options.flag("header-forward")
    plain = [
        (name, printable(value, name))
        for name, value in headers
        if name.lower() not in named and _is_forwarded(name.lower(), is_all=is_all)
    ]
    return (*plain, *forwarded)


def _is_forwarded(name: str, *, is_all: bool) -> bool:
    if name == "content-type":
        return True
    not_forwarded = CONNECTION_HEADERS | _CLIENT_HEADERS
    return is_all and not name.startswith("upstash-") and name not in not_forwarded


def _callback(options: Options, name: str, retries: int) -> CallbackTarget | None:
    """Read `Upstash-Callback` and the options below it. It has as many retries as the message."""
    url, below = options.text(name), options.below(name)
    if not url:
        return None
    check_url(url, f"Upstash-{name.title()}")
    return CallbackTarget(
        url=url,
        method=below.method(),
        headers=below.forwarded(),
        retries=below.number("retries", retries),
        retry_delay=below.retry_delay(),
        delay_ms=int(below.seconds("delay") * 1000),
        timeout=below.seconds("timeout"),
    )


def _flow_limits(options: Options) -> FlowLimits | None:
    """Read a key and a value such as `parallelism=5, rate=10, period=1m`."""
    key, value = options.text("flow-control-key"), options.text("flow-control-value")
    if not key and not value:
        return None
    if not key or not value:
        missing = "Value" if key else "Key"
        raise ApiError(400, f"Upstash-Flow-Control-{missing} is missing: both are needed")
    parts = dict(_flow_part(part) for part in value.split(","))
    if not parts.keys() & {"parallelism", "rate"}:
        raise ApiError(400, "Upstash-Flow-Control-Value sets neither parallelism nor rate")
    return FlowLimits(
        key=key,
        parallelism=int(parts.get("parallelism", 0)),
        rate=int(parts.get("rate", 0)),
        period=parts.get("period", 1.0),
    )


def _flow_part(part: str) -> tuple[str, float]:
    name, _, value = (text.strip() for text in part.partition("="))
    name = name.lower()
    where = "Upstash-Flow-Control-Value"
    if name == "period":
        return name, period_of(value, where)
    if name in {"parallelism", "rate"}:
        return name, whole_number(value, f"{where}: {name}", lowest=1)
    raise ApiError(400, f"{where}: {shown(name)} is none of parallelism, rate, period")


def _redacted(field: str) -> str:
    """Return `body`, `header` or `header[NAME]`. QStash's documentation also writes `headers`."""
    found = re.fullmatch(r"(?i)body|headers?(\[[^\[\]]+\])?", field)
    if found is None:
        raise ApiError(
            400,
            f"Upstash-Redact-Fields: {shown(field)} is none of body, header and header[Name]",
        )
    if field.lower() == "body":
        return "body"
    return "header" + (found[1] or "")
