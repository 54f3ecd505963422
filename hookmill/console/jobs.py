"""Actions that take longer than a page: they run on in this process, with progress and cancel."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import structlog

from hookmill.console.pages import PageRefusedError, Request
from hookmill.errors import HookmillError
from hookmill.runtime.tasks import cancel_and_wait

log = structlog.get_logger("console")

MAX_JOBS = 50
"""Jobs that are remembered; of those that have ended, the oldest are forgotten."""

MAX_RUNNING = 8
"""Jobs that run at the same time."""


class TooManyJobsError(HookmillError):
    """So many actions run that another has to wait for the end of one."""

    code = "too_many_jobs"


State = Literal["running", "ended", "cancelled", "failed"]


class Job:
    """One action. `told` is what it has done so far, in words, `back` the page to go back to. A job
    that counts has a `plan`: what a person may then confirm, such as `dead_pages.Plan`.
    """

    def __init__(self, title: str, back: str, total: int | None, plan: Any = None) -> None:
        self.id = secrets.token_urlsafe(12)
        self.title = title
        self.back = back
        self.total = total
        self.plan = plan
        self.done = 0
        self.told = ""
        self.state: State = "running"
        self.error = ""
        self.began = time.monotonic()
        self.ended = 0.0
        self.is_cancelled = False

    @property
    def is_running(self) -> bool:
        """Whether it goes on."""
        return self.state == "running"

    @property
    def seconds(self) -> float:
        """For how long it has run."""
        return (self.ended or time.monotonic()) - self.began

    def step(self, done: int, told: str) -> None:
        """Note how far it has come."""
        self.done, self.told = done, told


def rate_of(request: Request) -> float | None:
    """Read how many a second an action may do. Raises `PageRefusedError`."""
    text = request.field("rate")
    if not text:
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0.001 <= rate <= 1e6:
        raise PageRefusedError(400, "give a rate as a number a second, such as 50")
    return rate


Run = Callable[[Job], AsyncIterator[None]]
"""Does a job, step by step. It looks after each step whether the job was cancelled."""


class Jobs:
    """The jobs of this process. `changed` is called after each step."""

    def __init__(self, changed: Callable[[], object]) -> None:
        self._changed = changed
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, job: Job, run: Run) -> Job:
        """Start a job. Raises `TooManyJobsError`."""
        if len(self._tasks) >= MAX_RUNNING:
            raise TooManyJobsError(f"{MAX_RUNNING} actions run already: wait for one of them")
        ended = [key for key, other in self._jobs.items() if not other.is_running]
        for key in ended[: max(0, len(self._jobs) - MAX_JOBS + 1)]:
            del self._jobs[key]
        self._jobs[job.id] = job
        task = asyncio.create_task(self._run(job, run), name="job")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def get(self, job_id: str) -> Job | None:
        """Return a job, None if there is none (any more)."""
        return self._jobs.get(job_id)

    async def close(self) -> None:
        """Cancel all jobs."""
        await cancel_and_wait(self._tasks)

    async def _run(self, job: Job, run: Run) -> None:
        state: State
        try:
            async for _ in run(job):
                self._changed()
            state = "cancelled" if job.is_cancelled else "ended"
        except HookmillError as error:
            state, job.error = "failed", str(error)
        except Exception:  # a bug of ours must be seen where one waits for the end
            log.exception("an action failed", action=job.title)
            state, job.error = "failed", "the console failed: see its log"
        job.ended = time.monotonic()
        job.state = state
        self._changed()
