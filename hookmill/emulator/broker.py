"""The stand-in's mind: what is published, whose turn it is, and what becomes of an attempt.

No I/O. Whoever calls it writes down what changed (`State.journal`) before telling anybody.
"""

from __future__ import annotations

import hashlib
import heapq
import secrets
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterator
from itertools import count
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from hookmill.emulator.backoff import wait_ms
from hookmill.emulator.callbacks import template_of
from hookmill.emulator.flow_control import Gates
from hookmill.emulator.models import (
    Answer,
    ApiError,
    Callback,
    DeadLetter,
    Filter,
    Keys,
    LogEntry,
    Message,
    Order,
    Receipt,
    Record,
    Remembered,
)
from hookmill.emulator.parsing import is_url
from hookmill.emulator.queues import Queues
from hookmill.emulator.schedules import Schedules
from hookmill.emulator.state import State, Table
from hookmill.emulator.url_groups import UrlGroups
from hookmill.signatures.qstash import DEVELOPMENT_KEYS

WINDOW_MS = 600_000
"""How long a deduplication ID is remembered."""

KEPT_MS = 3 * 86_400_000
"""How long a dead letter is kept; the service does it for 3 to 30 days."""

MOST_LOGGED = 4096
"""Bytes of an answer's body in a log entry: there are thousands of those."""

NOT_RETRYABLE = 489
"""The status that, with its header, keeps a failed message from being tried again."""


class Begun(NamedTuple):
    """The attempts that begin now, and when to look again (Unix ms; None: when something new
    happens).
    """

    messages: list[Message]
    look_again_ms: int | None


