"""From an `Outgoing` to QStash's requests, and from its answers to `Published`. No I/O.

Every option is judged here before anything goes out; what cannot be said to QStash is a
`ValueError` that names the option. A destination stands in a request exactly as it was written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec

from hookmill.sending.outgoing import FlowControl, Moment, Outgoing, Published, Redact, Span
from hookmill.sending.payload import Letter
from hookmill.sending.retry_policy import Answer

_T = TypeVar("_T")

API = "/v2"

LONGEST = 10 * 366 * 86400
"""Seconds beyond which a length of time is a mistake."""

LONGEST_PERIOD = 7 * 86400
"""Seconds that a flow control's period may have."""

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SPAN = re.compile("".join(f"(?:([0-9]{{1,9}}){unit})?" for unit in _UNITS))
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_URL = re.compile(r"https?://[!-\[\]-~]+")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")
_EXPRESSION = re.compile(r"[0-9A-Za-z_+\-*/%^().,\s]+")
_WORDS = {"pow", "sqrt", "abs", "exp", "floor", "ceil", "round", "min", "max", "retried"}
_HOP_BY_HOP = {
    "connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te",
    "trailer", "transfer-encoding", "upgrade",
}  # fmt: skip
_CALLBACK_WORDS = {"method", "timeout", "retries", "retry-delay", "delay"}


class Request(NamedTuple):
    """A request to make: `target` is the path with everything behind it, as it goes out."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    def __repr__(self) -> str:
        return f"Request({self.method})"  # its headers and its target may hold secrets


# --- durations and moments ---


def span(word: str, value: Span, *, least: int = 0) -> str:
    """Write a length of time as QStash reads it. `word` is what the option is called."""
    whole = seconds(word, value, least)
    return value if isinstance(value, str) else f"{whole}s"


def seconds(word: str, value: Span, least: int = 0) -> int:
    """Return a length of time in whole seconds, rounded up."""
    if isinstance(value, str):
        match = _SPAN.fullmatch(value)
        if not value or not match:
            raise ValueError(f'{word}: write it as "1d10h30m" or "45s", got {value[:50]!r}')
        found = sum(
            int(number or 0) * size
            for number, size in zip(match.groups(), _UNITS.values(), strict=True)
        )
    elif isinstance(value, timedelta):
        found = math.ceil(value.total_seconds())
    elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{word}: give text, seconds or a timedelta, got {value!r}")
    else:
        found = math.ceil(value)
    if not least <= found <= LONGEST:
        raise ValueError(f"{word}: has to be at least {least} s, and at most ten years")
    return found


def unix_seconds(word: str, value: Moment) -> int:
    """Return a moment in whole Unix seconds, rounded up."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{word}: a datetime without a time zone could be any: give it one")
        value = value.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{word}: give a datetime or Unix seconds, got {value!r}")
    if not 0 <= value < 1e11:
        raise ValueError(f"{word}: {value!r} is no time in Unix seconds")
    return math.ceil(value)


def delivered_at(outgoing: Outgoing, now: float) -> float:
    """Return when the message will be delivered first, in Unix seconds."""
    if outgoing.not_before is not None:
        return max(now, unix_seconds("not_before", outgoing.not_before))
    return now + (0 if outgoing.delay is None else seconds("delay", outgoing.delay))


# --- destinations and names ---


def check_url(word: str, url: str) -> str:
    """Return a URL that can be requested as it is written."""
    if not isinstance(url, str) or not _URL.fullmatch(url):
        raise ValueError(
            f"{word}: {shown(url)!r} is no URL that can be sent as it is written: it begins with "
            "http:// or https://, and spaces, backslashes, control characters and all beyond ASCII "
            "are written as %XX (a host's name in punycode)"
        )
    try:
        parts = urlsplit(url)
        usable = _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{word}: {shown(url)!r} names no host and port that can be")
    return url


def _is_host(host: str) -> bool:
    labels = host.removesuffix(".").split(".")
    return ":" in host or all(0 < len(label) <= 63 for label in labels)


