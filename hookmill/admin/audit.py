"""The record of what operators do: who did what, when (by Redis' clock), why, and what came of it.

Each command that acts runs inside of `acting`, or calls `record` when it is done. An action is done
even where it cannot be recorded; then the operator is told.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, NamedTuple

import msgspec
import structlog

from hookmill.admin.opening import open_stream
from hookmill.admin.units import moment
from hookmill.config.settings import Settings
from hookmill.errors import HookmillError
from hookmill.handlers import matches_pattern
from hookmill.message import Fields
from hookmill.printable import encodable
from hookmill.stream.audit import AuditRecords
from hookmill.stream.client import Client

log = structlog.get_logger("audit")

_MOST_TEXT = 500
"""Characters that are kept of a name or a reason, and of each text in the details."""

_MOST_LISTED = 20
"""How many values of a list are kept."""

_MOST_DETAILS = 4000
"""Characters of JSON that are kept of the details, and of the result."""


def _log(text: str) -> None:
    log.warning("not recorded", reason=text)


class Operator(NamedTuple):
    """Who acts, and why. `tell` gets a sentence where that cannot be recorded."""

    name: str
    why: str = ""
    tell: Callable[[str], None] = _log

    @classmethod
    def of(cls, settings: Settings, why: str = "", tell: Callable[[str], None] = _log) -> Operator:
        """Return the operator of the settings, else the user and the name of this machine."""
        if settings.operator:
            return cls(settings.operator, why, tell)
        try:
            user = getpass.getuser()
        except (OSError, KeyError):  # a container may run as a user without a name
            user = f"uid {os.getuid()}"
        return cls(f"{user}@{socket.gethostname()}", why, tell)


class Action(NamedTuple):
    """What an operator did. `at_ms` is Unix milliseconds by Redis' clock. `state` is `open` while
    it is under way, and for ever where its program was killed. `error` says why it failed.
    """

    id: str
    at_ms: int
    who: str
    action: str
    details: dict[str, Any]
    why: str
    state: Literal["open", "done", "failed"]
    result: dict[str, Any]
    error: str


class Act:
    """An action that is under way."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}

    def result(self, **results: Any) -> None:
        """Note what has come of it so far, such as how many messages were replayed."""
        self.results.update(results)


@asynccontextmanager
async def acting(
    settings: Settings,
    action: str,
    details: Mapping[str, Any],
    operator: Operator | None = None,
    *,
    client: Client | None = None,
) -> AsyncIterator[Act]:
    """Record an action at its begin, and at its end what came of it: the results that the caller
    noted, and the error that ended it.

    `action` is the command's words, such as `dead replay`. `details` are values as JSON has them,
    or structs; None is left out. `operator` is that of the settings by default. `client` is one
    that is open already.
    """
    operator = operator or Operator.of(settings)
    act, begin = Act(), _begin(action, details, operator)
    async with _recorder(settings, operator, client) as recorder:
        record_id = await recorder.write(begin)
        try:
            yield act
        except BaseException as error:
            end = {"result": _json(act.results), "error": str(error) or type(error).__name__}
            await recorder.write(({"of": record_id} if record_id else begin) | end)
            raise
        end = {"result": _json(act.results)}
        await recorder.write(({"of": record_id} if record_id else begin) | end)


async def record(
    settings: Settings,
    action: str,
    details: Mapping[str, Any],
    operator: Operator | None = None,
    *,
    result: Mapping[str, Any] | None = None,
    client: Client | None = None,
) -> None:
    """Record an action that is done. It never fails; arguments are as those of `acting`."""
    operator = operator or Operator.of(settings)
    fields = _begin(action, details, operator) | {"result": _json(result or {})}
    async with _recorder(settings, operator, client) as recorder:
        await recorder.write(fields)


