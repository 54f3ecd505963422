"""What is counted, and by which steps the counts are told."""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import uvloop

from hookmill import Delivery
from hookmill.config.settings import Settings
from hookmill.handlers import Next
from hookmill.stream.attempts import HistoryBounds
from tests.cost.counting import Modules
from tests.cost.receiving import SECRETS, count_receiver
from tests.cost.redis_commands import REMEMBERED, Commands, count_redis, with_key, with_token
from tests.cost.working import count_worker, doing_nothing

STEPS = {
    "read": ("aiohttp", "receiver/fastpath", "receiver/http", "receiver/connections"),
    "verify": ("hookmill/signatures/",),
    "admit": ("receiver/pipeline", "receiver/intake", "receiver/capacity", "receiver/handshake",
              "receiver/metrics", "hookmill/config/"),
    "message": ("hookmill/message", "hookmill/stored_headers", "hookmill/stream/arrival",
                "hookmill/stream/codec", "hookmill/stream/entries"),
    "append": ("receiver/appender", "receiver/spool", "receiver/wire_version",
               "hookmill/stream/producer", "hookmill/stream/durability"),
    "answer": ("receiver/rendering", "receiver/responses"),
    "take": ("hookmill/stream/takes", "hookmill/stream/direct_reads", "hookmill/stream/wakeup",
             "hookmill/stream/consumer", "worker/takeover", "worker/held"),
    "attempt": ("worker/pool", "worker/slots", "worker/attempt", "worker/timeouts",
                "worker/threads"),
    "decode": ("hookmill/events", "hookmill/handlers"),
    "settle": ("worker/settlement", "worker/settler"),
    "history": ("hookmill/stream/attempts", "worker/outcome"),
    "ask Redis": ("hookmill/stream/client", "hookmill/stream/connections",
                  "hookmill/stream/open_connections", "hookmill/stream/script_runner"),
    "count": ("worker/rates", "hookmill/instrumentation/rates", "receiver/accepted"),
    "log": ("worker/report", "hookmill/runtime/", "hookmill/printable"),
}  # fmt: skip
"""The steps of a message, and what their modules' files begin with."""

OTHER = "other"
"""The step of all other modules. No message passes one today."""


class Case(msgspec.Struct):
    """The counts of one case: for `messages` at once. Of Python's side `modules`, of Redis' side
    `commands` by step.
    """

    messages: int
    modules: Modules = {}
    commands: dict[str, Commands] = {}

    def each(self) -> dict[str, tuple[float, ...]]:
        """Return the counts a message of each step: calls and instructions, or commands."""
        sums: dict[str, tuple[int, ...]] = self._by_step()
        for step, commands in self.commands.items():
            sums[step] = (sum(commands.values()),)
        return {
            step: tuple(round(number / self.messages, 2) for number in numbers)
            for step, numbers in sums.items()
        }

    def parts_of(self, step: str) -> str:
        """Return which modules or commands a step consists of, with their counts a message."""
        if self.commands:
            parts = {name: float(calls) for name, calls in self.commands[step].items()}
        else:
            parts = {
                file: float(count.instructions)
                for file, count in self.modules.items()
                if step_of(file) == step
            }
        ordered = sorted(parts.items(), key=lambda part: -part[1])
        return ", ".join(f"{name} {number / self.messages:.1f}" for name, number in ordered)

    def _by_step(self) -> dict[str, tuple[int, ...]]:
        calls: defaultdict[str, int] = defaultdict(int)
        instructions: defaultdict[str, int] = defaultdict(int)
        for file, count in self.modules.items():
            calls[step_of(file)] += count.calls
            instructions[step_of(file)] += count.instructions
        return {
            step: (calls[step], instructions[step]) for step in (*STEPS, OTHER) if step in calls
        }


def step_of(file: str) -> str:
    """Return the step that a module belongs to."""
    return next((step for step, begins in STEPS.items() if file.startswith(begins)), OTHER)


class Server(NamedTuple):
    """The Redis that the cases use, and a folder for files."""

    url: str
    folder: Path


