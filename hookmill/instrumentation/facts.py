"""The facts that listeners are told. They are values; what they say is never changed."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from hookmill.message import Message, Progress
from hookmill.stream.entries import Entry

OutcomeT = TypeVar("OutcomeT")
"""The worker's outcomes. They are the worker's own words, which no layer below it knows."""


class AttemptEnded(msgspec.Struct, Generic[OutcomeT], gc=False):
    """An attempt has ended, and its outcome is about to be written.

    `message` is None where it could not be read, `progress` what was known before the attempt.
    `began` is by `time.perf_counter`, and it took `seconds`. Its context variables are those of
    the attempt, so that a listener's log lines name the message.
    """

    entry: Entry
    message: Message | None
    progress: Progress
    outcome: OutcomeT
    began: float
    seconds: float


class AppendEnded(msgspec.Struct, gc=False):
    """An append of so many messages has ended, well or not. `began` is by `time.perf_counter`, and
    it took `seconds`.
    """

    messages: int
    began: float
    seconds: float
