"""The values that a request is made of: numbers, durations, names, URLs, JSON. Pure.

Each is read, or refused with an `ApiError` that says where it stood and what it should be.
"""

from __future__ import annotations

import re
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from hookmill.emulator.models import ApiError

T = TypeVar("T")

HIGHEST = 1_000_000
"""No count in a request may be higher."""

_LONGEST = 3650 * 86_400
"""Seconds: no time span in a request may be longer."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,256}")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_DURATION = re.compile(r"(?:[0-9]{1,10}[dhms])+")

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_URL_TEXT = re.compile(r"[!-~]+")

_NO_URL_TEXT = frozenset("#\\")
"""A fragment is never sent, and a backslash is read as a slash by some."""

_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


def is_url(destination: str) -> bool:
    """Tell a URL from the name of a URL group."""
    return destination.lower().startswith(("http://", "https://"))


def name_of(what: str, text: str) -> str:
    """Return the name of a queue, URL group, endpoint or schedule if it can be one."""
    if not _NAME.fullmatch(text):
        raise ApiError(
            400,
            f"{what} {shown(text)} is invalid: letters, digits, hyphens, periods and underscores, "
            "at most 256",
        )
    return text


def flag_of(text: str, where: str) -> bool:
    """Read a boolean, however it is capitalised."""
    word = text.strip().lower()
    if word not in {"true", "false", "1", "0"}:
        raise ApiError(400, f"{where}: {shown(text)} is neither true nor false")
    return word in {"true", "1"}


def printable(value: str, name: str) -> str:
    """Return a header's value if it can be written into a header and into JSON."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ApiError(400, f"{shown(name)} is not UTF-8") from None
    if _CONTROL.search(value):
        raise ApiError(400, f"{shown(name)} holds a control character")
    return value


def whole_number(text: str, where: str, *, lowest: int = 0, highest: int = HIGHEST) -> int:
    """Read a number of digits alone."""
    # Digits of other scripts, signs and underscores are numbers to int().
    number = int(text) if re.fullmatch(r"[0-9]{1,18}", text.strip()) else -1
    if not lowest <= number <= highest:
        raise ApiError(400, f"{where}: {shown(text)} is no whole number from {lowest} to {highest}")
    return number


def seconds_of(text: str, where: str) -> float:
    """Read a time span such as `1d10h30m`."""
    if not _DURATION.fullmatch(text):
        raise ApiError(400, f"{where}: {shown(text)} is no duration such as 50s or 1d10h30m")
    seconds = sum(
        int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([dhms])", text)
    )
    if seconds > _LONGEST:
        raise ApiError(400, f"{where}: {shown(text)} is longer than ten years")
    return float(seconds)


def period_of(text: str, where: str) -> float:
    """Read the period of a rate: a duration, or a number of seconds; a second to a week."""
    seconds = seconds_of(text + "s" if text.isdecimal() else text, where)
    if not 1 <= seconds <= 7 * 86_400:
        raise ApiError(400, f"{where}: {shown(text)} is not between a second and a week")
    return seconds


def check_url_or_name(text: str, where: str) -> None:
    """Refuse what is neither a URL nor can be a URL group's name."""
    if is_url(text):
        check_url(text, where)
    elif not _NAME.fullmatch(text):
        # Not shown: its query may hold what is nobody's business.
        raise ApiError(
            400,
            f"{where} is neither a URL, which begins with http:// or https:// as it is, not "
            "percent-encoded, nor the name of a URL group",
        )


def check_url(text: str, where: str) -> None:
    """Refuse what cannot be called as it is written."""
    try:
        parts = urlsplit(text)
        is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or not _URL_TEXT.fullmatch(text) or _NO_URL_TEXT & set(text):
        raise ApiError(
            400,
            f"{where} is no URL: http:// or https:// and a host, no space, # or backslash, and "
            "what is not ASCII percent-encoded",
        )


def header_name(name: str) -> str:
    """Return the name of a header if it can be one."""
    if not _TOKEN.fullmatch(name):
        raise ApiError(400, f"{shown(name)} is no name of a header to forward")
    return name


def json_of(body: bytes, kind: type[T], what: str) -> T:
    """Decode JSON; `what` says what it was to be."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ApiError(400, f"the body is not {what} in JSON: {error}") from None


def shown(text: str) -> str:
    """Quote what was given, as far as an error needs it."""
    return repr(text if len(text) <= 60 else text[:60] + "...").encode("ascii", "replace").decode()