def receiver(source: str, messages: int, **fields: Any) -> Callable[[Server, str], Case]:
    """Return what counts deliveries of a source; the `fields` are settings."""

    def count(server: Server, prefix: str) -> Case:
        given = dict(fields, spool=server.folder / "spool") if "spool" in fields else fields
        base = {"redis_url": server.url, "prefix": prefix, "host": "127.0.0.1", "port": 0}
        settings = Settings(**{**base, **SECRETS, **given})
        return Case(messages, uvloop.run(count_receiver(source, messages, settings)))

    return count


def worker(
    messages: int, *, middleware: bool = False, on_dead: bool = False, key: str = "", **fields: Any
) -> Callable[[Server, str], Case]:
    """Return what counts messages in the worker; the `fields` are settings."""

    def count(server: Server, prefix: str) -> Case:
        handlers = doing_nothing()
        if middleware:
            handlers.middleware(pass_on)
        if on_dead:
            handlers.on_dead(look_away)
        settings = Settings(
            **{
                "redis_url": server.url,
                "prefix": prefix,
                "concurrency": 400,
                "history": 0,
                **fields,
            }
        )
        return Case(messages, uvloop.run(count_worker(messages, settings, handlers, key)))

    return count


async def pass_on(delivery: Delivery[Any], call: Next) -> Any:
    return await call(delivery)


async def look_away(_: Any) -> None:
    pass


def commands(messages: int, **options: Any) -> Callable[[Server, str], Case]:
    """Return what counts the commands that Redis runs."""

    def count(server: Server, prefix: str) -> Case:
        counting = count_redis(server.url, prefix, messages, **options)
        return Case(messages, commands=uvloop.run(counting))

    return count


FULL_HISTORY = HistoryBounds(REMEMBERED // 2, 64 * 1024 * 1024)
"""Bounds that are reached before the count, so that each settlement makes room."""

WATCHED = {
    "receiver, QStash, 1 at once": receiver("qstash", 1),
    "receiver, QStash, 32 at once": receiver("qstash", 32),
    "receiver, Marble, 32 at once": receiver("marble", 32),
    "worker, 1 at once": worker(1),
    "worker, 200 at once": worker(200),
    "worker, history, 200 at once": worker(200, history=100_000),
    "Redis, 1 at once": commands(1),
    "Redis, 32 at once": commands(32),
    "Redis, 200 at once": commands(200),
    "Redis, tokens, 32 at once": commands(32, make=with_token),
    "Redis, tokens, 200 at once": commands(200, make=with_token),
    "Redis, ordering keys, 200 at once": commands(200, make=with_key),
    "Redis, history, 1 at once": commands(1, history=FULL_HISTORY),
    "Redis, history, 200 at once": commands(200, history=FULL_HISTORY),
}
"""The cases that have bounds. Every optional feature is off in them, but for the one they name."""

SAMPLED_OUT: dict[str, Any] = {"traces": "joined", "traces_sample": 0}
"""Traces are on, but none of these messages is recorded."""

WITH_FEATURE = {
    "receiver, admin port": receiver("marble", 32, admin_port=0),
    "receiver, spool": receiver("marble", 32, spool=True),
    "receiver, traces": receiver("marble", 32, **SAMPLED_OUT),
    "worker, admin port": worker(200, admin_port=0),
    "worker, on_dead": worker(200, on_dead=True),
    "worker, dead letter bounds": worker(200, dead_messages=10),
    "worker, retention": worker(200, retention=60.0),
    "worker, middleware": worker(200, middleware=True),
    "worker, ordering keys": worker(200, key="one"),
    "worker, traces": worker(200, **SAMPLED_OUT),
}
"""Cases with one optional feature, to compare with those that have none."""

CASES = WATCHED | WITH_FEATURE


def count_all(server: Server, names: list[str]) -> dict[str, Case]:
    """Count these cases."""
    return {name: CASES[name](server, f"cost{number}") for number, name in enumerate(names)}


def call_twice(place: str) -> None:
    """Have a function of ours do its work twice: `receiver.appender:row_of`. With it a test sees
    that a step that grew is found.
    """
    module_name, _, name = place.partition(":")
    module = importlib.import_module(module_name)
    function = getattr(module, name)

    def twice(*args: Any) -> Any:
        function(*args)
        return function(*args)

    setattr(module, name, twice)