async def listed(
    settings: Settings, *, since_ms: int = 0, action: str | None = None, limit: int | None = None
) -> AsyncIterator[Action]:
    """Yield what was done since then (Unix milliseconds), the newest first, at most `limit`.

    `action` is a pattern for the command's words; `*` stands for any text.
    """
    ends: dict[str, Fields] = {}
    async with await open_stream(settings) as client:
        async for record_id, fields in AuditRecords(client).newest(since_ms):
            if begin := _text(fields, b"of"):
                ends[begin] = fields
                continue
            found = _action_of(record_id, fields, ends.pop(record_id, fields))
            if limit == 0:
                return
            if action is None or matches_pattern(action, found.action):
                limit = None if limit is None else limit - 1
                yield found


def describe(action: Action) -> dict[str, Any]:
    """Return an action as JSON-ready values. Its time is ISO 8601 in UTC."""
    seen = action._asdict()
    return {"id": seen.pop("id"), "at": moment(seen.pop("at_ms")), **seen}


class _Recorder:
    """Writes records, and says where one could not be written."""

    def __init__(self, records: AuditRecords | None, tell: Callable[[str], None]) -> None:
        self._records = records
        self._tell = tell

    async def write(self, fields: Mapping[str, str]) -> str:
        """Return the ID of the record, "" if it was not written."""
        if self._records is not None:
            try:
                return await self._records.write(fields)
            except HookmillError as error:
                self._tell(f"this action could not be recorded: {error}")
        return ""


@asynccontextmanager
async def _recorder(
    settings: Settings, operator: Operator, client: Client | None
) -> AsyncIterator[_Recorder]:
    own = None
    if client is None:
        try:
            own = client = await open_stream(settings)
        except HookmillError as error:
            operator.tell(f"this action could not be recorded: {error}")
    try:
        yield _Recorder(None if client is None else AuditRecords(client), operator.tell)
    finally:
        if own is not None:
            await own.close()


def _begin(action: str, details: Mapping[str, Any], operator: Operator) -> dict[str, str]:
    return {
        "action": action,
        "who": encodable(operator.name)[:_MOST_TEXT],
        "why": encodable(operator.why)[:_MOST_TEXT],
        "details": _json(details),
    }


def _json(values: Mapping[str, Any]) -> str:
    """Write values as JSON that is short enough to be kept."""
    kept = _shortened(msgspec.to_builtins(dict(values), str_keys=True))
    text = _encoded(kept)
    return text if len(text) <= _MOST_DETAILS else _encoded({"shortened": text[:_MOST_DETAILS]})


def _encoded(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _shortened(value: Any) -> Any:
    """Leave out what says nothing (None, False, empty values), the end of long texts, and the rest
    of long lists.
    """
    if isinstance(value, dict):
        kept = {name: _shortened(inner) for name, inner in value.items() if inner is not False}
        return {name: inner for name, inner in kept.items() if inner not in (None, {}, [])}
    if isinstance(value, list | tuple):
        rest = len(value) - _MOST_LISTED
        more = [f"and {rest} more"] if rest > 0 else []
        return [*map(_shortened, value[:_MOST_LISTED]), *more]
    if isinstance(value, str):
        return encodable(value)[:_MOST_TEXT]
    return value


def _action_of(record_id: str, fields: Fields, end: Fields) -> Action:
    """Read a record, and the one of its end; both are the same where it was recorded at the end."""
    error = _text(end, b"error")
    state: Literal["open", "done", "failed"] = "done" if b"result" in end else "open"
    return Action(
        id=record_id,
        at_ms=int(record_id.partition("-")[0]),
        who=_text(fields, b"who"),
        action=_text(fields, b"action"),
        details=_values(fields, b"details"),
        why=_text(fields, b"why"),
        state="failed" if error else state,
        result=_values(end, b"result"),
        error=error,
    )


def _text(fields: Fields, name: bytes) -> str:
    return fields.get(name, b"").decode("utf-8", "replace")


def _values(fields: Fields, name: bytes) -> dict[str, Any]:
    """Read an object of JSON. Anything else was not written by us, and is shown as it is."""
    raw = fields.get(name, b"")
    if not raw:
        return {}
    with suppress(msgspec.DecodeError, ValueError, RecursionError):
        found = msgspec.json.decode(raw)
        if isinstance(found, dict):
            return found
    return {"unreadable": raw.decode("utf-8", "replace")}
