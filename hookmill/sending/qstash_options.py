"""Turns an `Outgoing`'s options into the headers that QStash reads. No I/O.

Every option is checked here. A value that QStash cannot take is a `ValueError` that names the
option.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from hookmill.sending.outgoing import FlowControl, Outgoing, Redact
from hookmill.sending.times import seconds, span, unix_seconds
from hookmill.sending.urls import check_url

LONGEST_PERIOD = 7 * 86400
"""Seconds: the longest period of a flow control."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_EXPRESSION = re.compile(r"[0-9A-Za-z_+\-*/%^().,\s]+")
_EXPRESSION_WORDS = {
    "pow", "sqrt", "abs", "exp", "floor", "ceil", "round", "min", "max", "retried",
}  # fmt: skip
_HOP_BY_HOP = {
    "connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te",
    "trailer", "transfer-encoding", "upgrade",
}  # fmt: skip
_CALLBACK_OPTIONS = {"method", "timeout", "retries", "retry-delay", "delay"}


def header_value(option: str, value: str) -> str:
    """Return text that can be sent as the value of a header."""
    if not isinstance(value, str) or not value.isprintable() or value != value.strip():
        raise ValueError(
            f"{option}: a header takes one line of text, without control characters and without "
            "spaces at its ends"
        )
    return value


def forwarded(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers for the subscriber. A header that cannot be forwarded is refused."""
    found: dict[str, str] = {}
    for name, value in (headers or {}).items():
        _check_header_name("headers", name, found)
        if name.lower().startswith("upstash-"):
            raise ValueError(
                f"headers: {name}: names that start with Upstash- belong to QStash; give the name "
                "that the subscriber should see, and use the keyword arguments for options"
            )
        if name.lower() in _HOP_BY_HOP:
            raise ValueError(f"headers: {name} belongs to the connection and cannot be forwarded")
        found[name] = header_value(f"headers: {name}", value)
    return found


def option_headers(outgoing: Outgoing) -> dict[str, str]:
    """Return the headers that tell QStash the options, without the forwarded headers."""
    if outgoing.delay is not None and outgoing.not_before is not None:
        raise ValueError("delay: give delay or not_before, not both")
    if outgoing.deduplication_id is not None and outgoing.content_based_deduplication:
        raise ValueError("deduplication_id: give it or content_based_deduplication, not both")
    for name, kind in _KINDS.items():
        if not isinstance(getattr(outgoing, name), kind | None):
            raise ValueError(f"{name}: give a {kind.__name__}")
    for name in ("callback", "failure_callback"):
        if getattr(outgoing, f"{name}_headers") and getattr(outgoing, name) is None:
            raise ValueError(f"{name}_headers: they need a {name}, which is not set")
    found: dict[str, str] = {}
    for name, write in _WRITERS.items():
        value = getattr(outgoing, name)
        if value is not None:
            found |= write(name, value)
    return found


def _written(title: str, write: Callable[[str, Any], str]) -> Callable[[str, Any], dict[str, str]]:
    return lambda option, value: {f"Upstash-{title}": write(option, value)}


def _check_header_name(option: str, name: str, before: Iterable[str]) -> None:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ValueError(f"{option}: {name!r} is not the name of a header")
    if name.lower() in {each.lower() for each in before}:
        raise ValueError(f"{option}: {name} is given twice")


def _method(option: str, value: str) -> str:
    if value not in {"GET", "POST", "PUT", "PATCH", "DELETE"}:
        raise ValueError(f"{option}: GET, POST, PUT, PATCH or DELETE, got {value!r}")
    return value


def _count(option: str, value: int, least: int = 0) -> str:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{option}: give a whole number of at least {least}, got {value!r}")
    return str(value)


def _retry_delay(option: str, value: str | timedelta) -> str:
    if isinstance(value, timedelta):
        if value < timedelta():
            raise ValueError(f"{option}: has to be at least 0 s")
        return str(math.ceil(value / timedelta(milliseconds=1)))
    if not isinstance(value, str):
        raise ValueError(f"{option}: give a timedelta, or an expression in milliseconds as text")
    unknown = set(re.findall("[A-Za-z_]+", value)) - _EXPRESSION_WORDS
    if not _EXPRESSION.fullmatch(header_value(option, value)) or unknown:
        words = ", ".join(sorted(_EXPRESSION_WORDS))
        raise ValueError(f"{option}: an expression in milliseconds takes numbers and {words}")
    return value


def _callback(title: str) -> Callable[[str, Mapping[str, str]], dict[str, str]]:
    """Return the writer of the headers that configure a callback's own delivery."""

    def write(option: str, headers: Mapping[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in headers.items():
            _check_header_name(option, name, found)
            short = name.lower()
            if short not in _CALLBACK_OPTIONS and not re.fullmatch("forward-.+", short):
                raise ValueError(
                    f"{option}: {name}: write Forward-{name} to send it with the callback; the "
                    "other names are Method, Timeout, Retries, Retry-Delay and Delay"
                )
            found[name] = header_value(f"{option}: {name}", value)
        return {f"Upstash-{title}-{name}": value for name, value in found.items()}

    return write


def _flow_control(option: str, given: FlowControl) -> dict[str, str]:
    values = []
    if given.parallelism is not None:
        values.append(f"parallelism={_count(f'{option}: parallelism', given.parallelism, 1)}")
    if given.rate is not None:
        values.append(f"rate={_count(f'{option}: rate', given.rate, 1)}")
    if not values:
        raise ValueError(f"{option}: give parallelism, rate or both")
    if given.period is not None:
        if given.rate is None:
            raise ValueError(f"{option}: period: it needs a rate, which is not set")
        if seconds(f"{option}: period", given.period, 1) > LONGEST_PERIOD:
            raise ValueError(f"{option}: period: it can be a week at most")
        values.append(f"period={span(f'{option}: period', given.period)}")
    return {
        "Upstash-Flow-Control-Key": _text(f"{option}: key", given.key),
        "Upstash-Flow-Control-Value": ", ".join(values),
    }


def _redact(option: str, given: Redact) -> dict[str, str]:
    fields = ["body"] if given.body else []
    if isinstance(given.headers, str):  # iterating over it would give its letters as names
        raise ValueError(f"{option}: headers: give a list of names")
    if given.headers is True:
        fields.append("header")
    elif given.headers:
        for name in given.headers:
            _check_header_name(f"{option}: headers", name, ())
            fields.append(f"header[{name}]")
    if not fields:
        raise ValueError(f"{option}: give body, headers or both")
    return {"Upstash-Redact-Fields": ",".join(fields)}


def _text(option: str, value: str) -> str:
    if not value:
        raise ValueError(f"{option}: it is empty")
    return header_value(option, value)


_WRITERS: dict[str, Callable[[str, Any], dict[str, str]]] = {
    "method": _written("Method", _method),
    "retries": _written("Retries", _count),
    "retry_delay": _written("Retry-Delay", _retry_delay),
    "callback": _written("Callback", check_url),
    "failure_callback": _written("Failure-Callback", check_url),
    "callback_headers": _callback("Callback"),
    "failure_callback_headers": _callback("Failure-Callback"),
    "delay": _written("Delay", span),
    "not_before": _written("Not-Before", lambda option, value: str(unix_seconds(option, value))),
    "deduplication_id": _written("Deduplication-Id", _text),
    "content_based_deduplication": lambda _, wanted: (
        {"Upstash-Content-Based-Deduplication": "true"} if wanted else {}
    ),
    "timeout": _written("Timeout", lambda option, value: span(option, value, least=1)),
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
