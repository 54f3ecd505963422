"""Keeps the values of a label few: senders choose event types, and each value costs memory."""

from __future__ import annotations

from hookmill.printable import printable

OTHER = "other"
"""The value that stands for all beyond the bound."""

LONGEST = 100
"""Characters of a value. What is longer counts as other."""


class BoundedLabel:
    """The values of a label: the first `most` that come, and those that are `known` from the
    start.
    """

    def __init__(self, most: int, known: tuple[str, ...] = ()) -> None:
        self._most = most
        self._values = set(known)

    def of(self, text: str) -> str:
        """Return the value for a text, as it may be shown."""
        if text in self._values:
            return text
        is_fit = len(text) <= LONGEST and printable(text) == text
        if not is_fit or len(self._values) >= self._most:
            return OTHER
        self._values.add(text)
        return text
