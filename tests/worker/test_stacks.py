"""What a worker says of itself to an operator who asks through Redis."""

from __future__ import annotations

import asyncio
import re
import threading
import time

from hookmill.handlers import Delivery, Handlers
from hookmill.message import Message
from worker.stacks import MAX_BRIEF, Run, what_runs_briefly
from worker.threads import ThreadCall

HOSTILE = "msg\n\x1b[2J\u202e"


def run_of(task: asyncio.Task[None], handlers: str = "send") -> Run:
    return Run(HOSTILE, handlers, task, time.perf_counter())


async def wait_for_a_secret(secret: str) -> None:
    await asyncio.Event().wait()
    assert secret


async def test_it_names_places_and_neither_values_nor_lines_of_source() -> None:
    task = asyncio.create_task(wait_for_a_secret("sk_live_value"))
    await asyncio.sleep(0)
    said = what_runs_briefly([run_of(task)], [], asyncio.get_running_loop())
    task.cancel()
    assert said.startswith("1 messages run\nthread MainThread\n")
    assert "message msg\\n\\x1b[2J\\u202e, handler send, for 0.0 s\n" in said
    assert "  worker/test_stacks.py, line " in said
    assert ", in wait_for_a_secret\n" in said
    assert "asyncio/locks.py, line " in said
    assert "sk_live_value" not in said
    assert "await" not in said
    assert not re.search(r'[" ]/', said)  # no absolute path


async def test_a_thread_is_shown_with_the_message_that_it_runs() -> None:
    handlers = Handlers()

    @handlers.on("a")
    def send(_: Delivery[Message]) -> None:
        raise AssertionError

    (handler,) = handlers
    call = ThreadCall(handler, HOSTILE)
    call.thread, call.began = threading.get_ident(), time.monotonic()
    said = what_runs_briefly([], [call], asyncio.get_running_loop())
    assert "thread MainThread, message msg\\n\\x1b[2J\\u202e, handler send, for 0.0 s\n" in said


async def test_it_is_cut_and_the_threads_stand_before_the_cut() -> None:
    task = asyncio.create_task(wait_for_a_secret(""))
    runs = [run_of(task, "handler" * 100) for _ in range(200)]
    said = what_runs_briefly(runs, [], asyncio.get_running_loop())
    task.cancel()
    assert len(said) < MAX_BRIEF + 100
    assert "thread MainThread" in said
    assert said.endswith("(more runs than is shown here)\n")
