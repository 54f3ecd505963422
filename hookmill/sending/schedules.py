"""QStash's schedules: messages that it sends repeatedly, at the times of a cron expression."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, Unpack

import msgspec

from hookmill.errors import SendError
from hookmill.sending import qstash_api
from hookmill.sending.exchange import HttpRequest, HttpResponse
from hookmill.sending.outgoing import Body, Outgoing, ScheduleOptions
from hookmill.sending.prepare import (
    PreparedMessage,
    SigningDefaults,
    prepare,
    raise_send_error,
)
from hookmill.sending.qstash_api import schedule_path
from hookmill.sending.qstash_client import QStashClient
from hookmill.sending.qstash_options import header_value
from hookmill.sending.send_errors import RequestInfo
from hookmill.sending.urls import check_name
from hookmill.signatures import Secret

_T = TypeVar("_T")


class Schedule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A schedule as QStash returns it.

    Times are in Unix milliseconds, `delay` and `timeout` in seconds. A field that QStash did not
    return is None.
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
    """Creates, lists, pauses and deletes schedules. Every method raises `SendError`."""

    def __init__(self, client: QStashClient | None, defaults: SigningDefaults) -> None:
        self._client = client
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
        """Send `event` to `url` at the times of `cron`; return the schedule's ID.

        A schedule with the same ID is replaced. Each message has the same bytes: the body contains
        no time, and the scheme must sign neither a time nor an ID.
        """
        schedule_id = f"scd_{uuid.uuid4().hex}" if schedule_id is None else schedule_id
        prepared = prepare(Outgoing(url, event, **options), "schedule", self._defaults, time.time())
        request = _create_request(prepared, cron, schedule_id)
        purpose = f"creating the schedule {schedule_id}"
        created = await self._read(purpose, request, _created, prepared.secret)
        return created.schedule_id

    async def get(self, schedule_id: str) -> Schedule:
        """Return a schedule."""
        request = _request("GET", schedule_id)
        return await self._read(f"reading the schedule {schedule_id}", request, _schedule)

    async def list(self) -> list[Schedule]:
        """Return all schedules."""
        request = HttpRequest("GET", f"{qstash_api.API}/schedules", {})
        return await self._read("listing the schedules", request, _schedules)

    async def pause(self, schedule_id: str) -> None:
        """Pause a schedule: it sends nothing until it is resumed."""
        request = _request("PATCH", schedule_id, "/pause")
        await self._do(f"pausing the schedule {schedule_id}", request)

    async def resume(self, schedule_id: str) -> None:
        """Resume a paused schedule."""
        request = _request("PATCH", schedule_id, "/resume")
        await self._do(f"resuming the schedule {schedule_id}", request)

    async def delete(self, schedule_id: str) -> None:
        """Delete a schedule."""
        try:
            await self._do(f"deleting the schedule {schedule_id}", _request("DELETE", schedule_id))
        except SendError as error:
            # After an attempt whose response was lost, 404 means that this attempt deleted it.
            if error.status != 404 or not error.may_be_published:
                raise

    async def _do(self, purpose: str, request: HttpRequest) -> None:
        info = RequestInfo(purpose, needs_body=False)
        await self._require_client().request(info, lambda: request, lambda _: True)

    async def _read(
        self,
        purpose: str,
        request: HttpRequest,
        decoder: msgspec.json.Decoder[_T],
        *secrets: Secret,
    ) -> _T:
        def read(response: HttpResponse) -> Any:
            return qstash_api.decode(decoder, response.body)

        info = RequestInfo(purpose, secrets=secrets)
        found: _T = await self._require_client().request(info, lambda: request, read)
        return found

    def _require_client(self) -> QStashClient:
        if self._client is None:
            raise SendError(
                "schedules: only QStash has them: use a Sender without direct=True",
                may_be_published=False,
            )
        return self._client


def _create_request(prepared: PreparedMessage, cron: str, schedule_id: str) -> HttpRequest:
    with raise_send_error(None):
        check_name("schedule_id", schedule_id)
        if not cron:
            raise ValueError("cron: it is empty")
        headers = {
            **qstash_api.message_headers(prepared.delivery(time.time()), prepared.options),
            "Upstash-Cron": header_value("cron", cron),
            # Always sent, so that a retry after a lost response does not create a second schedule.
            "Upstash-Schedule-Id": schedule_id,
        }
        if queue := prepared.outgoing.queue:
            headers["Upstash-Queue-Name"] = queue
    target = f"{qstash_api.API}/schedules/{prepared.outgoing.url}"
    return HttpRequest("POST", target, headers, prepared.payload.body)


def _request(method: str, schedule_id: str, action: str = "") -> HttpRequest:
    with raise_send_error(None):
        return HttpRequest(method, schedule_path(schedule_id, action), {})