class Desk:
    """All that the stand-in does, but for HTTP and Redis.

    `clock` gives Unix seconds. `scale` multiplies what a message has to wait: delays, not-before
    and retries; 0.01 makes minutes of hours.
    """

    def __init__(
        self,
        state: State,
        keys: Keys | None = None,
        *,
        clock: Callable[[], float] = time.time,
        scale: float = 1.0,
    ) -> None:
        self._state = state
        self._keys = keys or Keys(*DEVELOPMENT_KEYS)
        self._clock = clock
        self._scale = scale
        self.queues = Queues(state, self.now_ms)
        self.topics = UrlGroups(state, self.now_ms)
        self.gates = Gates(state, self.now_ms)
        self.schedules = Schedules(state, self.now_ms)
        self._numbers = count(max((m.number for m in state.messages.all()), default=0) + 1)
        self._active: dict[str, Message] = {}
        self._due: list[tuple[int, int, str]] = []
        """Messages outside of queues by the time of their next attempt: a heap."""
        self._lines: dict[str, deque[str]] = {}
        """Those that are due, by flow-control key ("": none)."""
        for message in state.messages.all():
            self._line_up(message)

    def now_ms(self) -> int:
        """Return the time."""
        return int(self._clock() * 1000)

    # --- publishing ---

    def publish(self, order: Order, schedule_id: str = "") -> list[Receipt]:
        """Accept a message; for a URL group one an endpoint."""
        key = _deduplication_key(order)
        known = self._state.remembered.find(key) if key else None
        if known is not None and known.expires_ms > self.now_ms():
            return [msgspec.structs.replace(one, is_duplicate=True) for one in known.receipts]
        receipts = []
        for url, topic, endpoint in self._targets(order.destination):
            message = self._new(url, order, topic, endpoint, schedule_id)
            self._add(message)
            receipts.append(Receipt(message.id, url))
        if key:
            self._state.remembered.drop(key)  # so that they stand in the order of their ends
            expires_ms = self.now_ms() + WINDOW_MS
            self._state.remembered.put(key, Remembered(tuple(receipts), expires_ms))
        return receipts

    def _targets(self, destination: str) -> list[tuple[str, str, str]]:
        if is_url(destination):
            return [(destination, "", "")]
        group = self.topics.get(destination)
        return [(one.url, group.name, one.name) for one in group.endpoints]

    def _new(self, url: str, order: Order, topic: str, endpoint: str, schedule_id: str) -> Message:
        now = self.now_ms()
        wait = order.not_before_ms - now if order.not_before_ms else order.delay_ms
        due = now + max(0, round(wait * self._scale))
        return Message(
            _message_id(), url, order.template, next(self._numbers), now, due, due,
            topic=topic, endpoint=endpoint, queue=order.queue, schedule_id=schedule_id,
        )  # fmt: skip

    def _add(self, message: Message) -> None:
        if message.queue and self._state.queues.find(message.queue) is None:
            self.queues.upsert(message.queue)
        self._state.messages.put(message.id, message)
        self._tell("CREATED", message)
        self._line_up(message)

    def _line_up(self, message: Message) -> None:
        self.queues.line_up(message)
        self.gates.line_up(message)
        self._wait(message)

    def _wait(self, message: Message) -> None:
        if not message.queue:
            heapq.heappush(self._due, (message.due_ms, message.number, message.id))

    # --- messages ---

    def message(self, message_id: str) -> Message:
        """Return a message that is on its way; raise `ApiError` 404 where there is none."""
        return self._state.messages.get(message_id)

    def messages(self, choice: Filter) -> list[Message]:
        """Return the messages that are on their way, in the order of their arrival."""
        return [
            one
            for one in self._state.messages.some(choice.message_ids)
            if _fits(choice, one)
            and choice.from_ms <= one.created_ms <= (choice.to_ms or one.created_ms)
        ]

    def cancel(self, choice: Filter) -> int:
        """Stop messages; an attempt under way ends without consequence. Return how many."""
        found = self.messages(choice)
        for message in found:
            self._leave(message)
            self._tell("CANCELED", message)
        return len(found)

    def logs(self, choice: Filter) -> list[LogEntry]:
        """Return what happened to messages, the latest first."""
        return [
            entry
            for entry in reversed(self._state.log)
            if _fits(choice, entry.message)
            and _is_in(choice.states, entry.state)
            and choice.from_ms <= entry.at_ms <= (choice.to_ms or entry.at_ms)
        ]

    # --- dead letters ---

    def dead_letter(self, dlq_id: str) -> DeadLetter:
        """Return a message that was given up; raise `ApiError` 404 where there is none."""
        return self._state.letters.get(dlq_id)

    def dead_letters(self, choice: Filter) -> list[DeadLetter]:
        """Return the messages that were given up, the oldest first."""
        return [
            letter
            for letter in self._state.letters.some(choice.dlq_ids)
            if _fits(choice, letter.message)
            and _is_in(choice.response_statuses, letter.answer.status)
            and choice.from_ms <= letter.died_ms <= (choice.to_ms or letter.died_ms)
        ]

    def drop_dead(self, choice: Filter) -> int:
        """Forget messages that were given up; return how many."""
        found = self.dead_letters(choice)
        for letter in found:
            self._state.letters.drop(letter.id)
        return len(found)

    def retry_dead(self, choice: Filter) -> list[Receipt]:
        """Publish messages that were given up once more, under new IDs."""
        receipts = []
        for letter in self.dead_letters(choice):
            before, now = letter.message, self.now_ms()
            again = msgspec.structs.replace(
                before, id=_message_id(), number=next(self._numbers), created_ms=now, due_ms=now,
                not_before_ms=now, retried=0,
                held_queue="",  # what waited for a callback has gone on since
            )  # fmt: skip
            self._add(again)
            self._state.letters.drop(letter.id)
            receipts.append(Receipt(again.id, again.url))
        return receipts

    # --- signing keys ---

    @property
    def keys(self) -> Keys:
        """The signing keys."""
        return self._state.keys.find("signing") or self._keys

    def rotate_keys(self) -> Keys:
        """Sign with the next key from now on, and make a new next one."""
        rotated = Keys(self.keys.next, f"sig_{secrets.token_urlsafe(21)}")
        return self._state.keys.put("signing", rotated)

    # --- attempts ---

    @property
    def active(self) -> int:
        """How many attempts are under way."""
        return len(self._active)

    def is_gone(self, message: Message) -> bool:
        """Say whether a message that began was cancelled since."""
        return self._state.messages.find(message.id) is None

    def begin(self, room: int) -> Begun:
        """Begin attempts whose time has come, `room` of them at most."""
        self._fire()
        self._forget()
        now = self.now_ms()
        while self._due and self._due[0][0] <= now:
            self._come_due(heapq.heappop(self._due)[2])
        begun: list[Message] = []
        times = [self.schedules.next_ms(), self._due[0][0] if self._due else None]
        for message in self._candidates():
            opens = max(message.due_ms, self.gates.opens_ms(message) or _NEVER)
            if opens <= now and len(begun) < room:
                begun.append(self._begin(message))
            elif opens < _NEVER and opens > now:
                times.append(opens)
        return Begun(begun, min((one for one in times if one is not None), default=None))

    def _come_due(self, message_id: str) -> None:
        message = self._state.messages.find(message_id)
        if message is not None:
            self._lines.setdefault(_gate_of(message), deque()).append(message_id)

    def _candidates(self) -> Iterator[Message]:
        """Give each line's first, as long as it is taken, and the queues' turns."""
        for key in list(self._lines):
            line = self._lines[key]
            while line:
                message = self._state.messages.find(line[0])
                if message is not None:
                    yield message
                    if message.id not in self._active:
                        break
                line.popleft()
            else:
                del self._lines[key]
        for message_id in list(self.queues.turns()):
            if message_id not in self._active:
                yield self._state.messages.get(message_id)

    def _begin(self, message: Message) -> Message:
        self._active[message.id] = message
        self.gates.enter(message)
        self._tell("ACTIVE", message)
        return message

    def settle(self, message: Message, answer: Answer) -> None:
        """Say how an attempt ended: the message is delivered, waits for the next, or is dead."""
        del self._active[message.id]
        self.gates.exit(message)
        if self.is_gone(message):
            return
        dlq_id = ""
        if 200 <= answer.status < 300:
            self._tell("DELIVERED", message, answer)
        elif message.retried >= message.template.retries or _is_final(answer):
            dlq_id = self._bury(message, answer)
        else:
            self._retry(message, answer)
        self._call_back(message, answer, dlq_id)
        if dlq_id or 200 <= answer.status < 300:
            self._leave(message)
            ended = "FAIL" if dlq_id else "SUCCESS"
            self.schedules.ended(message.schedule_id, message.id, ended)

    def _retry(self, message: Message, answer: Answer) -> None:
        wait = wait_ms(message, answer, self.now_ms())
        due = self.now_ms() + round(wait * self._scale)
        again = msgspec.structs.replace(message, retried=message.retried + 1, due_ms=due)
        self._state.messages.put(message.id, again)
        self._tell("ERROR", message, answer, next_ms=due)
        self._tell("RETRY", again, answer, next_ms=due)
        self._wait(again)

    def _bury(self, message: Message, answer: Answer) -> str:
        letter = DeadLetter(f"dlq_{uuid.uuid4().hex}", message, answer, self.now_ms())
        self._state.letters.put(letter.id, letter)
        self._tell("ERROR", message, answer)
        self._tell("FAILED", message, answer)
        return letter.id

    def _leave(self, message: Message) -> None:
        self._state.messages.drop(message.id)
        self.queues.leave(message)
        self.gates.leave(message)

    def _call_back(self, message: Message, answer: Answer, dlq_id: str) -> None:
        template = message.template
        self._report(template.callback, message, answer, "")
        if dlq_id:
            self._report(template.failure_callback, message, answer, dlq_id)

    def _report(
        self, callback: Callback | None, message: Message, answer: Answer, dlq_id: str
    ) -> None:
        if callback is None:
            return
        now = self.now_ms()
        due = now + round(callback.delay_ms * self._scale)
        report = Message(
            _message_id(), callback.url, template_of(callback, message, answer, dlq_id),
            next(self._numbers), now, due, due, source=message.id, held_queue=message.queue,
        )  # fmt: skip
        self._add(report)

    def _fire(self) -> None:
        for schedule in self.schedules.due():
            try:
                receipts, error = self.publish(schedule.order, schedule.id), ""
            except ApiError as found:  # its URL group may be gone
                receipts, error = [], found.text
            self.schedules.fired(schedule, receipts, error)

    def _forget(self) -> None:
        """Drop what is over; both tables stand in the order of their ends."""
        now = self.now_ms()
        _drop_first(self._state.remembered, lambda one: one.expires_ms <= now)
        _drop_first(self._state.letters, lambda one: one.died_ms + KEPT_MS <= now)

    def _tell(
        self, state: str, message: Message, answer: Answer | None = None, next_ms: int = 0
    ) -> None:
        error = "" if answer is None or 200 <= answer.status < 300 else _error_in(answer)
        if answer is not None:
            answer = msgspec.structs.replace(answer, body=answer.body[:MOST_LOGGED])
        entry = LogEntry(self.now_ms(), state, _without_body(message), error, next_ms, answer)
        self._state.tell(entry)


