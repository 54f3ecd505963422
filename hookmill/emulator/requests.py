"""From a request to the API to what it asks for: orders, filters, pages. Pure, no I/O.

Whatever stands in a request, what comes out is a record or an `ApiError` that says what was wrong
and where. Settings are `Upstash-*` headers, or query parameters of the same name in lower case. A
destination is kept as it was written, for the token that its delivery carries must name just that.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import msgspec

from hookmill.emulator import retry_delay
from hookmill.emulator.models import (
    ApiError,
    Callback,
    Endpoint,
    Filter,
    FlowControl,
    Headers,
    Order,
    Template,
)
from hookmill.emulator.parsing import (
    HIGHEST,
    check_url,
    check_url_or_name,
    flag_of,
    header_name,
    is_url,
    json_of,
    name_of,
    period_of,
    printable,
    seconds_of,
    shown,
    whole_number,
)

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

RETRIES = 3
"""How often a message is tried again where it does not say."""

_LATEST = 10**11
"""Unix seconds: no time in a request may be later."""

_CONNECTIONS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that belong to a connection, not to a message: they are never forwarded."""

_OURS = frozenset(
    {
        "upstash-caller-ip",
        "upstash-message-id",
        "upstash-region",
        "upstash-retried",
        "upstash-schedule-id",
        "upstash-signature",
        "upstash-topic-name",
    }
)
"""Headers that a delivery gets from us: nobody else's may stand beside them."""

_CLIENTS = frozenset({"accept-encoding", "user-agent"})
"""Headers that say what a client is: where all are forwarded, these are not, for we are another."""


class ApiRequest(NamedTuple):
    """A request as it came over the wire. `target` is its path and query, unchanged."""

    target: str
    headers: Headers
    body: bytes = b""
    peer: str = ""
    """The address of whoever sent it."""


class Page(NamedTuple):
    """Which part of a list is wanted: `size` items behind the place that `cursor` names."""

    cursor: tuple[int, str] | None
    size: int


class Pin(NamedTuple):
    """What a flow-control key is to be held at; None: not at all."""

    parallelism: int | None
    rate: int | None
    period: float | None


class QueueChange(NamedTuple):
    """What a queue is to be; None: as it was."""

    name: str
    parallelism: int | None
    is_paused: bool | None


# --- who asks ---


def carries_token(header: str, token: str) -> bool:
    """Say whether the value of an `Authorization` header is our token."""
    scheme, _, given = header.partition(" ")
    return scheme.lower() == "bearer" and is_token(given.strip(), token)


