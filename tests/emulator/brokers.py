"""A broker whose clock the test moves, so that no test waits."""

from __future__ import annotations

from hookmill.emulator.broker import Broker
from hookmill.emulator.models import AttemptResult, PublishRequest, QStashMessage, Template
from hookmill.emulator.state import State

START = 1_779_400_000.0
"""Unix seconds."""

OK, BROKEN = AttemptResult(200), AttemptResult(500, body=b"no")


class TimedBroker:
    """A broker, its state, and its clock in `now` (Unix seconds)."""

    def __init__(self, scale: float = 1.0) -> None:
        self.now = START
        self.state = State()
        self.broker = Broker(self.state, clock=lambda: self.now, scale=scale)

    def publish(self, url: str = "http://a.example/", **fields: object) -> str:
        """Publish to one URL; return the message's ID."""
        names = Template.__struct_fields__
        template = Template(**{k: v for k, v in fields.items() if k in names})  # type: ignore[arg-type] # fields of several types
        rest = {k: v for k, v in fields.items() if k not in names}
        (receipt,) = self.broker.publish(PublishRequest(url, template, **rest))  # type: ignore[arg-type] # the same
        return receipt.message_id

    def start(self, most: int = 100) -> list[QStashMessage]:
        """Start the attempts that may start now."""
        return self.broker.start_attempts(most).messages

    def attempt(self, *results: AttemptResult) -> list[QStashMessage]:
        """Start the attempts that may start now, and end them with these results.

        The last result is used for the rest.
        """
        started = self.start()
        for number, message in enumerate(started):
            self.broker.finish_attempt(message, results[min(number, len(results) - 1)])
        return started

    def skip(self) -> float:
        """Move the clock to the next time at which an attempt may start; return the seconds."""
        again = self.broker.start_attempts(0).look_again_ms
        assert again is not None, "nothing waits for a time"
        before, self.now = self.now, again / 1000
        return self.now - before

    def states(self, message_id: str) -> list[str]:
        """Return the logged states of a message, in order."""
        return [one.state for one in self.state.log if one.message.id == message_id]
