"""All that a worker measures for its page /metrics. Without such a page there is none of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from hookmill.config.settings import Settings
from hookmill.instrumentation.histograms import labelled
from hookmill.instrumentation.program import ProgramMetrics
from hookmill.stream.client import Client
from worker.message_metrics import MessageMetrics


class WorkerCounts(NamedTuple):
    """What a worker counts anyway, because it is rare."""

    duplicates: int
    late_outcomes: int
    taken_over: int
    recovered: int
    suspects: int
    waiting_for_thread: int


_COUNTERS = {
    "duplicates": "Messages that were dropped because their ID had come before.",
    "late_outcomes": "Outcomes that were dropped because another worker had their messages.",
    "taken_over": "Messages that were taken over from a silent worker.",
    "recovered": "Messages that were taken again because the reply with them was lost.",
    "suspects": "Messages that had to run alone because workers had died with them.",
}


class Instruments:
    """A collector of all that a worker measures; `start` it, and `stop` it. `handlers` are the
    names of the worker's. `lanes` are the clients of the lanes, whose round trips count.
    """

    def __init__(
        self, settings: Settings, handlers: Iterable[str], client: Client,
        count: Callable[[], WorkerCounts], lanes: Iterable[Client] = (),
    ) -> None:  # fmt: skip
        self._group = settings.group
        self._count = count
        self.messages = MessageMetrics(settings.group, handlers, settings.metrics_types)
        program = self._program = ProgramMetrics(
            client, settings.lease, self.messages.flush, lanes=lanes
        )
        self.start, self.stop, self.prepare = program.start, program.stop, program.prepare

    def collect(self) -> Iterator[Any]:
        """Yield counters, histograms, and what both programs show."""
        counts = self._count()
        for name, meaning in _COUNTERS.items():
            rows = [((self._group,), getattr(counts, name))]
            yield labelled("counter", f"hookmill_{name}", meaning, ("group",), rows)
        yield labelled(
            "gauge",
            "hookmill_worker_waiting_for_thread",
            "Messages that wait for a free thread.",
            ("group",),
            [((self._group,), counts.waiting_for_thread)],
        )
        yield from self.messages.collect()
        yield from self._program.collect()


class Instrumented(Protocol):
    """A worker that may measure."""

    instruments: Instruments | None


class StartedInstruments:
    """A collector that shows nothing until there is a worker, which `look` returns."""

    def __init__(self, look: Callable[[], Instrumented | None]) -> None:
        self._look = look

    async def prepare(self) -> None:
        """Gather what has to be asked for."""
        if instruments := self._instruments():
            await instruments.prepare()

    def collect(self) -> Iterator[Any]:
        """Yield what the worker measures."""
        if instruments := self._instruments():
            yield from instruments.collect()

    def _instruments(self) -> Instruments | None:
        worker = self._look()
        return None if worker is None else worker.instruments
