"""Schedules: publish requests that are repeated at the times of a cron expression."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import msgspec

from hookmill.emulator import cron as cron_times
from hookmill.emulator.models import CronSchedule, PublishRequest, Receipt
from hookmill.emulator.state import State


class CronSchedules:
    """All schedules. `now_ms` is the clock. The time scale does not change cron times."""

    def __init__(self, state: State, now_ms: Callable[[], int]) -> None:
        self._state = state
        self._now_ms = now_ms

    def all(self) -> list[CronSchedule]:
        """Return every schedule."""
        return self._state.schedules.all()

    def get(self, schedule_id: str) -> CronSchedule:
        """Return a schedule; raise `ApiError` 404 if it is unknown."""
        return self._state.schedules.get(schedule_id)

    def put(self, request: PublishRequest, cron: str, schedule_id: str = "") -> CronSchedule:
        """Create a schedule, or replace the one with this ID."""
        now = self._now_ms()
        schedule_id = schedule_id or f"scd_{uuid.uuid4().hex}"
        before = self._state.schedules.find(schedule_id)
        made = CronSchedule(
            schedule_id, cron, request, before.created_ms if before else now,
            cron_times.next_ms(cron, now), is_paused=before.is_paused if before else False,
        )  # fmt: skip
        return self._state.schedules.put(schedule_id, made)

    def drop(self, schedule_id: str) -> None:
        """Delete a schedule; raise `ApiError` 404 if it is unknown."""
        self.get(schedule_id)
        self._state.schedules.drop(schedule_id)

    def pause(self, schedule_id: str) -> None:
        """Pause a schedule: it publishes nothing."""
        self._change(self.get(schedule_id), is_paused=True)

    def resume(self, schedule_id: str) -> None:
        """Resume a paused schedule, from its next time on."""
        found = self.get(schedule_id)
        if found.is_paused:
            next_ms = cron_times.next_ms(found.cron, self._now_ms())
            self._change(found, is_paused=False, next_ms=next_ms)

    def due(self) -> Iterator[CronSchedule]:
        """Yield the schedules that are due. Several missed times count as one."""
        now = self._now_ms()
        for schedule in self.all():
            if not schedule.is_paused and schedule.next_ms <= now:
                yield schedule

    def next_ms(self) -> int | None:
        """Return when the next schedule is due."""
        return min((one.next_ms for one in self.all() if not one.is_paused), default=None)

    def record_published(
        self, schedule: CronSchedule, receipts: list[Receipt], error: str = ""
    ) -> None:
        """Store the result of publishing, and compute the next time."""
        now = self._now_ms()
        self._change(
            schedule,
            last_ms=now,
            next_ms=cron_times.next_ms(schedule.cron, now),
            last_states={one.message_id: "IN_PROGRESS" for one in receipts},
            error=error,
        )

    def record_ended(self, schedule_id: str, message_id: str, state: str) -> None:
        """Store how a message of the last time ended."""
        schedule = self._state.schedules.find(schedule_id)
        if schedule is not None and message_id in schedule.last_states:
            self._change(schedule, last_states={**schedule.last_states, message_id: state})

    def _change(self, schedule: CronSchedule, **changes: object) -> None:
        self._state.schedules.put(schedule.id, msgspec.structs.replace(schedule, **changes))
