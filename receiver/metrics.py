"""Counts deliveries, and gives the counts to the page /metrics of the admin address."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hookmill.instrumentation.facts import AppendEnded
from hookmill.instrumentation.histograms import FAST, SIZES, Histograms, gauge, labelled
from hookmill.instrumentation.labels import OTHER
from hookmill.instrumentation.rates import OTHER as OTHER_TYPES
from hookmill.instrumentation.rates import Field
from receiver.accepted import MOST_TYPES, AcceptedTypes

WHY_CLOSED = (
    "long_trailers", "no_room", "no_room_answer", "no_room_body", "no_room_head", "no_room_idle",
    "no_room_read", "slow_head", "unread",
)  # fmt: skip
"""Why the receiver closes a connection."""


class Metrics:
    """Counts, for each source, the results of its deliveries and the secrets that verified them.

    The latter tells an operator when the old secret of a rotation is no longer used. A label says
    where a secret is kept, never the secret itself.
    """

    def __init__(self, most_types: int = MOST_TYPES) -> None:
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._secrets: Counter[tuple[str, str]] = Counter()
        self.accepted = AcceptedTypes(most_types)
        self._connections: Counter[tuple[str]] = Counter({(why,): 0 for why in WHY_CLOSED})
        self.usable_secrets: Mapping[str, int] = {}
        """How many secrets of each source are usable now."""
        self.backlog_limit: tuple[int, int] = (0, 0)
        """The most messages and bytes that may be unfinished. 0: there is no limit."""
        self._unavailable: Counter[tuple[str]] = Counter()
        self._requests = Histograms(
            "hookmill_request_seconds",
            "How long a delivery took, from its whole request to its answer.",
            FAST,
            ("source",),
        )
        self._appends = Histograms(
            "hookmill_append_seconds", "How long an append to Redis took.", FAST
        )
        self._batches = Histograms(
            "hookmill_append_batch_messages", "How many messages went with an append.", SIZES
        )
        self._append_seconds, self._batch_size = self._appends.of(), self._batches.of()
        self._reload_is_good = True
        self._reloaded_at = time.time()

    def connection_closed(self, why: str) -> None:
        """Count a connection that was closed because of its sender, or to make room."""
        self._connections[(why,)] += 1

    def count_unavailable(self, source: str) -> None:
        """Count a delivery that got 503."""
        self._unavailable[(source,)] += 1

    def add_secrets(self, source: str, secrets: Iterable[str]) -> None:
        """Show a source and its secrets even while their counts are zero: an operator looks for the
        zero, and an alert needs it.
        """
        self._outcomes[source, "accepted"] += 0
        self._unavailable[(source,)] += 0
        self._requests.of(source)
        for secret in secrets:
            self._secrets[source, secret] += 0

    def count(self, source: str, outcome: str) -> None:
        """Count a delivery: "accepted", "answered", or the code of its refusal."""
        self._outcomes[source, outcome] += 1

    def verified(self, source: str, secret: str) -> None:
        """Count a delivery that was verified with this secret."""
        self._secrets[source, secret] += 1

    def times_of(self, source: str) -> Callable[[float], None]:
        """Return what counts how long a delivery took, from its whole request to its answer."""
        return self._requests.of(source).add

    def flush(self) -> None:
        """Count what was added to the histograms."""
        for histograms in (self._requests, self._appends, self._batches):
            histograms.flush()

    def append_ended(self, ended: AppendEnded) -> None:
        """Count an append to Redis."""
        self._append_seconds.add(ended.seconds)
        self._batch_size.add(ended.messages)

    def reloaded(self, *, is_good: bool, now: float) -> None:
        """Note the last time that settings and sources were loaded (Unix seconds)."""
        self._reload_is_good = is_good
        if is_good:
            self._reloaded_at = now

    @property
    def rates(self) -> dict[Field, int]:
        """What the history of rates keeps: results of deliveries, the secrets that verified, and
        the types of what was accepted.
        """
        found: dict[Field, int] = {("in", *key): number for key, number in self._outcomes.items()}
        found |= {("key", *key): number for key, number in self._secrets.items()}
        for (source, event_type), number in self.accepted.counts().items():
            shown = OTHER_TYPES if event_type == OTHER else event_type  # as workers write it
            found["came", source, shown] = number
        return found

    def collect(self) -> Iterator[Any]:
        """Yield the counts as Prometheus' client expects them."""
        for name, meaning, labels, counts in (
            ("deliveries", "Deliveries by outcome.", ("source", "outcome"), self._outcomes),
            (
                "accepted_messages", "Messages that were accepted, by event type.",
                ("source", "type"), self.accepted.counts(),
            ),
            (
                "unavailable_deliveries", "Deliveries that got 503: their senders send them again.",
                ("source",), self._unavailable,
            ),
            (
                "verified", "Deliveries by the secret that verified them.", ("source", "secret"),
                self._secrets,
            ),
            (
                "connections_closed",
                "Connections that were closed to make room, or because of their sender.",
                ("reason",), self._connections,
            ),
        ):  # fmt: skip
            rows = sorted(counts.items())
            yield labelled("counter", f"hookmill_{name}", meaning, labels, rows)
        rows = [((name,), number) for name, number in sorted(self.usable_secrets.items())]
        yield labelled(
            "gauge",
            "hookmill_usable_secrets",
            "Secrets that are usable now. At 0 the deliveries of the source get 503.",
            ("source",),
            rows,
        )
        yield from self._other_families()

    def _other_families(self) -> Iterator[Any]:
        yield self._requests.family()
        yield self._appends.family()
        yield self._batches.family()
        yield gauge(
            "hookmill_last_reload_successful",
            "Whether all sources and settings were good when they were last loaded.",
            float(self._reload_is_good),
        )
        yield gauge(
            "hookmill_last_reload_success_timestamp_seconds",
            "When all sources and settings were last loaded and were good.",
            self._reloaded_at,
        )
        for unit, limit in zip(("messages", "bytes"), self.backlog_limit, strict=True):
            yield gauge(
                f"hookmill_backlog_limit_{unit}",
                f"The most {unit} that may be unfinished. Absent: there is no limit.",
                limit or None,
            )
