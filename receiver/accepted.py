"""Counts the accepted messages by their source and event type, for the metrics and the history of
rates.

It is told of a whole batch at a time, so that a delivery costs no step of Python. Event types are
bounded, because senders choose them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter, itemgetter

from hookmill.instrumentation.labels import BoundedLabel
from hookmill.message import Message

MOST_SEEN = 5000
"""Messages that are noted before they are summed up."""

MOST_TYPES = 100
"""Event types that are told apart where no setting says otherwise."""

_MESSAGE = itemgetter(0)
_KIND = attrgetter("source", "type")
_TEXT_ALONE = {str}


class AcceptedTypes:
    """Tell it of each batch that was written; `counts` returns the counts since the start."""

    def __init__(self, most_types: int = MOST_TYPES) -> None:
        self._types = BoundedLabel(most_types, ("",))
        self._seen: list[tuple[str, str]] = []
        self._counts: Counter[tuple[str, str]] = Counter()

    def written(
        self, batch: Sequence[tuple[Message, object]], results: Sequence[str | Exception]
    ) -> None:
        """Count those messages whose result says where they were stored: a text that is not
        empty.
        """
        if set(map(type, results)) != _TEXT_ALONE or not all(results):
            pairs = zip(batch, results, strict=True)
            batch = [one for one, result in pairs if isinstance(result, str) and result]
        seen = self._seen
        seen.extend(map(_KIND, map(_MESSAGE, batch)))
        if len(seen) > MOST_SEEN:
            self._sum_up()

    def counts(self) -> Counter[tuple[str, str]]:
        """Return how many messages of each source and event type were accepted."""
        self._sum_up()
        return self._counts

    def _sum_up(self) -> None:
        """Count what was noted, under labels that are bounded."""
        seen, self._seen = Counter(self._seen), []
        for (source, event_type), number in seen.items():
            self._counts[source, self._types.of(event_type)] += number
