"""The messages outside of queues: when they become due, and which of them may start."""

from __future__ import annotations

from hookmill.emulator.due_messages import DueMessages
from hookmill.emulator.models import FlowLimits, QStashMessage, Template


class Messages:
    """Messages by ID. One that has ended is no longer there."""

    def __init__(self) -> None:
        self.by_id: dict[str, QStashMessage] = {}
        self.due = DueMessages(self.by_id.get)

    def add(self, name: str, due_ms: int, key: str = "") -> None:
        limits = FlowLimits(key, parallelism=1) if key else None
        message = QStashMessage(
            id=name,
            url="http://a.example/",
            template=Template(flow_control=limits),
            number=len(self.by_id),
            created_ms=0,
            due_ms=due_ms,
        )
        self.by_id[name] = message
        self.due.add(message)

    def start(self, now_ms: int, active: set[str], most: int = 100, full: str = "") -> list[str]:
        """Start what may start, but nothing of the flow-control key `full`."""
        self.due.make_due(now_ms)
        started: list[str] = []
        for message in self.due.candidates(active):
            limits = message.template.flow_control
            if len(started) < most and not (limits and limits.key == full):
                active.add(message.id)
                started.append(message.id)
        return started


def test_nothing_is_due_before_its_time() -> None:
    messages = Messages()
    assert messages.due.next_ms() is None
    messages.add("later", 2_000)
    messages.add("sooner", 1_000)
    assert messages.due.next_ms() == 1_000
    assert messages.start(999, set()) == []
    assert messages.start(1_000, set()) == ["sooner"]
    assert messages.due.next_ms() == 2_000
    assert messages.start(2_000, set()) == ["later"]
    assert messages.due.next_ms() is None


def test_messages_of_one_time_start_in_the_order_of_their_arrival() -> None:
    messages = Messages()
    for name in ("c", "a", "b"):
        messages.add(name, 1_000)
    assert messages.start(1_000, set()) == ["c", "a", "b"]


def test_what_could_not_start_is_first_the_next_time() -> None:
    messages, active = Messages(), set[str]()
    for name in ("a", "b", "c"):
        messages.add(name, 1_000)
    assert messages.start(1_000, active, most=1) == ["a"]
    messages.add("d", 1_000)
    assert messages.start(1_000, active) == ["b", "c", "d"]


def test_a_key_that_is_full_holds_up_only_its_own_messages() -> None:
    messages, active = Messages(), set[str]()
    messages.add("k1", 1_000, "k")
    messages.add("k2", 1_000, "k")
    messages.add("plain", 1_000)
    messages.add("other", 1_000, "o")
    assert messages.start(1_000, active, full="k") == ["plain", "other"]
    assert messages.start(1_000, active) == ["k1", "k2"]


def test_a_message_that_has_ended_meanwhile_does_not_start() -> None:
    messages, active = Messages(), set[str]()
    for name in ("waits", "due", "next"):
        messages.add(name, 2_000 if name == "waits" else 1_000)
    assert messages.start(1_000, active, most=0) == []
    del messages.by_id["due"], messages.by_id["waits"]
    assert messages.start(2_000, active) == ["next"]
    assert messages.due.next_ms() is None
