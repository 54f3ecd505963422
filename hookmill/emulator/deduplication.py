"""Deduplication: a second message with the same ID or content gets the receipts of the first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from hookmill.emulator.models import Deduplication, PublishRequest, Receipt
from hookmill.emulator.state import State

WINDOW_MS = 600_000
"""How long a deduplication ID is remembered."""


class Deduplications:
    """The messages of the last ten minutes by ID or content. `now_ms` is the clock."""

    def __init__(self, state: State, now_ms: Callable[[], int]) -> None:
        self._table = state.deduplications
        self._now_ms = now_ms

    def find(self, request: PublishRequest) -> list[Receipt] | None:
        """Return the receipts of the first message, marked as duplicates; None: it is new."""
        key = _key_of(request)
        known = self._table.find(key) if key else None
        if known is None or known.expires_ms <= self._now_ms():
            return None
        return [msgspec.structs.replace(one, is_duplicate=True) for one in known.receipts]

    def remember(self, request: PublishRequest, receipts: list[Receipt]) -> None:
        """Store the receipts of a new message, if the request asks for deduplication."""
        if key := _key_of(request):
            self._table.drop(key)  # so that the table is in the order of expiry
            expires_ms = self._now_ms() + WINDOW_MS
            self._table.put(key, Deduplication(tuple(receipts), expires_ms))

    def delete_expired(self) -> None:
        """Delete what is older than the window."""
        now = self._now_ms()
        self._table.drop_first_while(lambda one: one.expires_ms <= now)


def _key_of(request: PublishRequest) -> str:
    if request.deduplication_id:
        return f"id:{request.deduplication_id}"
    if not request.is_deduplicated_by_content:
        return ""
    content = (request.destination, sorted(request.template.headers), request.template.body)
    return f"content:{hashlib.sha256(msgspec.msgpack.encode(content)).hexdigest()}"
