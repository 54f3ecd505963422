"""Decides what is published, which attempts start now, and what follows from their results.

No I/O. The caller saves the changes (`State.journal`) before it tells anybody about them.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

import msgspec

from hookmill.emulator.backoff import wait_ms
from hookmill.emulator.callbacks import template_of
from hookmill.emulator.credentials import rotated
from hookmill.emulator.deduplication import Deduplications
from hookmill.emulator.dlq import DeadLetterQueue
from hookmill.emulator.due_messages import DueMessages
from hookmill.emulator.filters import Filter
from hookmill.emulator.flow_control import FlowControls
from hookmill.emulator.message_log import MessageLog
from hookmill.emulator.models import (
    ApiError,
    AttemptResult,
    CallbackTarget,
    PublishRequest,
    QStashMessage,
    Receipt,
    SigningKeys,
)
from hookmill.emulator.parsing import is_url
from hookmill.emulator.queues import Queues
from hookmill.emulator.schedules import CronSchedules
from hookmill.emulator.state import State
from hookmill.emulator.url_groups import UrlGroups
from hookmill.signatures.qstash import DEVELOPMENT_KEYS

NOT_RETRYABLE = 489
"""With this status and a header, a destination stops the retries of a message."""

_NEVER = 2**60


class StartedAttempts(NamedTuple):
    """The messages whose attempts start now, and when to look again.

    `look_again_ms` is a Unix time in milliseconds. None: nothing waits for a time.
    """

    messages: list[QStashMessage]
    look_again_ms: int | None


class _Target(NamedTuple):
    """A URL to deliver to, and the URL group and endpoint that it comes from."""

    url: str
    url_group: str = ""
    endpoint: str = ""


class Broker:
    """All of the emulator except HTTP and Redis.

    `clock` returns Unix seconds. `scale` multiplies the waits of messages: delays, not-before and
    retries. With 0.01 an hour becomes 36 seconds.
    """

    def __init__(
        self,
        state: State,
        keys: SigningKeys | None = None,
        *,
        clock: Callable[[], float] = time.time,
        scale: float = 1.0,
    ) -> None:
        self._state = state
        self._keys = keys or SigningKeys(*DEVELOPMENT_KEYS)
        self._clock = clock
        self._scale = scale
        self.queues = Queues(state, self.now_ms)
        self.url_groups = UrlGroups(state, self.now_ms)
        self.flow_controls = FlowControls(state, self.now_ms)
        self.schedules = CronSchedules(state, self.now_ms)
        self.dlq = DeadLetterQueue(state, self.now_ms)
        self.log = MessageLog(state, self.now_ms)
        self._deduplications = Deduplications(state, self.now_ms)
        self._due = DueMessages(state.messages.find)
        self._numbers = count(max((m.number for m in state.messages.all()), default=0) + 1)
        self._active: dict[str, QStashMessage] = {}
        """Messages with an attempt under way, by ID."""
        for message in state.messages.all():
            self._schedule(message)

    def now_ms(self) -> int:
        """Return the time."""
        return int(self._clock() * 1000)

    # --- publishing ---

    def publish(self, request: PublishRequest, schedule_id: str = "") -> list[Receipt]:
        """Accept a message; for a URL group, a message for each endpoint."""
        known = self._deduplications.find(request)
        if known is not None:
            return known
        receipts = []
        for target in self._targets(request.destination):
            message = self._new(target, request, schedule_id)
            self._add(message)
            receipts.append(Receipt(message.id, target.url))
        self._deduplications.remember(request, receipts)
        return receipts

    def _targets(self, destination: str) -> list[_Target]:
        if is_url(destination):
            return [_Target(destination)]
        group = self.url_groups.get(destination)
        return [_Target(one.url, group.name, one.name) for one in group.endpoints]

    def _new(self, target: _Target, request: PublishRequest, schedule_id: str) -> QStashMessage:
        now = self.now_ms()
        wait = request.not_before_ms - now if request.not_before_ms else request.delay_ms
        due = now + max(0, round(wait * self._scale))
        return QStashMessage(
            _message_id(), target.url, request.template, next(self._numbers), now, due, due,
            url_group=target.url_group, endpoint=target.endpoint, queue=request.queue,
            schedule_id=schedule_id,
        )  # fmt: skip

    def _add(self, message: QStashMessage) -> None:
        if message.queue and self._state.queues.find(message.queue) is None:
            self.queues.upsert(message.queue)
        self._state.messages.put(message.id, message)
        self.log.add("CREATED", message)
        self._schedule(message)

    def _schedule(self, message: QStashMessage) -> None:
        self.queues.add(message)
        self.flow_controls.add(message)
        if not message.queue:
            self._due.add(message)

    # --- messages ---

    def message(self, message_id: str) -> QStashMessage:
        """Return a message that is on its way; raise `ApiError` 404 if there is none."""
        return self._state.messages.get(message_id)

    def messages(self, wanted: Filter) -> list[QStashMessage]:
        """Return messages that are on their way, in the order of their arrival."""
        found = self._state.messages.some(wanted.message_ids)
        return [one for one in found if wanted.matches(one)]

    def cancel(self, wanted: Filter) -> int:
        """Cancel messages; return how many. The result of an attempt under way is ignored."""
        found = self.messages(wanted)
        for message in found:
            self._remove(message)
            self.log.add("CANCELED", message)
        return len(found)

    def is_gone(self, message: QStashMessage) -> bool:
        """Return whether a message has been cancelled since its attempt started."""
        return self._state.messages.find(message.id) is None

    def retry_from_dlq(self, wanted: Filter) -> list[Receipt]:
        """Publish DLQ messages again, under new IDs."""
        receipts = []
        for one in self.dlq.find(wanted):
            now = self.now_ms()
            again = msgspec.structs.replace(
                one.message, id=_message_id(), number=next(self._numbers), created_ms=now,
                due_ms=now, not_before_ms=now, retried=0,
                held_queue="",  # the queue has not waited for this callback since it failed
            )  # fmt: skip
            self._add(again)
            self.dlq.delete(Filter(dlq_ids=(one.id,)))
            receipts.append(Receipt(again.id, again.url))
        return receipts

    # --- signing keys ---

    @property
    def keys(self) -> SigningKeys:
        """The signing keys."""
        return self._state.keys.find("signing") or self._keys

    def rotate_keys(self) -> SigningKeys:
        """Sign with the next key from now on, and make a new next key."""
        return self._state.keys.put("signing", rotated(self.keys))

    # --- attempts ---

    @property
    def active(self) -> int:
        """How many attempts are under way."""
        return len(self._active)

    def start_attempts(self, most: int) -> StartedAttempts:
        """Start the attempts whose time has come, at most `most` of them."""
        self._publish_due_schedules()
        self._deduplications.delete_expired()
        self.dlq.delete_expired()
        now = self.now_ms()
        self._due.make_due(now)
        times = [self.schedules.next_ms(), self._due.next_ms()]
        started: list[QStashMessage] = []
        for message in self._candidates():
            start = max(message.due_ms, self.flow_controls.next_start_ms(message) or _NEVER)
            if start <= now and len(started) < most:
                started.append(self._start(message))
            elif now < start < _NEVER:
                times.append(start)
        return StartedAttempts(started, min((t for t in times if t is not None), default=None))

    def _candidates(self) -> Iterator[QStashMessage]:
        yield from self._due.candidates(self._active)
        for message_id in list(self.queues.deliverable()):
            if message_id not in self._active:
                yield self._state.messages.get(message_id)

    def _start(self, message: QStashMessage) -> QStashMessage:
        self._active[message.id] = message
        self.flow_controls.start_attempt(message)
        self.log.add("ACTIVE", message)
        return message

    def finish_attempt(self, message: QStashMessage, result: AttemptResult) -> None:
        """Record a result: the message is delivered, waits for a retry, or goes to the DLQ."""
        del self._active[message.id]
        self.flow_controls.end_attempt(message)
        if self.is_gone(message):
            return
        dlq_id = ""
        if result.is_success:
            self.log.add("DELIVERED", message, result)
        elif message.retried >= message.template.retries or _stops_retries(result):
            dlq_id = self.dlq.add(message, result)
            self.log.add("ERROR", message, result)
            self.log.add("FAILED", message, result)
        else:
            self._retry(message, result)
        self._add_callback(message.template.callback, message, result, "")
        if dlq_id:
            self._add_callback(message.template.failure_callback, message, result, dlq_id)
        if dlq_id or result.is_success:
            self._remove(message)
            ended = "FAIL" if dlq_id else "SUCCESS"
            self.schedules.record_ended(message.schedule_id, message.id, ended)

    def _retry(self, message: QStashMessage, result: AttemptResult) -> None:
        wait = wait_ms(message, result, self.now_ms())
        due = self.now_ms() + round(wait * self._scale)
        again = msgspec.structs.replace(message, retried=message.retried + 1, due_ms=due)
        self._state.messages.put(message.id, again)
        self.log.add("ERROR", message, result, next_ms=due)
        self.log.add("RETRY", again, result, next_ms=due)
        if not again.queue:
            self._due.add(again)

    def _remove(self, message: QStashMessage) -> None:
        self._state.messages.drop(message.id)
        self.queues.remove(message)
        self.flow_controls.remove(message)

    def _add_callback(
        self,
        callback: CallbackTarget | None,
        message: QStashMessage,
        result: AttemptResult,
        dlq_id: str,
    ) -> None:
        if callback is None:
            return
        now = self.now_ms()
        due = now + round(callback.delay_ms * self._scale)
        report = QStashMessage(
            _message_id(), callback.url, template_of(callback, message, result, dlq_id),
            next(self._numbers), now, due, due, callback_for=message.id, held_queue=message.queue,
        )  # fmt: skip
        self._add(report)

    def _publish_due_schedules(self) -> None:
        for schedule in self.schedules.due():
            try:
                receipts, error = self.publish(schedule.request, schedule.id), ""
            except ApiError as found:  # its URL group may have been deleted
                receipts, error = [], found.text
            self.schedules.record_published(schedule, receipts, error)


def _message_id() -> str:
    return f"msg_{uuid.uuid4().hex}"


def _stops_retries(result: AttemptResult) -> bool:
    headers = {name.lower(): value for name, value in result.headers}
    mark = headers.get("upstash-nonretryable-error", "")
    return result.status == NOT_RETRYABLE and mark.lower() == "true"
