"""What the admin address of a supervisor answers: one answer for all of its processes.

It asks each process over a connection that nobody else can have. A process that does not answer
costs the others nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from http import HTTPStatus

from hookmill.printable import printable
from hookmill.runtime.admin_request import ACCEPT, Answer, PageRefusal
from hookmill.runtime.child_process import ChildProcess, Said
from hookmill.runtime.seat import Seat
from hookmill.runtime.summed_metrics import OPEN_METRICS, PLAIN, Family, MetricSample, SummedMetrics
from hookmill.runtime.summed_metrics import rendered as page_of

READY_WITHIN = 0.9
"""Seconds that processes have to say whether they are ready, if one of them is: probes wait for a
second by default.
"""

ANSWER_WITHIN = 4.0
"""Seconds that they have otherwise."""

OWN_METRICS = (
    ("hookmill_processes", "gauge", "Processes that do their work."),
    ("hookmill_processes_wanted", "gauge", "Processes that the supervisor keeps running."),
    (
        "hookmill_process_deaths", "counter",
        "Processes that ended although nobody had asked them to. Others took their places.",
    ),
)  # fmt: skip
"""The metrics of the supervisor itself: name, kind and meaning."""

_FAILING = PageRefusal(
    503, "processes_failing", "all processes end again and again: the log says how"
)
_STOPPING = PageRefusal(503, "stopping", "the processes are stopping")
_SILENT = PageRefusal(503, "timeout", "no process answered in time")


class SupervisorPages:
    """The pages; `seats` are those of the processes."""

    def __init__(self, seats: Sequence[Seat], stopping: asyncio.Event) -> None:
        self._seats, self._stopping = seats, stopping
        self._sums = SummedMetrics()
        for seat in seats:
            seat.ask_before_end = self._note_counts

    async def alive(self) -> Answer:
        """Answer /healthz: whether the supervisor and all with it have to be started again. It
        replaces one sick process by itself.
        """
        if not self._stopping.is_set() and all(seat.is_failing for seat in self._seats):
            return _FAILING.answer
        return Answer(200, f"ok, {self._count()}\n".encode())

    async def ready(self) -> Answer:
        """Answer /readyz: all have been ready once, and one is ready now."""
        if self._stopping.is_set():
            return _STOPPING.answer
        late = [str(seat.number) for seat in self._seats if not seat.was_ready.is_set()]
        if late:
            detail = f"of the processes, {', '.join(late)} have not begun to work yet"
            return PageRefusal(503, "starting", detail).answer
        asked = {
            seat.number: asyncio.create_task(seat.child.ask("/readyz", ANSWER_WITHIN))
            for seat in self._seats
            if seat.child is not None and seat.is_ready
        }
        said = await _answers(asked)
        ready = [number for number, one in said.items() if one.status == HTTPStatus.OK]
        if not ready:
            first = next(iter(said.values()), None)
            return _SILENT.answer if first is None else Answer(*first)
        each = [f"{seat.number}: {_of_one(seat, said)}" for seat in self._seats]
        text = f"ready, {len(ready)} of {len(self._seats)} processes ({'; '.join(each)})\n"
        return Answer(200, text.encode())

    async def metrics(self) -> Answer:
        """Answer /metrics: the sum of all."""
        running = [child for seat in self._seats for child in seat.started]
        asked = [child for child in running if child.ready.is_set()]
        accept = ACCEPT.get()
        for said in await asyncio.gather(*map(self._note_metrics, asked)):
            if said is not None and said.status != HTTPStatus.OK:
                return Answer(*said)  # the extra is not installed
        self._sums.keep_only(running)
        as_open_metrics = "application/openmetrics-text" in accept
        page = page_of(self._sums.sum(*self._own()), as_open_metrics=as_open_metrics)
        return Answer(200, page.encode(), OPEN_METRICS if as_open_metrics else PLAIN)

    async def _note_metrics(self, child: ChildProcess) -> Said | None:
        said = await child.ask("/metrics", ANSWER_WITHIN, OPEN_METRICS)
        # Once it has ended, its counts may be among those that stay: they must not come twice.
        if said is not None and said.status == HTTPStatus.OK and not child.ended.is_set():
            self._sums.note(child, said.body.decode())
        return said

    async def _note_counts(self, child: ChildProcess) -> None:
        """Note what a process has counted that is about to end: it goes on in the sums. When all
        end, nobody asks for them any more.
        """
        if child.ready.is_set() and not self._stopping.is_set():
            await self._note_metrics(child)

    def _own(self) -> list[Family]:
        ready = sum(seat.is_ready for seat in self._seats)
        deaths = sum(seat.deaths for seat in self._seats)
        found = []
        for (name, kind, meaning), value in zip(
            OWN_METRICS, (ready, len(self._seats), deaths), strict=True
        ):
            family = Family(name)
            family.kind, family.meaning = kind, meaning
            key = f"{name}_total" if kind == "counter" else name
            family.samples[key] = MetricSample(float(value))
            found.append(family)
        return found

    def _count(self) -> str:
        ready = sum(seat.is_ready for seat in self._seats)
        return f"{ready} of {len(self._seats)} processes"


async def _answers(asked: dict[int, asyncio.Task[Said | None]]) -> dict[int, Said]:
    """Return the answers by number. Once one is ready, the others are not waited for long."""
    loop = asyncio.get_running_loop()
    enough, running = loop.time() + READY_WITHIN, set(asked.values())
    while running:
        left = max(0.0, enough - loop.time()) or None
        _, running = await asyncio.wait(running, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        is_late = loop.time() >= enough
        if is_late and any(_is_ready(task) for task in asked.values()):
            break
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    found = {number: _result_of(task) for number, task in asked.items()}
    return {number: said for number, said in found.items() if said is not None}


def _is_ready(task: asyncio.Task[Said | None]) -> bool:
    said = _result_of(task)
    return said is not None and said.status == HTTPStatus.OK


def _result_of(task: asyncio.Task[Said | None]) -> Said | None:
    return task.result() if task.done() and not task.cancelled() else None


def _of_one(seat: Seat, answers: dict[int, Said]) -> str:
    """Return what the process of a seat says of itself, in a line."""
    said = answers.get(seat.number)
    if said is None:
        return "no answer" if seat.is_ready else "not ready"
    text = said.body.decode("utf-8", "replace").strip()
    try:
        refused = json.loads(text)
        return printable(f"{refused['error']}: {refused['detail']}")
    except (ValueError, TypeError, KeyError):
        return printable(text.replace("\n", "; "))
