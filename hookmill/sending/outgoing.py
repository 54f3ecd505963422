"""Plain values: an event to send with its options, and the result of sending it.

`Outgoing` has every option. The typed dictionaries name the options that each call of `Sender`
takes, so that a type checker refuses a wrong one.
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
"""An event; or raw bytes, sent unchanged; or a dict, sent as JSON without an envelope."""

Span: TypeAlias = str | float | timedelta
"""A duration: text such as "1d10h30m" or "45s", seconds, or a timedelta. Fractions of a second are
rounded up.
"""

Moment: TypeAlias = datetime | float
"""A datetime with a time zone, or Unix seconds."""

Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowControl:
    """Limits how fast QStash delivers messages with the same `key`.

    At most `parallelism` messages are delivered at a time, and at most `rate` in each `period`
    (unset: one second; at most a week).
    """

    key: str
    parallelism: int | None = None
    rate: int | None = None
    period: Span | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redact:
    """What QStash's log hides: the body, all headers (True), or the named headers."""

    body: bool = False
    headers: bool | Sequence[str] = False


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event to send to `url`, with its options.

    `secret` and `scheme` sign it. `secret` is the subscriber's signing secret. `scheme` is a
    `SignatureSpec` or the name of one: `marble`, `standard-webhooks` or another symmetric scheme of
    docs/reference/sources.md. Where they are not set, the sender's defaults apply; without any, the
    event is not signed.

    `delay` or `not_before`: when it is delivered first. `retries`: how often delivery is tried
    again when the subscriber does not answer with 2xx. `retry_delay`: the wait before each retry, a
    timedelta or QStash's expression in milliseconds ("1000 * (1 + retried)"). `timeout`: how long
    the subscriber may take to answer.

    `headers` are sent to the subscriber. `callback` and `failure_callback` are URLs.
    `callback_headers` and `failure_callback_headers` configure the callback's own delivery with
    QStash's names: `Forward-X` sends the header X along, and `Retries`, `Retry-Delay`, `Timeout`,
    `Delay` and `Method` set its options.

    `deduplication_id`: QStash accepts only the first of several messages with the same ID within
    ten minutes; unset: a unique ID is made. `content_based_deduplication`: QStash compares the
    content instead. `queue`: the queue of the message, in a batch or a schedule. `label`: the label
    in QStash's log. Direct delivery has no such log, so `label` and `redact` do nothing there.
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
    """The options of every call. `Outgoing` describes them."""

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
    """The options of `enqueue`. There is no delay, because the queue decides the order."""

    deduplication_id: str | None
    content_based_deduplication: bool


class SendOptions(QueueOptions, total=False):
    """The options of `send` and `send_to_group`."""

    delay: Span | None
    not_before: Moment | None
    flow_control: FlowControl | None


class ScheduleOptions(_Options, total=False):
    """The options of `schedules.create`."""

    delay: Span | None
    flow_control: FlowControl | None
    queue: str | None


class Published(NamedTuple):
    """A message that was accepted for delivery to `url`.

    `message_id` is QStash's; with direct delivery it is our own. `deduplicated`: QStash already had
    a message with this `deduplication_id`, and `message_id` names that message. After an attempt
    whose response was lost, that message is this one.
    """

    message_id: str
    deduplicated: bool
    deduplication_id: str | None
    url: str
