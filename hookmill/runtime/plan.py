"""What a supervisor has to know: made of the settings by the command, which then becomes the
supervisor. That is a fresh interpreter without the settings' libraries, because it stays for as
long as its processes run, and has to be small.
"""

from __future__ import annotations

import json
import os
import sys
from typing import NamedTuple, NoReturn

VARIABLE = "_HOOKMILL_PLAN"


class ProcessPlan(NamedTuple):
    """Which processes to run, and how. `host` and `port` are those that receivers share; workers
    have none. `name` is the program's name in log lines, where these have one.
    """

    program: str
    processes: int
    command: list[str]
    shutdown: float
    log_format: str
    log_level: str
    name: str | None = None
    host: str | None = None
    port: int = 0
    admin_host: str = ""
    admin_port: int | None = None


def own_command() -> list[str]:
    """Return what this process was started with, so that it can be started again."""
    return [sys.executable, *sys.orig_argv[1:]]


def become_supervisor(plan: ProcessPlan) -> NoReturn:
    """Replace this process by the supervisor of the plan. Its ID stays the same."""
    for file in (sys.stdout, sys.stderr):
        if file is not None:
            file.flush()
    words = [sys.executable, "-P", "-m", "hookmill.runtime.supervisor", *sys.argv[1:]]
    os.execve(sys.executable, words, os.environ | {VARIABLE: json.dumps(plan._asdict())})  # noqa: S606 - it is our own command


def take_plan() -> ProcessPlan:
    """Return the plan of this process. Nothing that it starts sees it."""
    return ProcessPlan(**json.loads(os.environ.pop(VARIABLE)))
