"""Which messages, DLQ messages or log entries a request means: reads the filter, and applies it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from hookmill.emulator.models import ApiError, DlqMessage, LogEntry, QStashMessage
from hookmill.emulator.parsing import LATEST_SECONDS, is_url, json_of, shown, whole_number

_V = TypeVar("_V")

_FIELDS = {
    "messageId": "message_ids",
    "messageIds": "message_ids",
    "dlqIds": "dlq_ids",
    "url": "urls",
    "host": "hosts",
    "path": "paths",
    "topicName": "url_groups",
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
"""The API's name of a filter, and the field of `Filter`."""

_OTHER_PARAMETERS = frozenset({"count", "cursor", "qstash_token", "async", "api"})
"""Parameters that may stand beside filters. `async` and `api` change nothing here."""

_IN_PROGRESS = ("ACTIVE", "RETRY", "ERROR")

_STATES = ("CREATED", *_IN_PROGRESS, "DELIVERED", "FAILED", "CANCEL_REQUESTED", "CANCELED")


class Filter(msgspec.Struct, frozen=True):
    """Which messages, DLQ messages or log entries are meant.

    Several values of a field mean any of them, several fields mean all of them. An empty field
    excludes nothing.
    """

    message_ids: tuple[str, ...] = ()
    dlq_ids: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    url_groups: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    schedule_ids: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    flow_control_keys: tuple[str, ...] = ()
    caller_ips: tuple[str, ...] = ()
    response_statuses: tuple[int, ...] = ()
    """For DLQ messages only."""
    states: tuple[str, ...] = ()
    """For log entries only."""
    from_ms: int = 0
    to_ms: int = 0
    """When it was created, logged or failed. 0: no limit."""

    def matches(self, message: QStashMessage) -> bool:
        """Return whether a message that is on its way is meant."""
        return self._fits(message) and self._is_within(message.created_ms)

    def matches_entry(self, entry: LogEntry) -> bool:
        """Return whether a log entry is meant."""
        return (
            self._fits(entry.message)
            and _is_in(self.states, entry.state)
            and self._is_within(entry.at_ms)
        )

    def matches_dlq(self, one: DlqMessage) -> bool:
        """Return whether a DLQ message is meant; its own ID is not compared."""
        return (
            self._fits(one.message)
            and _is_in(self.response_statuses, one.result.status)
            and self._is_within(one.failed_ms)
        )

    def _is_within(self, at_ms: int) -> bool:
        return self.from_ms <= at_ms <= (self.to_ms or at_ms)

    def _fits(self, message: QStashMessage) -> bool:
        url = urlsplit(message.url) if self.hosts or self.paths else None
        control = message.template.flow_control
        wanted: list[tuple[Collection[str], str]] = [
            (self.message_ids, message.id),
            (self.urls, message.url),
            (self.hosts, url.netloc if url else ""),
            (self.paths, url.path if url else ""),
            (self.url_groups, message.url_group),
            (self.queues, message.queue),
            (self.schedule_ids, message.schedule_id),
            (self.flow_control_keys, control.key if control else ""),
            (self.caller_ips, message.template.caller_ip),
        ]
        return all(_is_in(values, has) for values, has in wanted) and (
            not self.labels or bool({*self.labels} & {*message.template.labels})
        )


def _is_in(values: Collection[_V], value: _V) -> bool:
    return not values or value in values


def read_filter(query: Iterable[tuple[str, str]], body: bytes = b"") -> Filter | None:
    """Read a filter from a request's query and JSON body.

    None: the request has a list of IDs, and the list is empty. That is different from no filter,
    which means everything. For the same reason an unknown name is refused.
    """
    pairs = [(name, value) for name, value in query if name not in _OTHER_PARAMETERS]
    given = json_of(body, dict[str, Any], "an object") if body.strip() else {}
    if any(given.get(name) == [] for name in ("messageIds", "dlqIds")):
        return None
    for name, values in given.items():
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, str | int):
                raise ApiError(400, f"{shown(name)} in the body is neither text nor a number")
            if name not in _OTHER_PARAMETERS:
                pairs.append((name, str(value)))
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in _FIELDS:
            raise ApiError(400, f"{shown(name)} is not a filter; use {', '.join(_FIELDS)}")
        found.setdefault(_FIELDS[name], []).extend(_values_of(name, value))
    return _filter(found)


def _values_of(name: str, text: str) -> list[str]:
    """Split several values at their commas, unless the commas belong to one URL."""
    parts = [part for each in text.split(",") if (part := each.strip())]
    if not parts:
        raise ApiError(400, f"{name} is empty: leave it out to mean all")
    if name in {"url", "path"} and not all(is_url(part) or part[0] == "/" for part in parts):
        return [text]
    return parts


def _filter(found: dict[str, list[str]]) -> Filter:
    numbers = {
        name: [whole_number(text, name, highest=LATEST_SECONDS * 1000) for text in found.pop(name)]
        for name in ("response_statuses", "from_ms", "to_ms")
        if name in found
    }
    states = [state for text in found.pop("states", ()) for state in _read_states(text)]
    return Filter(
        **{name: tuple(values) for name, values in found.items()},
        states=tuple(states),
        response_statuses=tuple(numbers.get("response_statuses", ())),
        from_ms=max(numbers.get("from_ms", [0])),
        to_ms=min(numbers.get("to_ms", [0])),
    )


def _read_states(text: str) -> tuple[str, ...]:
    """Return the states that a name means. The API spells CANCELED in two ways."""
    state = text.upper().replace("CANCELLED", "CANCELED")
    if state == "IN_PROGRESS":
        return _IN_PROGRESS
    if state not in _STATES:
        raise ApiError(400, f"state: {shown(text)} is none of {', '.join(_STATES)}")
    return (state,)