def check_destination(word: str, url: str) -> str:
    """Return a URL that can stand in the path of a request to QStash.

    Its query becomes that request's own, in which QStash reads options, and a token.
    """
    # A fragment ends nothing in a request's path, so that a query may stand in it as well.
    query = check_url(word, url).partition("?")[2]
    for name, _ in parse_qsl(query.replace(";", "&"), keep_blank_values=True):
        if name.strip().lower().startswith(("upstash-", "qstash_token")):
            raise ValueError(f"{word}: QStash would take {name[:50]!r} in its query for an option")
    return url


def check_name(word: str, name: str) -> str:
    """Return a name of a queue, URL group or schedule."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{word}: use ASCII letters, digits, - _ and . (not first), got {name!r}")
    return name


def base_of(url: str) -> str:
    """Return scheme and host of a URL, as they stand there."""
    scheme, separator, rest = url.partition("://")
    return scheme + separator + re.split("[/?#]", rest, maxsplit=1)[0]


def shown(url: object) -> str:
    """Return a URL for people: without what may be a secret in it."""
    text = str(url).partition("#")[0]
    before, mark, query = text.partition("?")
    scheme, separator, rest = before.partition("://")
    host, slash, path = rest.partition("/")
    host = host.rpartition("@")[2]
    return f"{scheme}{separator}{host}{slash}{path}"[:200] + ("?..." if mark and query else "")


def schedule_path(schedule_id: str, what: str = "") -> str:
    """Return where a schedule stands, or `what` is done to it."""
    return f"{API}/schedules/{check_name('schedule_id', schedule_id)}{what}"


# --- headers ---


def header(word: str, value: str) -> str:
    """Return what can stand in a header as it is."""
    if not isinstance(value, str) or not value.isprintable() or value != value.strip():
        raise ValueError(
            f"{word}: a header takes a line of text without control characters, and no space at "
            "its ends"
        )
    return value


def forwarded(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers for the subscriber, if they can be sent along."""
    found: dict[str, str] = {}
    for name, value in (headers or {}).items():
        _check_header_name("headers", name, found)
        if name.lower().startswith("upstash-"):
            raise ValueError(
                f"headers: {name}: such names are QStash's own; give the name that the subscriber "
                "is to see, and options by their own words"
            )
        if name.lower() in _HOP_BY_HOP:
            raise ValueError(f"headers: {name} belongs to the connection, which is not ours")
        found[name] = header(f"headers: {name}", value)
    return found


def option_headers(outgoing: Outgoing) -> dict[str, str]:
    """Return the headers that tell QStash the options, the forwarded ones aside."""
    if outgoing.delay is not None and outgoing.not_before is not None:
        raise ValueError("delay: give delay or not_before, not both")
    if outgoing.deduplication_id is not None and outgoing.content_based_deduplication:
        raise ValueError("deduplication_id: give it or content_based_deduplication, not both")
    for name, kind in _KINDS.items():
        if not isinstance(getattr(outgoing, name), kind | None):
            raise ValueError(f"{name}: give a {kind.__name__}")
    for name in ("callback", "failure_callback"):
        if getattr(outgoing, f"{name}_headers") and getattr(outgoing, name) is None:
            raise ValueError(f"{name}_headers: there is no {name} that they could be for")
    found: dict[str, str] = {}
    for name, write in _OPTIONS.items():
        value = getattr(outgoing, name)
        if value is not None:
            found |= write(name, value)
    return found


def _written(title: str, write: Callable[[str, Any], str]) -> Callable[[str, Any], dict[str, str]]:
    return lambda word, value: {f"Upstash-{title}": write(word, value)}


def _check_header_name(word: str, name: str, before: Iterable[str]) -> None:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ValueError(f"{word}: {name!r} is no header's name")
    if name.lower() in {each.lower() for each in before}:
        raise ValueError(f"{word}: {name} stands there twice")


def _method(word: str, value: str) -> str:
    if value not in {"GET", "POST", "PUT", "PATCH", "DELETE"}:
        raise ValueError(f"{word}: GET, POST, PUT, PATCH or DELETE, got {value!r}")
    return value


