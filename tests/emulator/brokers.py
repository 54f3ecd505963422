"""A desk with a clock of its own, for tests that need no time to pass."""

from __future__ import annotations

from hookmill.emulator.broker import Desk
from hookmill.emulator.models import Answer, Message, Order, Template
from hookmill.emulator.state import State

START = 1_779_400_000.0
"""Unix seconds."""

OK, BROKEN = Answer(200), Answer(500, body=b"no")


class Trial:
    """A desk whose time the test moves."""

    def __init__(self, scale: float = 1.0) -> None:
        self.now = START
        self.state = State()
        self.desk = Desk(self.state, clock=lambda: self.now, scale=scale)

    def publish(self, url: str = "http://a.example/", **fields: object) -> str:
        """Publish to one URL; return the message's ID."""
        names = Template.__struct_fields__
        template = Template(**{k: v for k, v in fields.items() if k in names})  # type: ignore[arg-type]
        rest = {k: v for k, v in fields.items() if k not in names}
        (receipt,) = self.desk.publish(Order(url, template, **rest))  # type: ignore[arg-type]
        return receipt.message_id

    def begin(self, room: int = 100) -> list[Message]:
        """Begin what may begin now."""
        return self.desk.begin(room).messages

    def attempt(self, *answers: Answer) -> list[Message]:
        """Begin what may begin now, and settle it with these answers, the last one for the rest."""
        begun = self.begin()
        for number, message in enumerate(begun):
            self.desk.settle(message, answers[min(number, len(answers) - 1)])
        return begun

    def skip(self) -> float:
        """Go to the time at which something may begin again; return how many seconds that is."""
        again = self.desk.begin(0).look_again_ms
        assert again is not None, "nothing waits for a time"
        before, self.now = self.now, again / 1000
        return self.now - before

    def states(self, message_id: str) -> list[str]:
        """Return what the log says of a message, in order."""
        return [one.state for one in self.state.log if one.message.id == message_id]
