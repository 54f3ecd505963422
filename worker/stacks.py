"""Writes down what a worker runs at this moment: tasks and threads, with their messages and stacks.

It may be called from any thread, also while the event loop is blocked. Values of variables are in
none of it.
"""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, NamedTuple

from hookmill.printable import printable
from worker.threads import ThreadCall

MAX_DEPTH = 100
"""The most frames that are shown of one stack."""

MAX_BRIEF = 64 * 1024
"""Characters that are shown to an operator who asks through Redis."""

_FOLDERS = re.compile(r"^.*/(?:site-packages|dist-packages|lib(?:64)?/python[0-9.]+)/")
"""What is left out in front of a library's path: it differs between machines and says nothing."""

_INNER = {"cr": "cr_await", "gi": "gi_yieldfrom", "ag": "ag_await"}
"""What a coroutine, a generator and an async generator wait for: the attribute of each."""

Frames = list[tuple[FrameType, int]]
"""The frames of a stack with their lines, the innermost last."""

Write = Callable[[Frames], list[str]]


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
    lines += [*_messages(runs, _whole), *_other_tasks(runs, loop, _whole), *_threads(calls, _whole)]
    return "\n".join(lines) + "\n"


def what_runs_briefly(
    runs: Iterable[Run], calls: Iterable[ThreadCall], loop: asyncio.AbstractEventLoop
) -> str:
    """Return the same for the console: without lines of source, which may hold anything, with short
    paths, and cut at its end. So the threads stand first: one of them blocks the event loop.
    """
    runs = sorted(runs, key=lambda run: run.began)
    lines = [f"{len(runs)} messages run"]
    left = MAX_BRIEF
    for part in (
        _threads(calls, _brief),
        _messages(runs, _brief),
        _other_tasks(runs, loop, _brief),
    ):
        for line in part:
            left -= len(line) + 1
            if left < 0:
                return "\n".join([*lines, "(more runs than is shown here)"]) + "\n"
            lines.append(line)
    return "\n".join(lines) + "\n"


def stack_of_thread(identifier: int) -> list[str]:
    """Return where a thread is, one line for each frame, the innermost last."""
    return _whole(_frames_of_thread(identifier))


def stack_of_task(name: str, tasks: Iterable[asyncio.Task[Any]]) -> str:
    """Return where the task of this name is, the innermost frame last; "" if there is none."""
    found = (task for task in tasks if task.get_name() == name)
    return "\n".join(line for task in found for line in _whole(_frames_of_task(task)))


def _messages(runs: Iterable[Run], write: Write) -> Iterator[str]:
    now = time.perf_counter()
    for run in runs:
        name, handlers = printable(run.message_id), printable(run.handlers)
        yield f"message {name}, handler {handlers}, for {now - run.began:.1f} s"
        yield from write(_frames_of_task(run.task))


def _other_tasks(
    runs: Iterable[Run], loop: asyncio.AbstractEventLoop, write: Write
) -> Iterator[str]:
    for task in asyncio.all_tasks(loop) - {run.task for run in runs}:
        yield f"task {printable(task.get_name())}"
        yield from write(_frames_of_task(task))


def _threads(calls: Iterable[ThreadCall], write: Write) -> Iterator[str]:
    by_thread = {call.thread: call for call in calls}
    for thread in threading.enumerate():
        call = by_thread.get(thread.ident or 0)
        about = ""
        if call is not None:
            name, handler = printable(call.message_id), printable(call.handler.name)
            seconds = time.monotonic() - call.began
            about = f", message {name}, handler {handler}, for {seconds:.1f} s"
        yield f"thread {printable(thread.name)}{about}"
        yield from write(_frames_of_thread(thread.ident or 0))


def _whole(frames: Frames) -> list[str]:
    stack = traceback.StackSummary.extract(iter(frames), limit=MAX_DEPTH)
    return "".join(stack.format()).rstrip("\n").split("\n") if stack else []


def _brief(frames: Frames) -> list[str]:
    return [
        f"  {printable(_short(frame.f_code.co_filename))}, line {line}, in "
        f"{printable(frame.f_code.co_qualname)}"
        for frame, line in frames[-MAX_DEPTH:]
    ]


def _short(path: str) -> str:
    path = path.replace("\\", "/")
    short = _FOLDERS.sub("", path)
    return short if short != path else "/".join(path.split("/")[-2:])


def _frames_of_thread(identifier: int) -> Frames:
    frame = sys._current_frames().get(identifier)  # noqa: SLF001 - the documented way to ask for it
    return [] if frame is None else list(traceback.walk_stack(frame))[:MAX_DEPTH][::-1]


def _frames_of_task(task: asyncio.Task[Any]) -> Frames:
    return [(frame, frame.f_lineno) for frame in _frames_of(task.get_coro())]


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
