"""Adds up the metrics of several processes, as text, so that a supervisor needs no library for it.

Counts never go back: those of a process that has ended stay. Otherwise Prometheus would take the
smaller sum for a restart, and count all of it again.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from typing import NamedTuple

OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"

SUMMED = frozenset({
    "hookmill_lost_log_lines", "hookmill_worker_free_slots", "hookmill_worker_free_threads",
    "hookmill_worker_held_messages", "hookmill_worker_slots", "hookmill_worker_stuck_threads",
    "hookmill_worker_threads", "hookmill_worker_waiting_for_thread",
})  # fmt: skip
"""Gauges of which each process has a part."""

LOWEST = frozenset({
    "hookmill_last_reload_success_timestamp_seconds", "hookmill_last_reload_successful",
    "hookmill_redis_up", "hookmill_usable_secrets", "hookmill_worker_healthy",
    "hookmill_worker_oldest_held_timestamp_seconds",
})  # fmt: skip
"""Gauges of which the lowest value is shown: it is that of the process that is worst off."""

HIGHEST = frozenset({
    "hookmill_backlog_limit_bytes", "hookmill_backlog_limit_messages",
    "hookmill_partitions_unseen", "hookmill_worker_partition_away", "hookmill_spool_bytes",
    "hookmill_spool_limit_bytes", "hookmill_spool_messages",
    "hookmill_spool_oldest_timestamp_seconds",
})  # fmt: skip
"""Gauges of which each process says the same, if it asked at the same time. So are all that begin
with `hookmill_group`.
"""

_SAMPLE = re.compile(
    r'([A-Za-z_:][A-Za-z0-9_:]*(?:\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})?) (\S+)(?: (# .*))?'
)


class MetricSample(NamedTuple):
    """A value, and the exemplar that follows it, "" if there is none."""

    value: float
    exemplar: str = ""


class Family:
    """A metric: its kind, its meaning, and its samples by name and labels."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind, self.meaning = "", ""
        self.samples: dict[str, MetricSample] = {}

    @property
    def counts(self) -> bool:
        """Whether it is a count, which never goes back."""
        return self.kind in {"counter", "histogram"}

    def add(self, other: Family) -> None:
        """Add the samples of another process."""
        self.kind, self.meaning = other.kind, other.meaning
        for key, sample in other.samples.items():
            there = self.samples.get(key)
            if there is None:
                self.samples[key] = sample
            else:
                value = self._of_both(there.value, sample.value)
                self.samples[key] = MetricSample(value, sample.exemplar or there.exemplar)

    def _of_both(self, one: float, other: float) -> float:
        if self.counts or self.name in SUMMED:
            return one + other
        return min(one, other) if self.name in LOWEST else max(one, other)


Families = dict[str, Family]


class SummedMetrics:
    """The metrics of all processes. `note` what each says, and which ones run."""

    def __init__(self) -> None:
        self._last: dict[Hashable, Families] = {}
        self._ended: Families = {}
        """The counts of the processes that have ended, as each was last asked."""

    def note(self, process: Hashable, page: str) -> None:
        """Note what a process says now. `page` is in OpenMetrics' format."""
        self._last[process] = parsed(page)

    def keep_only(self, running: Iterable[Hashable]) -> None:
        """Note which processes run. Of the others the counts stay, and the gauges go."""
        for process in self._last.keys() - set(running):
            _add_to(self._ended, [one for one in self._last.pop(process).values() if one.counts])

    def sum(self, *more: Family) -> Families:
        """Return all of them together."""
        found: Families = {}
        for families in (*self._last.values(), self._ended):
            _add_to(found, families.values())
        _add_to(found, more)
        return found


def _add_to(families: Families, more: Iterable[Family]) -> None:
    for one in more:
        families.setdefault(one.name, Family(one.name)).add(one)


def parsed(page: str) -> Families:
    """Return the metrics of a page in OpenMetrics' format."""
    families: Families = {}
    current = Family("")
    for line in page.split("\n"):  # not by `splitlines`: a label may have other line breaks
        if line.startswith("# "):
            word, name, rest = (*line[2:].split(" ", 2), "", "")[:3]
            if word in {"HELP", "TYPE"}:
                current = families.setdefault(name, Family(name))
                if word == "HELP":
                    current.meaning = rest
                else:
                    current.kind = rest
        elif sample := _SAMPLE.fullmatch(line):
            key, value, exemplar = sample.groups("")
            current.samples[key] = MetricSample(float(value), exemplar)
    return families


def rendered(families: Families, *, as_open_metrics: bool) -> str:
    """Return a page with these metrics, in OpenMetrics' format or in Prometheus' older one."""
    lines = []
    for family in families.values():
        # In the older format a counter's own name ends like those of its samples.
        suffix = "_total" if family.kind == "counter" and not as_open_metrics else ""
        lines.append(f"# HELP {family.name}{suffix} {family.meaning}")
        lines.append(f"# TYPE {family.name}{suffix} {family.kind}")
        for key, (value, exemplar) in family.samples.items():
            shown = f" {exemplar}" if exemplar and as_open_metrics else ""
            lines.append(f"{key} {value!r}{shown}")
    if as_open_metrics:
        lines.append("# EOF")
    return "\n".join([*lines, ""])
