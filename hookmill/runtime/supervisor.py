"""The parent of several processes of one program: starts them, starts again what dies, passes
signals on, and stops them all. It handles no message and no request of a sender.

SIGTERM and SIGINT stop all, SIGUSR2 replaces one process after another. SIGHUP and SIGUSR1 are
passed on.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog

from hookmill.errors import SettingsError
from hookmill.runtime import logs
from hookmill.runtime.admin_server import ADMIN_OPEN, AdminServer
from hookmill.runtime.child_process import ChildProcess
from hookmill.runtime.health_watch import HealthWatch
from hookmill.runtime.lossy_output import open_missing_files
from hookmill.runtime.plan import ProcessPlan, take_plan
from hookmill.runtime.process import write_to_stderr
from hookmill.runtime.seat import SETTINGS_FAULT, Seat
from hookmill.runtime.shared_port import SharedPort
from hookmill.runtime.supervisor_pages import SupervisorPages

log = structlog.get_logger("supervisor")

BEYOND_SHUTDOWN = 10.0
"""Seconds beyond `HOOKMILL_SHUTDOWN` after which a process is killed. A worker takes up to 5 of
them where Redis does not answer.
"""


class Supervisor:
    """`run` it once, in an event loop of its own."""

    def __init__(self, plan: ProcessPlan) -> None:
        self._plan = plan
        self._port = _shared_port(plan)
        self._stopping = asyncio.Event()
        self._status = 0
        within = plan.shutdown + BEYOND_SHUTDOWN
        self._seats = [
            Seat(number, plan.command, self._port, within, self._stopping)
            for number in range(1, plan.processes + 1)
        ]
        for seat in self._seats:
            seat.on_end = self._ended
        self._admin = self._admin_server(plan)
        self._rolling: asyncio.Task[None] | None = None

    def _admin_server(self, plan: ProcessPlan) -> AdminServer | None:
        if plan.admin_port is None:
            return None
        asked = SupervisorPages(self._seats, self._stopping)
        pages = {"/healthz": asked.alive, "/readyz": asked.ready, "/metrics": asked.metrics}
        return AdminServer(plan.admin_host, plan.admin_port, pages, plan.program)

    async def run(self) -> int:
        """Run the processes until a signal asks to stop; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_asked)
        loop.add_signal_handler(signal.SIGHUP, self._hangup)
        loop.add_signal_handler(signal.SIGUSR1, self._say_what_runs)
        loop.add_signal_handler(signal.SIGUSR2, self._restart)
        loop.add_signal_handler(signal.SIGCHLD, self._look_whether_they_ended)
        await self._serve()
        port = {} if self._port is None else {"port": self._port.number}
        log.info("supervising", processes=len(self._seats), **port)
        async with asyncio.TaskGroup() as tasks:
            for seat in self._seats:
                tasks.create_task(seat.keep())
            others = [tasks.create_task(self._tell_when_ready())]
            if self._admin is not None:
                others.append(tasks.create_task(HealthWatch(self._seats).run()))
            await self._stopping.wait()
            for task in others:
                task.cancel()
            await self._end()
        if self._admin is not None:
            await self._admin.stop()
        log.info("all processes have stopped")
        return self._status

    async def _serve(self) -> None:
        """Answer at the admin address, if there is to be one."""
        if self._admin is not None:
            port = await self._admin.start()
            log.info(ADMIN_OPEN, host=self._plan.admin_host, port=port)

    async def _end(self) -> None:
        """Stop all processes. No socket is kept open for them any more, so that each one's closing
        closes it.
        """
        log.info("stopping all processes")
        if self._port is not None:
            self._port.close()
        if self._rolling is not None:
            self._rolling.cancel()
        async with asyncio.TaskGroup() as tasks:
            for seat in self._seats:
                seat.leave_port()
                for child in seat.started:
                    tasks.create_task(self._see_off(seat, child))

    async def _see_off(self, seat: Seat, child: ChildProcess) -> None:
        await seat.see_off(child)
        if child.status and not self._status and child.ready.is_set():
            self._status = child.status if child.status > 0 else 1

    async def _tell_when_ready(self) -> None:
        for seat in self._seats:
            await seat.was_ready.wait()
        log.info("all processes are ready", processes=len(self._seats))

    # --- what happens ---

    def _look_whether_they_ended(self) -> None:
        for seat in self._seats:
            seat.look_whether_they_ended()

    def _ended(self, child: ChildProcess) -> None:
        """End, too, if starting it again would not help. While others work, they go on."""
        if child.status == SETTINGS_FAULT and not any(seat.is_ready for seat in self._seats):
            self._status = SETTINGS_FAULT
            self._stopping.set()

    def _stop_asked(self) -> None:
        if self._stopping.is_set():
            for child in self._children():
                child.stop_at_once()
        self._stopping.set()

    def _hangup(self) -> None:
        if self._plan.program == "worker":
            self._stopping.set()  # as a single worker does
            return
        for child in self._children():
            child.signal(signal.SIGHUP)

    def _say_what_runs(self) -> None:
        if self._plan.program == "worker":
            for child in self._children():
                child.signal(signal.SIGUSR1)

    def _children(self) -> list[ChildProcess]:
        return [child for seat in self._seats for child in seat.started]

    # --- one after another ---

    def _restart(self) -> None:
        if self._stopping.is_set() or (self._rolling is not None and not self._rolling.done()):
            return
        self._rolling = asyncio.create_task(self._replace_all(), name="restart")

    async def _replace_all(self) -> None:
        log.info("replacing one process after another")
        for seat in self._seats:
            if not await seat.replace():
                log.error("the other processes are not replaced", process=seat.number)
                return
        log.info("all processes are replaced")


def _shared_port(plan: ProcessPlan) -> SharedPort | None:
    if plan.host is None:
        return None
    try:
        return SharedPort(plan.host, plan.port)
    except OSError as error:
        where = f"{plan.host}, port {plan.port}"
        raise SettingsError([f"cannot listen on {where}: {error.strerror or error}"]) from None


async def _supervise(plan: ProcessPlan) -> int:
    return await Supervisor(plan).run()


def main() -> None:
    """Run the supervisor that the environment describes."""
    plan = take_plan()
    open_missing_files()
    bound = {"program": plan.name} if plan.name else {}
    logs.configure_logs(plan.log_format, plan.log_level, **bound)
    logs.lose_what_cannot_be_written()
    try:
        status = asyncio.run(_supervise(plan))
    except SettingsError as error:
        for fault in error.faults:
            write_to_stderr(f"hookmill: {fault}\n")
        status = SETTINGS_FAULT
    sys.exit(status)


if __name__ == "__main__":
    main()