_NEVER = 2**60
_R = TypeVar("_R", bound=Record)
_V = TypeVar("_V")


def _message_id() -> str:
    return f"msg_{uuid.uuid4().hex}"


def _drop_first(table: Table[_R], is_over: Callable[[_R], bool]) -> None:
    """Drop records from the front of a table, as long as they are over."""
    first = table.first()
    if first is None or not is_over(first):
        return  # nearly always: the rest would take long
    for key in table:
        if not is_over(table.get(key)):
            break
        table.drop(key)


def _gate_of(message: Message) -> str:
    control = message.template.flow_control
    return control.key if control else ""


def _is_final(answer: Answer) -> bool:
    marks = {name.lower(): value for name, value in answer.headers}
    mark = marks.get("upstash-nonretryable-error", "")
    return answer.status == NOT_RETRYABLE and mark.lower() == "true"


def _error_in(answer: Answer) -> str:
    return answer.error or f"status code {answer.status}"


def _without_body(message: Message) -> Message:
    """Leave out of a log entry what is long and never shown there."""
    template = msgspec.structs.replace(message.template, body=b"")
    return msgspec.structs.replace(message, template=template)


def _deduplication_key(order: Order) -> str:
    if order.deduplication_id:
        return f"id:{order.deduplication_id}"
    if not order.is_deduplicated_by_content:
        return ""
    said = (order.destination, sorted(order.template.headers), order.template.body)
    return f"content:{hashlib.sha256(msgspec.msgpack.encode(said)).hexdigest()}"


def _fits(choice: Filter, message: Message) -> bool:
    url = urlsplit(message.url) if choice.hosts or choice.paths else None
    wanted: list[tuple[Collection[str], str]] = [
        (choice.message_ids, message.id),
        (choice.urls, message.url),
        (choice.hosts, url.netloc if url else ""),
        (choice.paths, url.path if url else ""),
        (choice.topics, message.topic),
        (choice.queues, message.queue),
        (choice.schedule_ids, message.schedule_id),
        (choice.flow_control_keys, _gate_of(message)),
        (choice.caller_ips, message.template.caller_ip),
    ]
    return all(_is_in(values, has) for values, has in wanted) and (
        not choice.labels or bool({*choice.labels} & {*message.template.labels})
    )


def _is_in(values: Collection[_V], value: _V) -> bool:
    return not values or value in values
