"""Writes down what a worker runs at this moment: tasks and threads, with their messages and stacks.

It may be called from any thread, also while the event loop is blocked.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, NamedTuple

from hookmill.printable import printable
from worker.threads import ThreadCall

MAX_DEPTH = 100
"""The most frames that are shown of one stack."""


_INNER = {"cr": "cr_await", "gi": "gi_yieldfrom", "ag": "ag_await"}
"""What a coroutine, a generator and an async generator wait for: the attribute of each."""


class Run(NamedTuple):
    """A message that runs: its names, its task, and when it began by `time.perf_counter`."""

    message_id: str
    handlers: str
    task: asyncio.Task[Any]
    began: float


def what_runs(
    runs: Iterable[Run], calls: Iterable[ThreadCall], loop: asyncio.AbstractEventLoop
) -> str:
    """Return a text for a person: first the messages, then the other tasks, then all threads."""
    runs = list(runs)
    lines = [f"hookmill worker: {len(runs)} messages run"]
    now = time.perf_counter()
    for run in runs:
        name = printable(run.message_id)
        lines.append(f"message {name}, handler {run.handlers}, for {now - run.began:.1f} s")
        lines += _lines_of_task(run.task)
    of_messages = {run.task for run in runs}
    for task in asyncio.all_tasks(loop) - of_messages:
        lines.append(f"task {task.get_name()}")
        lines += _lines_of_task(task)
    lines += _lines_of_threads(calls)
    return "\n".join(lines) + "\n"


def stack_of_thread(identifier: int) -> list[str]:
    """Return where a thread is, one line for each frame, the innermost last."""
    frame = sys._current_frames().get(identifier)  # noqa: SLF001 - the documented way to ask for it
    return [] if frame is None else _lines(list(traceback.walk_stack(frame))[:MAX_DEPTH][::-1])


def stack_of_task(name: str, tasks: Iterable[asyncio.Task[Any]]) -> str:
    """Return where the task of this name is, the innermost frame last; "" if there is none."""
    found = (task for task in tasks if task.get_name() == name)
    return "\n".join(line for task in found for line in _lines_of_task(task))


def _lines_of_threads(calls: Iterable[ThreadCall]) -> list[str]:
    by_thread = {call.thread: call for call in calls}
    lines: list[str] = []
    for thread in threading.enumerate():
        call = by_thread.get(thread.ident or 0)
        about = ""
        if call is not None:
            seconds = time.monotonic() - call.began
            about = f", message {call.message_id}, handler {call.handler.name}, for {seconds:.1f} s"
        lines.append(f"thread {thread.name}{about}")
        lines += stack_of_thread(thread.ident or 0)
    return lines


def _lines_of_task(task: asyncio.Task[Any]) -> list[str]:
    return _lines([(frame, frame.f_lineno) for frame in _frames_of(task.get_coro())])


def _lines(frames: list[tuple[FrameType, int]]) -> list[str]:
    stack = traceback.StackSummary.extract(iter(frames), limit=MAX_DEPTH)
    return "".join(stack.format()).rstrip("\n").split("\n") if stack else []


def _frames_of(awaited: Any) -> Iterator[FrameType]:
    """Return the frames of a coroutine and of what it awaits. `Task.get_stack` stops at the first
    one, which is ours.
    """
    for _ in range(MAX_DEPTH):
        kind = next((kind for kind in _INNER if hasattr(awaited, f"{kind}_frame")), None)
        if kind is None:
            return
        frame = getattr(awaited, f"{kind}_frame")
        if frame is not None:
            yield frame
        awaited = getattr(awaited, _INNER[kind])
