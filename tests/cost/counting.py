"""Counts what Python does for our code: calls, and the instructions of its bytecode.

Both are the same in every run, however busy the machine is. What a library does counts for our
module that called it. The event loop, and the code of the tests, count for nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[2]

_OURS = ("hookmill/", "receiver/", "worker/")

_LIBRARY, _NOBODY, _AIOHTTP = "a library", "nobody", "aiohttp"


class Count(msgspec.Struct):
    """How many calls were made, and how many instructions were run."""

    calls: int = 0
    instructions: int = 0


Modules = dict[str, Count]
"""The counts of modules by their files, as `receiver/intake.py`; those of aiohttp as `aiohttp`."""


@contextmanager
def counted() -> Iterator[Modules]:
    """Count what is done inside the block. Once it has ended, the counts are in the result."""
    counts: Modules = {}
    ignored = Count()
    tracers: dict[str, Callable[..., Any]] = {}

    def count_of(frame: FrameType) -> Count:
        module = _module_of(frame)
        return ignored if module == _NOBODY else counts.setdefault(module, Count())

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event in {"call", "c_call"}:
            count_of(frame).calls += 1

    def trace(frame: FrameType, _event: str, _: Any) -> Callable[..., Any]:
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        module = _module_of(frame)
        if module not in tracers:
            tracers[module] = instructions_of(count_of(frame))
        return tracers[module]

    sys.setprofile(profile)
    sys.settrace(trace)
    try:
        yield counts
    finally:
        sys.settrace(None)
        sys.setprofile(None)


def instructions_of(count: Count) -> Callable[..., Any]:
    """Return what Python calls for each instruction of a frame."""

    def trace(_frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        if event == "opcode":
            count.instructions += 1
        return trace

    return trace


def usual(turns: Sequence[Modules]) -> Modules:
    """Return a turn of the quarter with the fewest instructions: the others have the rounds of
    background tasks besides, on a busy machine most of them.
    """
    ordered = sorted(turns, key=lambda turn: sum(count.instructions for count in turn.values()))
    return ordered[len(ordered) // 4]


def _module_of(frame: FrameType) -> str:
    """Return the module that a frame counts for: the first of ours on the way to its caller."""
    at: FrameType | None = frame
    found = _NOBODY
    while at is not None:
        owner = _owner_of(at.f_code.co_filename)
        if owner == _AIOHTTP:
            found = _AIOHTTP
        elif owner != _LIBRARY:
            return found if owner == _NOBODY else owner
        at = at.f_back
    return found


@cache
def _owner_of(filename: str) -> str:
    file = filename.removeprefix(f"{ROOT}/")
    if file.startswith(_OURS):
        return file
    if "/site-packages/" in filename:
        return _AIOHTTP if "/site-packages/aiohttp/" in filename else _LIBRARY
    return _NOBODY if file.startswith(("tests/", "benchmarks/")) else _LIBRARY