def is_token(given: str, token: str) -> bool:
    """Compare in constant time, whatever bytes were given."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), token.encode())


# --- orders ---


def publish_order(request: ApiRequest) -> Order:
    """Read POST `/v2/publish/{destination}`."""
    destination, asked = _destination(request.target, behind=2)
    options = _options(request.headers, asked)
    if options.text("cron"):
        raise ApiError(400, "Upstash-Cron: a schedule is made at /v2/schedules/{destination}")
    return _order(destination, options, request)


def enqueue_order(request: ApiRequest, queue: str) -> Order:
    """Read POST `/v2/enqueue/{queue}/{destination}`."""
    destination, asked = _destination(request.target, behind=3)
    return _order(destination, _options(request.headers, asked), request, name_of("queue", queue))


def schedule_order(request: ApiRequest) -> tuple[Order, str, str]:
    """Read POST `/v2/schedules/{destination}`: the order, its cron expression, its ID or ""."""
    destination, asked = _destination(request.target, behind=2)
    options = _options(request.headers, asked)
    cron, schedule_id = options.text("cron"), options.text("schedule-id")
    if not cron:
        raise ApiError(400, "Upstash-Cron is missing: it says when, as in `*/5 * * * *`")
    if options.text("not-before"):
        raise ApiError(400, "Upstash-Not-Before: a schedule is delayed by Upstash-Delay alone")
    queue = options.text("queue-name")
    return (
        _order(destination, options, request, name_of("queue", queue) if queue else ""),
        cron,
        name_of("schedule ID", schedule_id) if schedule_id else "",
    )


class _Item(msgspec.Struct):
    """A message of a batch."""

    destination: str
    headers: dict[str, str | int | list[str]] | None = None
    body: str | None = None
    queue: str | None = None


def batch_orders(request: ApiRequest) -> list[Order | ApiError]:
    """Read POST `/v2/batch`: an order for each item, or why there is none."""
    items = json_of(request.body, list[msgspec.Raw], "an array of messages")
    return [_item_order(item, request.peer) for item in items]


def _item_order(raw: msgspec.Raw, peer: str) -> Order | ApiError:
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
        return _order(item.destination, _options(headers), request, queue)
    except ApiError as error:
        return error


def _destination(target: str, *, behind: int) -> tuple[str, Headers]:
    """Take the destination, as it was written, and the settings that stand in its query out of a
    request's target; `behind` segments of our own path stand before it.
    """
    if not target.startswith("/"):  # absolute form, as clients write to a proxy
        target = "/" + target.split("/", 3)[-1]
    path, mark, query = target.split("/", behind + 1)[-1].partition("?")
    pieces = query.split("&")
    ours = [piece for piece in pieces if piece.startswith(("upstash-", "qstash_token="))]
    if ours:
        query = "&".join(piece for piece in pieces if piece not in ours)
        mark = mark if query else ""
    pairs = (piece.partition("=") for piece in ours)
    destination = path + mark + query
    check_url_or_name(destination, "destination")
    return destination, tuple((name, unquote_plus(value)) for name, _, value in pairs)


def _order(destination: str, options: _Options, request: ApiRequest, queue: str = "") -> Order:
    delay = options.seconds("delay")
    not_before = options.number("not-before", 0, highest=_LATEST)
    if queue and (delay or not_before):
        raise ApiError(
            400,
            "Upstash-Delay and Upstash-Not-Before do not go with a queue: it delivers in order, "
            "one message as soon as the one before it is done; publish instead",
        )
    return Order(
        destination=destination,
        template=_template(options, request),
        queue=queue,
        delay_ms=int(delay * 1000),
        not_before_ms=not_before * 1000,
        deduplication_id=options.text("deduplication-id"),
        is_deduplicated_by_content=options.flag("content-based-deduplication"),
    )


def _template(options: _Options, request: ApiRequest) -> Template:
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
        flow_control=_flow_control(options),
        caller_ip=request.peer,
        redact=tuple(_redacted(field) for field in options.items("redact-fields")),
    )


def _forwarded(options: _Options, headers: Headers) -> Headers:
    """Return what the destination gets: the forwarded headers, and the content type if none of
    them is one; all that may be forwarded where `Upstash-Header-Forward` says so.
    """
    forwarded = options.forwarded()
    named = {name.lower() for name, _ in forwarded}
    is_all = options.flag("header-forward")
    plain = [
        (name, printable(value, name))
        for name, value in headers
        if name.lower() not in named and _goes_along(name.lower(), is_all=is_all)
    ]
    return (*plain, *forwarded)


def _goes_along(name: str, *, is_all: bool) -> bool:
    if name == "content-type":
        return True
    return is_all and not name.startswith("upstash-") and name not in _CONNECTIONS | _CLIENTS


def _callback(options: _Options, name: str, retries: int) -> Callback | None:
    """Read `Upstash-Callback` and what stands below it; it is retried as often as the message."""
    url, below = options.text(name), options.below(name)
    if not url:
        return None
    check_url(url, f"Upstash-{name.title()}")
    return Callback(
        url=url,
        method=below.method(),
        headers=below.forwarded(),
        retries=below.number("retries", retries),
        retry_delay=below.retry_delay(),
        delay_ms=int(below.seconds("delay") * 1000),
        timeout=below.seconds("timeout"),
    )


def _flow_control(options: _Options) -> FlowControl | None:
    """Read a key and a value such as `parallelism=5, rate=10, period=1m`."""
    key, value = options.text("flow-control-key"), options.text("flow-control-value")
    if not key and not value:
        return None
    if not key or not value:
        missing = "Value" if key else "Key"
        raise ApiError(400, f"Upstash-Flow-Control-{missing} is missing: it takes both")
    parts = dict(_flow_part(part) for part in value.split(","))
    if not parts.keys() & {"parallelism", "rate"}:
        raise ApiError(400, "Upstash-Flow-Control-Value says neither parallelism nor rate")
    return FlowControl(
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
    """Return `body`, `header` or `header[NAME]`; the documentation writes `headers` as well."""
    found = re.fullmatch(r"(?i)body|headers?(\[[^\[\]]+\])?", field)
    if found is None:
        raise ApiError(
            400,
            f"Upstash-Redact-Fields: {shown(field)} is none of body, header and header[Name]",
        )
    if field.lower() == "body":
        return "body"
    return "header" + (found[1] or "")


# --- settings ---


class _Options:
    """The settings of a request: the values below a prefix, by their lower-case names."""

    def __init__(self, prefix: str, pairs: Iterable[tuple[str, str]]) -> None:
        self._prefix = prefix
        self._pairs = tuple(pairs)
        # The first goes before the rest: a header before a query parameter.
        self._values = {name.lower(): value for name, value in reversed(self._pairs)}

    def below(self, name: str) -> _Options:
        """Return the settings of a callback."""
        return _Options(f"{self._prefix}{name.title()}-", self._under(f"{name}-"))

    def forwarded(self) -> Headers:
        """Return the headers to forward, without their prefix."""
        return tuple(
            (header_name(name), value)
            for name, value in self._under("forward-")
            if name.lower() not in _CONNECTIONS | _OURS
        )

    def _under(self, prefix: str) -> Iterator[tuple[str, str]]:
        for name, value in self._pairs:
            if name.lower().startswith(prefix):
                yield name[len(prefix) :], value

    def text(self, name: str) -> str:
        return self._values.get(name, "")

    def items(self, name: str) -> list[str]:
        """Split a list at its commas."""
        return [text for part in self.text(name).split(",") if (text := part.strip())]

    def number(self, name: str, default: int, highest: int = HIGHEST) -> int:
        text = self.text(name)
        return whole_number(text, self._called(name), highest=highest) if text else default

    def seconds(self, name: str) -> float:
        """Read a time span such as `1d10h30m`; 0 where none is given."""
        text = self.text(name)
        return seconds_of(text, self._called(name)) if text else 0.0

    def flag(self, name: str) -> bool:
        return bool(self.text(name)) and flag_of(self.text(name), self._called(name))

    def method(self) -> str:
        text = self.text("method").upper() or "POST"
        if text not in METHODS:
            where = self._called("method")
            raise ApiError(400, f"{where}: {shown(text)} is none of {', '.join(METHODS)}")
        return text

    def retry_delay(self) -> str:
        text = self.text("retry-delay")
        if text:
            retry_delay.check(text)
        return text

    def _called(self, name: str) -> str:
        return self._prefix + name.title()


def _options(*groups: Headers) -> _Options:
    """Take the settings out of headers and query; names that nobody knows do no harm."""
    prefix = "upstash-"
    return _Options(
        "Upstash-",
        (
            (name[len(prefix) :], printable(value, name).strip())
            for group in groups
            for name, value in group
            if name.lower().startswith(prefix)
        ),
    )


# --- filters and pages ---

_FILTERS = {
    "messageId": "message_ids",
    "messageIds": "message_ids",
    "dlqIds": "dlq_ids",
    "url": "urls",
    "host": "hosts",
    "path": "paths",
    "topicName": "topics",
    "queueName": "queues",
    "scheduleId": "schedule_ids",
    "label": "labels",
    "flowControlKey": "flow_control_keys",
    "callerIp": "caller_ips",
    "callerIP": "caller_ips",
    "responseStatus": "response_statuses",
    "state": "states",
    "fromDate": "from_ms",
    "toDate": "to_ms",
}
"""The API's names of what a filter looks at, and ours."""

