"""Runs `hookmill COMMAND` as a process, with and without a terminal, on a prepared server."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from hookmill.stream.consumer import Consumer
from tests.given_up import as_dead_letter
from tests.support import Server, Stream, message

NO_REDIS_URL = "REDIS_URL is not set: give the Redis that receivers and workers share"
NO_REDIS = {"REDIS_URL": "redis://127.0.0.1:1"}

Finished = subprocess.CompletedProcess[str]


def hookmill(
    *command: str, env: dict[str, str] | None = None, folder: Path | None = None
) -> Finished:
    """Run `hookmill COMMAND` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "hookmill", *command],
        env={"PATH": os.environ["PATH"], "COLUMNS": "200", **(env or {})},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def faults(*said: str) -> str:
    """What stderr holds for these faults."""
    return "".join(f"hookmill: {fault}\n" for fault in said)


def at_a_terminal(command: list[str], env: dict[str, str], typed: str) -> str:
    """Run `hookmill COMMAND` at a terminal of its own, type, and return what is shown."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "hookmill", *command],
        env={"PATH": os.environ["PATH"], **env},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    with suppress(OSError):  # how a terminal says that its last program has ended
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    running.wait()
    return shown.decode()


async def give_up_in(server: Server, *types: str) -> None:
    """Have a message of each type given up, in the group `main`."""
    stream = Stream(server.url, "hookmill")
    group = Consumer(stream.client, "main", "c1", dedup_window=60)
    await group.open()
    await stream.append([message(type=one) for one in types])
    for entry in (await group.take(10)).entries:
        await group.settle([as_dead_letter(entry)])
    await group.close()
    await stream.close()
