"""What a user says of an event that is to be sent, and gets back: plain values, nothing is done.

`Outgoing` holds every option; the typed dictionaries name those that each of the sender's calls
takes, so that type checkers refuse a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict

from hookmill.events import Event
from hookmill.signatures import Secret
from hookmill.signatures.spec import SignatureSpec

Body: TypeAlias = Event | bytes | Mapping[str, Any]
"""An event; or raw bytes, sent as they stand; or what JSON can say, sent without an envelope."""

Span: TypeAlias = str | float | timedelta
"""A length of time: text such as "1d10h30m" or "45s", seconds, or a timedelta. Fractions of a
second are rounded up.
"""

Moment: TypeAlias = datetime | float
"""A datetime with its time zone, or Unix seconds."""

Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowControl:
    """How many messages with the same `key` QStash delivers: `parallelism` at a time, `rate` in
    each `period` (at most a week; unset: a second).
    """

    key: str
    parallelism: int | None = None
    rate: int | None = None
    period: Span | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redact:
    """What QStash's log does not show: the body, all headers (True), or the headers named."""

    body: bool = False
    headers: bool | Sequence[str] = False


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event on its way to `url`, with all that may be said of it.

    `secret` and `scheme`: what it is signed with. The subscriber's signing secret, and the name of
    the way to sign (`marble`, `standard-webhooks`, or another symmetric sender of docs/sources.md)
    or a `Shape`. Unset: the sender's own defaults; nothing anywhere: it is not signed.

    `delay` or `not_before`: when it is delivered. `retries`: how often it is tried again when the
    subscriber does not answer with 2xx; `retry_delay`: how long QStash waits before that, as its
    expression in milliseconds ("1000 * (1 + retried)") or a timedelta. `timeout`: how long the
    subscriber may take.

    `headers` go to the subscriber. `callback` and `failure_callback` are URLs; `callback_headers`
    and `failure_callback_headers` configure these deliveries as QStash names it: `Forward-X` sends
    the header X along, `Retries`, `Retry-Delay`, `Timeout`, `Delay` and `Method` say how.

    `deduplication_id`: of two messages with the same one QStash takes the first, for ten minutes;
    unset: one that no other message has. `content_based_deduplication` has QStash compare the
    content instead. `queue`: the queue it stands in, in a batch or a schedule. `label`: what the
    log of QStash has it under. Sent directly there is no log: `label` and `redact` change nothing.
    """

    url: str
    event: Body = field(repr=False)
    _: KW_ONLY
    secret: str | Secret | None = field(default=None, repr=False)
    scheme: str | SignatureSpec | None = None
    method: Method | None = None
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    delay: Span | None = None
    not_before: Moment | None = None
    retries: int | None = None
    retry_delay: str | timedelta | None = None
    timeout: Span | None = None
    deduplication_id: str | None = None
    content_based_deduplication: bool = False
    callback: str | None = None
    callback_headers: Mapping[str, str] | None = field(default=None, repr=False)
    failure_callback: str | None = None
    failure_callback_headers: Mapping[str, str] | None = field(default=None, repr=False)
    label: str | None = None
    flow_control: FlowControl | None = None
    redact: Redact | None = None
    queue: str | None = None


class _Options(TypedDict, total=False):
    """The options that every call takes, as `Outgoing` describes them."""

    secret: str | Secret | None
    scheme: str | SignatureSpec | None
    method: Method | None
    headers: Mapping[str, str] | None
    retries: int | None
    retry_delay: str | timedelta | None
    timeout: Span | None
    callback: str | None
    callback_headers: Mapping[str, str] | None
    failure_callback: str | None
    failure_callback_headers: Mapping[str, str] | None
    label: str | None
    redact: Redact | None


class QueueOptions(_Options, total=False):
    """What `enqueue` takes: a queue decides itself when a message's turn is."""

    deduplication_id: str | None
    content_based_deduplication: bool


class SendOptions(QueueOptions, total=False):
    """What `send` and `send_to_group` take."""

    delay: Span | None
    not_before: Moment | None
    flow_control: FlowControl | None


class ScheduleOptions(_Options, total=False):
    """What `schedules.create` takes."""

    delay: Span | None
    flow_control: FlowControl | None
    queue: str | None


class Published(NamedTuple):
    """What has been taken over for delivery to `url`.

    `message_id` is QStash's; sent directly, our own. `deduplicated`: QStash had a message with this
    `deduplication_id` already, and `message_id` names that one. After an attempt of ours whose
    answer was lost that is the message itself.
    """

    message_id: str
    deduplicated: bool
    deduplication_id: str | None
    url: str
