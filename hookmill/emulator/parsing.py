"""Reads the values of a request: numbers, durations, names, URLs, JSON. Pure, no I/O.

A value that cannot be read is an `ApiError`, with its place in the request and what is expected.
"""

from __future__ import annotations

import re
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from hookmill.emulator.models import ApiError

T = TypeVar("T")

HIGHEST = 1_000_000
"""The highest count that a request may contain."""

LATEST_SECONDS = 10**11
"""Unix seconds: the latest time that a request may contain."""

_LONGEST = 3650 * 86_400
"""Seconds: the longest duration that a request may contain."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,256}")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_DURATION = re.compile(r"(?:[0-9]{1,10}[dhms])+")

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_URL_TEXT = re.compile(r"[!-~]+")

_NOT_IN_URL = frozenset("#\\")
"""A fragment is never sent, and some programs read a backslash as a slash."""

_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


def is_url(destination: str) -> bool:
    """Return whether a destination is a URL, and not the name of a URL group."""
    return destination.lower().startswith(("http://", "https://"))


def name_of(what: str, text: str) -> str:
    """Return a valid name of a queue, URL group, endpoint or schedule."""
    if not _NAME.fullmatch(text):
        raise ApiError(
            400,
            f"{what} {shown(text)} is invalid: use letters, digits, hyphens, periods and "
            "underscores, at most 256",
        )
    return text


def flag_of(text: str, where: str) -> bool:
    """Read a boolean, in upper or lower case."""
    word = text.strip().lower()
    if word not in {"true", "false", "1", "0"}:
        raise ApiError(400, f"{where}: {shown(text)} is neither true nor false")
    return word in {"true", "1"}


def printable(value: str, name: str) -> str:
    """Return a value that can be written into a header and into JSON."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ApiError(400, f"{shown(name)} is not UTF-8") from None
    if _CONTROL.search(value):
        raise ApiError(400, f"{shown(name)} contains a control character")
    return value


def whole_number(text: str, where: str, *, lowest: int = 0, highest: int = HIGHEST) -> int:
    """Read a number that is written with ASCII digits only."""
    # int() alone would also accept signs, underscores and the digits of other scripts.
    number = int(text) if re.fullmatch(r"[0-9]{1,18}", text.strip()) else -1
    if not lowest <= number <= highest:
        raise ApiError(
            400, f"{where}: {shown(text)} is not a whole number from {lowest} to {highest}"
        )
    return number


def seconds_of(text: str, where: str) -> float:
    """Read a duration such as `1d10h30m`, in seconds."""
    if not _DURATION.fullmatch(text):
        raise ApiError(400, f"{where}: {shown(text)} is not a duration such as 50s or 1d10h30m")
    seconds = sum(
        int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([dhms])", text)
    )
    if seconds > _LONGEST:
        raise ApiError(400, f"{where}: {shown(text)} is longer than ten years")
    return float(seconds)


def period_of(text: str, where: str) -> float:
    """Read the period of a rate: a duration or a number of seconds, from a second to a week."""
    seconds = seconds_of(text + "s" if text.isdecimal() else text, where)
    if not 1 <= seconds <= 7 * 86_400:
        raise ApiError(400, f"{where}: {shown(text)} is not between a second and a week")
    return seconds


def check_url_or_name(text: str, where: str) -> None:
    """Refuse text that is neither a URL nor a valid name of a URL group."""
    if is_url(text):
        check_url(text, where)
    elif not _NAME.fullmatch(text):
        # The text is not shown, because its query may contain a secret.
        raise ApiError(
            400,
            f"{where} is neither a URL nor the name of a URL group; a URL begins with http:// or "
            "https://, without percent-encoding",
        )


def check_url(text: str, where: str) -> None:
    """Refuse a URL that cannot be requested exactly as it is written."""
    try:
        parts = urlsplit(text)
        is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or not _URL_TEXT.fullmatch(text) or _NOT_IN_URL & set(text):
        raise ApiError(
            400,
            f"{where} is not a URL: use http:// or https:// and a host, no space, # or backslash, "
            "and percent-encode what is not ASCII",
        )


def header_name(name: str) -> str:
    """Return a valid name of a header."""
    if not _TOKEN.fullmatch(name):
        raise ApiError(400, f"{shown(name)} is not a valid name of a header to forward")
    return name


def json_of(body: bytes, kind: type[T], what: str) -> T:
    """Decode JSON; `what` describes the expected value in errors."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ApiError(400, f"the body is not {what} in JSON: {error}") from None


def shown(text: str) -> str:
    """Quote a value for an error, shortened and in ASCII."""
    return repr(text if len(text) <= 60 else text[:60] + "...").encode("ascii", "replace").decode()