_NO_FILTERS = frozenset({"count", "cursor", "qstash_token", "async", "api"})
"""What else may stand in such a query; `async` and `api` change nothing here."""

_IN_PROGRESS = ("ACTIVE", "RETRY", "ERROR")

_STATES = ("CREATED", *_IN_PROGRESS, "DELIVERED", "FAILED", "CANCEL_REQUESTED", "CANCELED")


def choice_of(query: Iterable[tuple[str, str]], body: bytes = b"") -> Filter | None:
    """Read which messages are meant: several values of a name mean any of them, several names all
    of them. None: a list of IDs was given, and it is empty; that is not the same as no filter.

    A name that is not known is refused, for without it all would be meant.
    """
    pairs = [(name, value) for name, value in query if name not in _NO_FILTERS]
    given = json_of(body, dict[str, Any], "an object") if body.strip() else {}
    if any(given.get(name) == [] for name in ("messageIds", "dlqIds")):
        return None
    for name, values in given.items():
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, str | int):
                raise ApiError(400, f"{shown(name)} in the body is neither text nor a number")
            if name not in _NO_FILTERS:
                pairs.append((name, str(value)))
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in _FILTERS:
            raise ApiError(400, f"{shown(name)} is no filter; known are {', '.join(_FILTERS)}")
        found.setdefault(_FILTERS[name], []).extend(_values_of(name, value))
    return _filter(found)


