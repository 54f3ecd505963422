"""What the stand-in keeps: messages, dead letters, schedules, queues, URL groups, flow control.

Plain data. Times are Unix milliseconds; 0 stands for "not set" as it does in QStash's own API.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values in their order; a name may occur more than once."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """The base of what is kept: it is replaced, never changed."""


class ApiError(Exception):
    """A request to the API is refused with this status and text."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(text)


class FlowControl(Record, frozen=True):
    """At most `parallelism` messages with this key at a time, `rate` of them each `period`."""

    key: str
    parallelism: int = 0
    rate: int = 0
    period: float = 1.0
    """Seconds."""


class Callback(Record, frozen=True):
    """Where to report an attempt or a failure, and how."""

    url: str
    method: str = "POST"
    headers: Headers = ()
    """Forwarded ones."""
    retries: int = 3
    retry_delay: str = ""
    delay_ms: int = 0
    timeout: float = 0.0


class Template(Record, frozen=True):
    """What is delivered, and how: all that a request says but where to and when."""

    method: str = "POST"
    headers: Headers = ()
    """What the destination gets: `Content-Type` and the forwarded ones, without their prefix."""
    body: bytes = b""
    retries: int = 3
    retry_delay: str = ""
    """An expression in milliseconds with the variable `retried`; "": QStash's own backoff."""
    timeout: float = 0.0
    """Seconds the destination may take to answer; 0: what the stand-in allows."""
    callback: Callback | None = None
    failure_callback: Callback | None = None
    labels: tuple[str, ...] = ()
    flow_control: FlowControl | None = None
    caller_ip: str = ""
    redact: tuple[str, ...] = ()
    """What logs leave out: `body`, `header`, `header[NAME]`."""


class Order(Record, frozen=True):
    """One request to publish, enqueue or, as an item, in a batch."""

    destination: str
    """A URL as it was written, or the name of a URL group."""
    template: Template
    queue: str = ""
    delay_ms: int = 0
    not_before_ms: int = 0
    """Goes before `delay_ms`."""
    deduplication_id: str = ""
    is_deduplicated_by_content: bool = False


class Receipt(Record, frozen=True):
    """What a publisher is told of one message."""

    message_id: str
    url: str
    is_duplicate: bool = False


class Message(Record, frozen=True):
    """A message on its way to one URL."""

    id: str
    url: str
    template: Template
    number: int
    """Its place in the order of arrival."""
    created_ms: int
    due_ms: int
    """When the next attempt may begin."""
    not_before_ms: int = 0
    """When the first one might."""
    retried: int = 0
    """Attempts that failed; `Upstash-Retried` of the next one."""
    topic: str = ""
    endpoint: str = ""
    queue: str = ""
    schedule_id: str = ""
    source: str = ""
    """The message that a callback tells of."""
    held_queue: str = ""
    """The queue whose next message waits for this callback."""


class Answer(Record, frozen=True):
    """How an attempt ended: the destination's answer, or status 0 and the error."""

    status: int = 0
    headers: Headers = ()
    body: bytes = b""
    error: str = ""


class DeadLetter(Record, frozen=True):
    """A message that QStash gave up."""

    id: str
    message: Message
    answer: Answer
    died_ms: int


class Schedule(Record, frozen=True):
    """Publishes its order at the times of a cron expression."""

    id: str
    cron: str
    order: Order
    created_ms: int
    next_ms: int
    last_ms: int = 0
    last_states: dict[str, str] = {}
    """Message ID to `IN_PROGRESS`, `SUCCESS` or `FAIL`, of the last time."""
    is_paused: bool = False
    error: str = ""


class Endpoint(Record, frozen=True):
    """A URL of a URL group."""

    url: str
    name: str = ""


class UrlGroup(Record, frozen=True):
    """URLs that get each message under one name (the API's word for it is topic)."""

    name: str
    created_ms: int
    updated_ms: int
    endpoints: tuple[Endpoint, ...] = ()


class Queue(Record, frozen=True):
    """Delivers in order, `parallelism` at a time."""

    name: str
    created_ms: int
    updated_ms: int
    parallelism: int = 1
    is_paused: bool = False


class Gate(Record, frozen=True):
    """The state of a flow-control key: what its last message asked for, or what is pinned."""

    key: str
    parallelism: int = 0
    rate: int = 0
    period: float = 1.0
    is_paused: bool = False
    is_parallelism_pinned: bool = False
    is_rate_pinned: bool = False
    began: int = 0
    """How many attempts began in the present period."""
    period_start_ms: int = 0


class Remembered(Record, frozen=True):
    """What a deduplication ID was given out for, and until when it counts."""

    receipts: tuple[Receipt, ...]
    expires_ms: int


class Keys(Record, frozen=True):
    """The signing keys."""

    current: str
    next: str


class LogEntry(Record, frozen=True):
    """A change of a message's state: CREATED, ACTIVE, RETRY, ERROR, DELIVERED, FAILED, CANCELED."""

    at_ms: int
    state: str
    message: Message
    error: str = ""
    next_ms: int = 0
    answer: Answer | None = None


class Filter(Record, frozen=True):
    """Which messages, dead letters or log entries are meant: several values mean any of them,
    several fields all of them, and what is not given excludes nothing.
    """

    message_ids: tuple[str, ...] = ()
    dlq_ids: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    schedule_ids: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    flow_control_keys: tuple[str, ...] = ()
    caller_ips: tuple[str, ...] = ()
    response_statuses: tuple[int, ...] = ()
    """Of dead letters only."""
    states: tuple[str, ...] = ()
    """Of log entries only."""
    from_ms: int = 0
    to_ms: int = 0
    """When it was logged, or died; 0: no end."""
