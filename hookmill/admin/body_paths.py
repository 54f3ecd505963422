"""Conditions on a value in a body, such as `data.order.total=12` or `data.email~*@x.org`. No I/O.

A path has names and positions: `items[0].sku`, `items[*].sku` (any of them), `["odd.name"]`. A JSON
body is looked into, else a form. Senders choose bodies, so the work for each is bounded: what is
beyond a bound does not match.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from hookmill.handlers import matches_pattern
from hookmill.message import Fields, body_of
from hookmill.signatures.forms import form_fields

LARGEST_BODY = 1024 * 1024
"""Bytes of the largest body that is looked into."""

MOST_STEPS = 16
"""Steps of the longest path."""

MOST_VALUES = 10_000
"""Values that are looked at in one body: `[*]` can lead to very many."""

_STEP = re.compile(
    r"""\.?(?P<name>[^.\[\]"=~]+)|\[(?P<at>[0-9]{1,6}|\*)\]|\.?\["(?P<quoted>[^"]+)"\]"""
)

Step = str | int | None
"""A name in an object, a position in an array, or None for any position."""

_decode = msgspec.json.decode


class BodyPathError(ValueError):
    """A condition cannot be read. The text says what to give."""


class Condition(msgspec.Struct, frozen=True):
    """Matches a body that has a text or a number at `steps` which equals `value`, or fits it where
    `is_pattern` (`*` stands for any text).
    """

    steps: tuple[Step, ...]
    value: str
    is_pattern: bool = False

    def matches(self, body: bytes) -> bool:
        """Return whether a body has such a value there."""
        return any(self._fits(text) for text in texts_at(self.steps, body))

    def _fits(self, text: str) -> bool:
        return matches_pattern(self.value, text) if self.is_pattern else text == self.value


def condition_of(text: str) -> Condition:
    """Read a condition: `PATH=VALUE`, or `PATH~PATTERN`. Raises `BodyPathError`."""
    steps, end = _steps_of(text)
    sign, value = text[end : end + 1], text[end + 1 :]
    if not steps or sign not in {"=", "~"}:
        raise BodyPathError(
            f"{text!r}: give a path in the body and a value, such as data.order.total=12, or with "
            "a pattern: data.email~*@example.org"
        )
    return Condition(steps, value, is_pattern=sign == "~")


def are_in(where: Iterable[Condition], fields: Fields) -> bool:
    """Return whether all conditions match the body of an entry with these fields."""
    try:
        body = body_of(fields)
    except (ValueError, RecursionError):
        return False
    return all(condition.matches(body) for condition in where)


def texts_at(steps: tuple[Step, ...], body: bytes) -> Iterator[str]:
    """Yield the texts, numbers and words (`true`, `null`) at a path of a body, as texts."""
    if len(body) > LARGEST_BODY:
        return
    try:
        found = _values_at(steps, _decode(body))
    except (ValueError, RecursionError):
        yield from _form_texts(steps, body)
        return
    for value in found:
        if not isinstance(value, dict | list):
            yield _text_of(value)


def _steps_of(text: str) -> tuple[tuple[Step, ...], int]:
    """Return the steps with which a text begins, and where they end."""
    steps: list[Step] = []
    end = 0
    while len(steps) < MOST_STEPS and (found := _STEP.match(text, end)):
        if found[0].startswith(".") and not steps:
            break
        if found["at"]:
            steps.append(None if found["at"] == "*" else int(found["at"]))
        else:
            if steps and found["name"] and not found[0].startswith("."):
                break
            steps.append(found["name"] or found["quoted"])
        end = found.end()
    return tuple(steps), end


def _values_at(steps: Iterable[Step], value: Any) -> list[Any]:
    values = [value]
    for step in steps:
        found: list[Any] = []
        for one in values:
            if isinstance(step, str):
                found += [one[step]] if isinstance(one, dict) and step in one else []
            elif isinstance(one, list):
                found += one[: MOST_VALUES - len(found)] if step is None else one[step : step + 1]
        values = found
    return values


def _form_texts(steps: tuple[Step, ...], body: bytes) -> Iterator[str]:
    """Yield the values of a form's field. The name of a field can have brackets itself."""
    name = "".join(_written(step, is_first=number == 0) for number, step in enumerate(steps))
    dotted = str(steps[0]) + "".join(f"[{step}]" for step in steps[1:])
    for field, value in form_fields(body):
        if field in {name, dotted}:
            yield value


def _written(step: Step, *, is_first: bool) -> str:
    if isinstance(step, str):
        return step if is_first else f".{step}"
    return "[*]" if step is None else f"[{step}]"


def _text_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    return _encode(value).decode()


_encode = msgspec.json.Encoder().encode