def _values_of(name: str, text: str) -> list[str]:
    """Split several values at their commas, unless they are one URL's own."""
    parts = [part for each in text.split(",") if (part := each.strip())]
    if not parts:
        raise ApiError(400, f"{name} is empty: leave it out to mean all")
    if name in {"url", "path"} and not all(is_url(part) or part[0] == "/" for part in parts):
        return [text]
    return parts


def _filter(found: dict[str, list[str]]) -> Filter:
    numbers = {
        name: [whole_number(text, name, highest=_LATEST * 1000) for text in found.pop(name)]
        for name in ("response_statuses", "from_ms", "to_ms")
        if name in found
    }
    states = [state for text in found.pop("states", ()) for state in _states(text)]
    return Filter(
        **{name: tuple(values) for name, values in found.items()},
        states=tuple(states),
        response_statuses=tuple(numbers.get("response_statuses", ())),
        from_ms=max(numbers.get("from_ms", [0])),
        to_ms=min(numbers.get("to_ms", [0])),
    )


def _states(text: str) -> tuple[str, ...]:
    """Return what a state stands for; the API spells one of them in two ways."""
    state = text.upper().replace("CANCELLED", "CANCELED")
    if state == "IN_PROGRESS":
        return _IN_PROGRESS
    if state not in _STATES:
        raise ApiError(400, f"state: {shown(text)} is none of {', '.join(_STATES)}")
    return (state,)


def page_of(query: Iterable[tuple[str, str]], *, default: int, most: int) -> Page:
    """Read `count` and `cursor`. A cursor is a time in milliseconds and, behind a hyphen, what
    tells apart the items of that time; without that, it means what is older.
    """
    asked = dict(query)
    count = asked.get("count") or str(default)
    cursor = asked.get("cursor", "")
    place = None
    if cursor and cursor != "0":
        at, _, which = cursor.partition("-")
        place = (whole_number(at, "cursor", highest=_LATEST * 1000), which)
    return Page(place, min(whole_number(count, "count", lowest=1), most))


# --- queues, URL groups, flow control ---


class _QueueBody(msgspec.Struct, rename="camel"):
    queue_name: str
    parallelism: int | None = None
    paused: bool | None = None


class _EndpointBody(msgspec.Struct):
    url: str = ""
    name: str | None = None


class _EndpointsBody(msgspec.Struct):
    endpoints: list[_EndpointBody]


def queue_change(body: bytes) -> QueueChange:
    """Read POST `/v2/queues`."""
    given = json_of(body, _QueueBody, "an object with queueName")
    parallelism = given.parallelism
    if parallelism is not None and not 1 <= parallelism <= HIGHEST:
        raise ApiError(400, f"parallelism: {parallelism} is not between 1 and {HIGHEST}")
    return QueueChange(name_of("queue", given.queue_name), parallelism, given.paused)


def endpoints_of(body: bytes, *, to_remove: bool = False) -> tuple[Endpoint, ...]:
    """Read the endpoints to add to a URL group, or, by URL or by name, to remove from it."""
    given = json_of(body, _EndpointsBody, "an object with endpoints").endpoints
    if not given:
        raise ApiError(400, "endpoints is empty")
    for endpoint in given:
        if endpoint.url:
            check_url(endpoint.url, "url of an endpoint")
        elif not (to_remove and endpoint.name):
            raise ApiError(400, "an endpoint has no url" + (" and no name" * to_remove))
        if endpoint.name:
            name_of("endpoint", endpoint.name)
    return tuple(Endpoint(url=each.url, name=each.name or "") for each in given)


def pin_of(query: Iterable[tuple[str, str]]) -> Pin:
    """Read what to pin a flow-control key to."""
    asked = dict(query)
    numbers = {
        name: whole_number(asked[name], name, lowest=1)
        for name in ("parallelism", "rate")
        if asked.get(name)
    }
    if not numbers:
        raise ApiError(400, "give parallelism or rate to pin")
    period = period_of(asked["period"], "period") if asked.get("period") else None
    return Pin(numbers.get("parallelism"), numbers.get("rate"), period)