def _count(word: str, value: int, least: int = 0) -> str:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{word}: give a whole number of at least {least}, got {value!r}")
    return str(value)


def _retry_delay(word: str, value: str | timedelta) -> str:
    if isinstance(value, timedelta):
        if value < timedelta():
            raise ValueError(f"{word}: has to be at least 0 s")
        return str(math.ceil(value / timedelta(milliseconds=1)))
    if not isinstance(value, str):
        raise ValueError(f"{word}: give a timedelta, or an expression in milliseconds as text")
    unknown = set(re.findall("[A-Za-z_]+", value)) - _WORDS
    if not _EXPRESSION.fullmatch(header(word, value)) or unknown:
        words = ", ".join(sorted(_WORDS))
        raise ValueError(f"{word}: an expression in milliseconds of numbers, {words}")
    return value


def _callback(title: str) -> Callable[[str, Mapping[str, str]], dict[str, str]]:
    """Return what configures a callback's own delivery."""

    def write(word: str, headers: Mapping[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in headers.items():
            _check_header_name(word, name, found)
            short = name.lower()
            if short not in _CALLBACK_WORDS and not re.fullmatch("forward-.+", short):
                raise ValueError(
                    f"{word}: {name}: write Forward-{name} to have it sent along with the "
                    "callback; the other words are Method, Timeout, Retries, Retry-Delay and Delay"
                )
            found[name] = header(f"{word}: {name}", value)
        return {f"Upstash-{title}-{name}": value for name, value in found.items()}

    return write


def _flow_control(word: str, given: FlowControl) -> dict[str, str]:
    values = []
    if given.parallelism is not None:
        values.append(f"parallelism={_count(f'{word}: parallelism', given.parallelism, 1)}")
    if given.rate is not None:
        values.append(f"rate={_count(f'{word}: rate', given.rate, 1)}")
    if not values:
        raise ValueError(f"{word}: give parallelism, rate or both")
    if given.period is not None:
        if given.rate is None:
            raise ValueError(f"{word}: period: it is the rate's: give that as well")
        if seconds(f"{word}: period", given.period, 1) > LONGEST_PERIOD:
            raise ValueError(f"{word}: period: a week is the longest")
        values.append(f"period={span(f'{word}: period', given.period)}")
    return {
        "Upstash-Flow-Control-Key": _text(f"{word}: key", given.key),
        "Upstash-Flow-Control-Value": ", ".join(values),
    }


def _redact(word: str, given: Redact) -> dict[str, str]:
    fields = ["body"] if given.body else []
    if isinstance(given.headers, str):  # each of its letters would be taken for a name
        raise ValueError(f"{word}: headers: give a list of names")
    if given.headers is True:
        fields.append("header")
    elif given.headers:
        for name in given.headers:
            _check_header_name(f"{word}: headers", name, ())
            fields.append(f"header[{name}]")
    if not fields:
        raise ValueError(f"{word}: give body, headers or both")
    return {"Upstash-Redact-Fields": ",".join(fields)}


def _text(word: str, value: str) -> str:
    if not value:
        raise ValueError(f"{word}: it is empty")
    return header(word, value)


_OPTIONS: dict[str, Callable[[str, Any], dict[str, str]]] = {
    "method": _written("Method", _method),
    "retries": _written("Retries", _count),
    "retry_delay": _written("Retry-Delay", _retry_delay),
    "callback": _written("Callback", check_url),
    "failure_callback": _written("Failure-Callback", check_url),
    "callback_headers": _callback("Callback"),
    "failure_callback_headers": _callback("Failure-Callback"),
    "delay": _written("Delay", span),
    "not_before": _written("Not-Before", lambda word, value: str(unix_seconds(word, value))),
    "deduplication_id": _written("Deduplication-Id", _text),
    "content_based_deduplication": lambda _, wanted: (
        {"Upstash-Content-Based-Deduplication": "true"} if wanted else {}
    ),
    "timeout": _written("Timeout", lambda word, value: span(word, value, least=1)),
    "flow_control": _flow_control,
    "label": _written("Label", _text),
    "redact": _redact,
}
_KINDS: dict[str, type] = {
    "headers": Mapping,
    "callback_headers": Mapping,
    "failure_callback_headers": Mapping,
    "flow_control": FlowControl,
    "redact": Redact,
}


# --- requests ---


def message_headers(letter: Letter, options: Mapping[str, str]) -> dict[str, str]:
    """Return all headers of a message: its content type, the options, and what is forwarded."""
    found = {"Content-Type": letter.headers["Content-Type"], **options}
    for name, value in letter.headers.items():
        # QStash gives each message an ID in a header of its own.
        if name.lower() not in {"content-type", "upstash-message-id"}:
            found[f"Upstash-Forward-{name}"] = value
    return found


def publish(letter: Letter, options: Mapping[str, str], queue: str | None = None) -> Request:
    """Return the request that publishes a letter, or puts it into a queue."""
    path = f"{API}/publish" if queue is None else f"{API}/enqueue/{check_name('queue', queue)}"
    return Request("POST", f"{path}/{letter.url}", message_headers(letter, options), letter.body)


def batch_item(letter: Letter, options: Mapping[str, str], queue: str | None) -> bytes | None:
    """Return a letter as an item of a batch; None where its body is no text, as items' are."""
    try:
        body = letter.body.decode()
    except UnicodeDecodeError:
        return None
    item = {
        "destination": letter.url,
        "headers": message_headers(letter, options),
        "body": body,
        **({} if queue is None else {"queue": check_name("queue", queue)}),
    }
    return msgspec.json.encode(item)


def batch(items: Iterable[bytes]) -> Request:
    """Return the request that publishes items together."""
    body = b"[" + b",".join(items) + b"]"
    return Request("POST", f"{API}/batch", {"Content-Type": "application/json"}, body)


# --- answers ---


class Taken(msgspec.Struct, rename="camel"):
    """An answer's account of a message: its ID, or what was wrong with it."""

    message_id: str = ""
    deduplicated: bool = False
    url: str = ""
    error: str = ""


class _Listed(msgspec.Struct):
    messages: list[Taken]


class Refusal(NamedTuple):
    """What QStash says of an item of a batch that it did not take. `may_be_taken`: not this time,
    but an attempt before may have published it.
    """

    reason: str
    may_be_taken: bool = False


_taken = msgspec.json.Decoder(Taken)
_group = msgspec.json.Decoder(list[Taken] | _Listed)
_items = msgspec.json.Decoder(list[msgspec.Raw])


def read_published(answer: Answer, url: str, deduplication_id: str | None) -> Published | None:
    """Return what an answer says was published; None where it makes no sense."""
    taken = decode(_taken, answer.body)
    if taken is None or not taken.message_id:
        return None
    # 202 is how the service answers a repeat.
    is_repeat = taken.deduplicated or answer.status == 202
    return Published(taken.message_id, is_repeat, deduplication_id, url)


def read_group(answer: Answer, deduplication_id: str | None) -> list[Published] | None:
    """Return what an answer says of each endpoint of a URL group."""
    found = decode(_group, answer.body)
    listed = found.messages if isinstance(found, _Listed) else found
    if listed is None or not all(taken.message_id for taken in listed):
        return None
    return [
        Published(taken.message_id, taken.deduplicated, deduplication_id, taken.url)
        for taken in listed
    ]


def read_batch(answer: Answer, count: int) -> list[Taken | Refusal | None] | None:
    """Return what an answer says of each of `count` items (None: nothing that makes sense), or
    None where it does not speak of as many.
    """
    raws = decode(_items, answer.body)
    if raws is None or len(raws) != count:
        return None
    return [_item(bytes(raw), may_be_repeat=answer.may_be_repeat) for raw in raws]


def _item(raw: bytes, *, may_be_repeat: bool) -> Taken | Refusal | None:
    taken = decode(_taken, raw)
    if taken is None:
        return None
    if taken.error or not taken.message_id:
        return Refusal(taken.error, may_be_repeat) if taken.error else None
    return taken


def decode(decoder: msgspec.json.Decoder[_T], raw: bytes) -> _T | None:
    """Read JSON; None where it is not what was expected."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
