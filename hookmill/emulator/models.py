"""The records that the emulator stores: messages, DLQ, schedules, queues, URL groups, flow control.

Plain data. Times are Unix milliseconds; 0 means "not set", as in QStash's API. Redis keeps records
by their field names: a field that is renamed here keeps its stored name with `rename`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values in their order. A name may occur more than once."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """The base of all stored records. A record is replaced, never changed."""


class ApiError(Exception):
    """The API refuses a request with this status and text."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(text)


class FlowLimits(Record, frozen=True):
    """The limits that a message brings for its flow-control key.

    At most `parallelism` messages with this key are delivered at a time, and at most `rate` in each
    `period` (seconds). 0: no limit.
    """

    key: str
    parallelism: int = 0
    rate: int = 0
    period: float = 1.0


class CallbackTarget(Record, frozen=True):
    """Where an attempt or a failure is reported, and how that report is delivered."""

    url: str
    method: str = "POST"
    headers: Headers = ()
    """The forwarded headers."""
    retries: int = 3
    retry_delay: str = ""
    delay_ms: int = 0
    timeout: float = 0.0


class Template(Record, frozen=True):
    """What is delivered, and how: all of a publish request but its destination and its time."""

    method: str = "POST"
    headers: Headers = ()
    """What the destination receives: `Content-Type`, and the forwarded headers without prefix."""
    body: bytes = b""
    retries: int = 3
    retry_delay: str = ""
    """An expression in milliseconds with the variable `retried`. "": QStash's own backoff."""
    timeout: float = 0.0
    """Seconds that the destination may take to answer. 0: the emulator's maximum."""
    callback: CallbackTarget | None = None
    failure_callback: CallbackTarget | None = None
    labels: tuple[str, ...] = ()
    flow_control: FlowLimits | None = None
    caller_ip: str = ""
    redact: tuple[str, ...] = ()
    """What logs hide: `body`, `header`, `header[NAME]`."""


class PublishRequest(Record, frozen=True):
    """A request to publish or enqueue; an item of a batch is one as well."""

    destination: str
    """A URL as it was written, or the name of a URL group."""
    template: Template
    queue: str = ""
    delay_ms: int = 0
    not_before_ms: int = 0
    """Takes precedence over `delay_ms`."""
    deduplication_id: str = ""
    is_deduplicated_by_content: bool = False


class Receipt(Record, frozen=True):
    """What the API tells a publisher about one message."""

    message_id: str
    url: str
    is_duplicate: bool = False


class QStashMessage(Record, frozen=True, rename={"url_group": "topic", "callback_for": "source"}):
    """A message to one URL, from its publishing to its delivery."""

    id: str
    url: str
    template: Template
    number: int
    """Its position in the order of arrival."""
    created_ms: int
    due_ms: int
    """When the next attempt may start."""
    not_before_ms: int = 0
    """When the first attempt may start."""
    retried: int = 0
    """Failed attempts so far; the next attempt sends it as `Upstash-Retried`."""
    url_group: str = ""
    endpoint: str = ""
    queue: str = ""
    schedule_id: str = ""
    callback_for: str = ""
    """If this message is a callback: the ID of the message that it reports on."""
    held_queue: str = ""
    """The queue whose next message waits for this callback."""


class AttemptResult(Record, frozen=True):
    """How an attempt ended: the destination's response, or status 0 and the error."""

    status: int = 0
    headers: Headers = ()
    body: bytes = b""
    error: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


class DlqMessage(Record, frozen=True, rename={"result": "answer", "failed_ms": "died_ms"}):
    """A message in the dead letter queue (DLQ): all its attempts failed."""

    id: str
    message: QStashMessage
    result: AttemptResult
    """The result of its last attempt."""
    failed_ms: int


class CronSchedule(Record, frozen=True, rename={"request": "order"}):
    """A publish request that is repeated at the times of a cron expression."""

    id: str
    cron: str
    request: PublishRequest
    created_ms: int
    next_ms: int
    last_ms: int = 0
    last_states: dict[str, str] = {}
    """The messages of the last time: ID to `IN_PROGRESS`, `SUCCESS` or `FAIL`."""
    is_paused: bool = False
    error: str = ""


class Endpoint(Record, frozen=True):
    """A URL of a URL group."""

    url: str
    name: str = ""


class UrlGroup(Record, frozen=True):
    """URLs that each receive every message for one name. The API's paths call it a topic."""

    name: str
    created_ms: int
    updated_ms: int
    endpoints: tuple[Endpoint, ...] = ()


class Queue(Record, frozen=True):
    """Delivers its messages in order, `parallelism` at a time."""

    name: str
    created_ms: int
    updated_ms: int
    parallelism: int = 1
    is_paused: bool = False


class FlowControlKey(Record, frozen=True, rename={"started": "began"}):
    """The state of a flow-control key: the limits of its last message, or the pinned ones."""

    key: str
    parallelism: int = 0
    rate: int = 0
    period: float = 1.0
    is_paused: bool = False
    is_parallelism_pinned: bool = False
    is_rate_pinned: bool = False
    started: int = 0
    """Attempts that started in the current period."""
    period_start_ms: int = 0


class Deduplication(Record, frozen=True):
    """The receipts of the first message with a deduplication ID, and until when it counts."""

    receipts: tuple[Receipt, ...]
    expires_ms: int


class SigningKeys(Record, frozen=True):
    """The keys that sign deliveries: the current one, and the next one after a rotation.

    `made_here`: the emulator made them, by a rotation of published ones. Release 0.1 did not say.
    """

    current: str
    next: str
    made_here: bool = False


class LogEntry(Record, frozen=True, rename={"result": "answer"}):
    """A state of a message: CREATED, ACTIVE, RETRY, ERROR, DELIVERED, FAILED or CANCELED."""

    at_ms: int
    state: str
    message: QStashMessage
    error: str = ""
    next_ms: int = 0
    result: AttemptResult | None = None
