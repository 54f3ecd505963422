"""QStash's schedules: messages that it sends again and again, at the times of a cron expression."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, Unpack

import msgspec

from hookmill.errors import SendError
from hookmill.sending import qstash_api
from hookmill.sending.outgoing import Body, Outgoing, ScheduleOptions
from hookmill.sending.prepare import Defaults, prepare, refusing
from hookmill.sending.qstash_api import Request, schedule_path
from hookmill.sending.retry_policy import Answer
from hookmill.sending.transport import Errand, Service
from hookmill.signatures import Secret

_T = TypeVar("_T")


class Schedule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A schedule as QStash has it. Times are in Unix milliseconds, `delay` in seconds; what
    QStash did not say is None.
    """

    schedule_id: str
    destination: str
    cron: str
    created_at: int | None = None
    method: str | None = None
    header: Mapping[str, Sequence[str]] | None = None
    body: str | None = None
    body_base64: str | None = None
    retries: int | None = None
    delay: int | None = None
    timeout: int | None = None
    callback: str | None = None
    failure_callback: str | None = None
    queue_name: str | None = None
    label: str | None = None
    is_paused: bool = False
    last_schedule_time: int | None = None
    next_schedule_time: int | None = None
    error: str | None = None


class _Created(msgspec.Struct, rename="camel"):
    schedule_id: str


_created = msgspec.json.Decoder(_Created)
_schedule = msgspec.json.Decoder(Schedule)
_schedules = msgspec.json.Decoder(list[Schedule])


class Schedules:
    """Makes, lists, pauses and deletes schedules. All raise `SendError`."""

    def __init__(self, service: Service | None, defaults: Defaults) -> None:
        self._service = service
        self._defaults = defaults

    async def create(
        self,
        url: str,
        event: Body,
        *,
        cron: str,
        schedule_id: str | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> str:
        """Have `event` sent to `url` at the times of `cron`; return the schedule's ID.

        A schedule that has the ID already is replaced. Each time the same bytes are sent: the body
        says no time, and the scheme must sign neither a time nor an ID.
        """
        schedule_id = f"scd_{uuid.uuid4().hex}" if schedule_id is None else schedule_id
        prepared = prepare(Outgoing(url, event, **options), "schedule", self._defaults, time.time())
        with refusing(None):
            qstash_api.check_name("schedule_id", schedule_id)
            if not cron:
                raise ValueError("cron: it is empty")
            headers = {
                **qstash_api.message_headers(prepared.letter(time.time()), prepared.options),
                "Upstash-Cron": qstash_api.header("cron", cron),
                # So that an attempt of ours whose answer is lost does not make a second schedule.
                "Upstash-Schedule-Id": schedule_id,
            }
            if queue := prepared.outgoing.queue:
                headers["Upstash-Queue-Name"] = queue
        target = f"{qstash_api.API}/schedules/{prepared.outgoing.url}"
        request = Request("POST", target, headers, prepared.payload.body)
        made = await self._ask(
            f"making the schedule {schedule_id}", request, _created, prepared.secret
        )
        return made.schedule_id

    async def get(self, schedule_id: str) -> Schedule:
        """Return a schedule."""
        return await self._ask(
            f"reading the schedule {schedule_id}", _of("GET", schedule_id), _schedule
        )

    async def list(self) -> list[Schedule]:
        """Return all schedules."""
        request = Request("GET", f"{qstash_api.API}/schedules", {})
        return await self._ask("listing the schedules", request, _schedules)

    async def pause(self, schedule_id: str) -> None:
        """Have a schedule send nothing until it is resumed."""
        await self._do(f"pausing the schedule {schedule_id}", _of("PATCH", schedule_id, "/pause"))

    async def resume(self, schedule_id: str) -> None:
        """Have a paused schedule send again."""
        await self._do(f"resuming the schedule {schedule_id}", _of("PATCH", schedule_id, "/resume"))

    async def delete(self, schedule_id: str) -> None:
        """Delete a schedule."""
        try:
            await self._do(f"deleting the schedule {schedule_id}", _of("DELETE", schedule_id))
        except SendError as error:
            # Gone, after an attempt whose answer was lost: that one deleted it.
            if error.status != 404 or not error.may_be_published:
                raise

    async def _do(self, what: str, request: Request) -> None:
        errand = Errand(what, needs_body=False)
        await self._reached().ask(errand, lambda: request, lambda _: True)

    async def _ask(
        self, what: str, request: Request, decoder: msgspec.json.Decoder[_T], *secrets: Secret
    ) -> _T:
        def read(answer: Answer) -> Any:
            return qstash_api.decode(decoder, answer.body)

        errand = Errand(what, secrets=secrets)
        found: _T = await self._reached().ask(errand, lambda: request, read)
        return found

    def _reached(self) -> Service:
        if self._service is None:
            raise SendError(
                "schedules: only QStash has them: use a Sender without direct=True",
                may_be_published=False,
            )
        return self._service


def _of(method: str, schedule_id: str, what: str = "") -> Request:
    with refusing(None):
        return Request(method, schedule_path(schedule_id, what), {})
