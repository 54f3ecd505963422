"""The API's methods that need more than a record's name: reads the request, calls the broker."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from hookmill.emulator import parsing, requests, resource_requests, views
from hookmill.emulator.broker import Broker
from hookmill.emulator.dispatcher import MAX_ATTEMPTS
from hookmill.emulator.filters import Filter, read_filter
from hookmill.emulator.models import ApiError, DlqMessage, PublishRequest
from hookmill.emulator.pages import Place, latest_first, oldest_first, read_page

ABOUT = """\
This is Hookmill's QStash emulator, a development tool. It is not QStash and not made by Upstash. It
has QStash's v2 API and delivers to this machine. Set QSTASH_URL to this address.
"""

_LOG_PAGE, _DLQ_PAGE = 1000, 100
"""The largest pages."""


class Api:
    """The API's methods. `carries_token` tells whether an Authorization header is the token."""

    def __init__(self, broker: Broker, carries_token: Callable[[str], bool]) -> None:
        self._broker = broker
        self._carries_token = carries_token

    async def _read(self, request: web.Request) -> requests.ApiRequest:
        """Read a request without the token, because all its headers may be forwarded."""
        headers = tuple(
            (str(name), value)  # aiohttp's own subclass of str cannot be saved
            for name, value in request.headers.items()
            if name.lower() != "authorization" or not self._carries_token(value)
        )
        body = await request.read()
        return requests.ApiRequest(request.raw_path, headers, body, request.remote or "")

    async def about(self, _: web.Request) -> web.Response:
        """GET `/`: says what this is."""
        return web.Response(text=ABOUT)

    # --- publishing ---

    async def publish(self, request: web.Request) -> web.Response:
        """POST `/v2/publish/{destination}`."""
        return self._publish(requests.read_publish(await self._read(request)))

    async def enqueue(self, request: web.Request) -> web.Response:
        """POST `/v2/enqueue/{name}/{destination}`."""
        queue = name_in(request)
        return self._publish(requests.read_enqueue(await self._read(request), queue))

    def _publish(self, wanted: PublishRequest) -> web.Response:
        receipts = self._broker.publish(wanted)
        is_new = not all(one.is_duplicate for one in receipts)
        return json_response(views.published(wanted, receipts), status=200 if is_new else 202)

    async def batch(self, request: web.Request) -> web.Response:
        """POST `/v2/batch`."""
        items = requests.read_batch(await self._read(request))
        return json_response([self._publish_item(item) for item in items])

    def _publish_item(self, item: PublishRequest | ApiError) -> Any:
        if isinstance(item, ApiError):
            return {"error": item.text}
        try:
            return views.published(item, self._broker.publish(item))
        except ApiError as error:
            return {"error": error.text}

    # --- messages ---

    async def cancel_message(self, request: web.Request) -> web.Response:
        """DELETE `/v2/messages/{name}`."""
        message = self._broker.message(name_in(request))
        cancelled = self._broker.cancel(Filter(message_ids=(message.id,)))
        return json_response({"cancelled": cancelled}, status=202)

    async def cancel_messages(self, request: web.Request) -> web.Response:
        """DELETE `/v2/messages`."""
        wanted = read_filter(request.query.items(), await request.read())
        cancelled = self._broker.cancel(wanted) if wanted is not None else 0
        return json_response({"cancelled": cancelled}, status=202)

    async def list_logs(self, request: web.Request) -> web.Response:
        """GET `/v2/logs`."""
        return self._logs(request, "logs")

    async def list_events(self, request: web.Request) -> web.Response:
        """GET `/v2/events`, the older name of the logs."""
        return self._logs(request, "events")

    def _logs(self, request: web.Request, name: str) -> web.Response:
        wanted = read_filter(request.query.items()) or Filter()
        page = read_page(request.query.items(), default=_LOG_PAGE, most=_LOG_PAGE)
        entries, cursor = latest_first(self._broker.log.find(wanted), page)
        return json_response({name: [views.log_entry(entry) for entry in entries], **cursor})

    # --- DLQ ---

    async def list_dlq(self, request: web.Request) -> web.Response:
        """GET `/v2/dlq`."""
        found, cursor = self._dlq_page(request, read_filter(request.query.items()))
        return json_response({"messages": [views.dlq_message(one) for one in found], **cursor})

    async def delete_dlq_message(self, request: web.Request) -> web.Response:
        """DELETE `/v2/dlq/{name}`."""
        self._broker.dlq.delete(self._one_in_dlq(request))
        return json_response({"deleted": 1})

    async def delete_dlq_messages(self, request: web.Request) -> web.Response:
        """DELETE `/v2/dlq`."""
        wanted = read_filter(request.query.items(), await request.read())
        found, cursor = self._dlq_page(request, wanted)
        deleted = self._broker.dlq.delete(_exactly(found)) if found else 0
        return json_response({"deleted": deleted, **cursor})

    async def retry_dlq_message(self, request: web.Request) -> web.Response:
        """POST `/v2/dlq/retry/{name}`."""
        (receipt,) = self._broker.retry_from_dlq(self._one_in_dlq(request))
        return json_response(views.receipt(receipt), status=201)

    async def retry_dlq_messages(self, request: web.Request) -> web.Response:
        """POST `/v2/dlq/retry`."""
        wanted = read_filter(request.query.items(), await request.read())
        for dlq_id in wanted.dlq_ids if wanted is not None else ():
            self._broker.dlq.get(dlq_id)  # an unknown ID refuses the whole request
        found, cursor = self._dlq_page(request, wanted)
        receipts = self._broker.retry_from_dlq(_exactly(found)) if found else []
        return json_response(
            {"responses": [views.receipt(one) for one in receipts], **cursor}, status=201
        )

    def _one_in_dlq(self, request: web.Request) -> Filter:
        return _exactly([self._broker.dlq.get(name_in(request))])

    def _dlq_page(
        self, request: web.Request, wanted: Filter | None
    ) -> tuple[list[DlqMessage], views.Json]:
        page = read_page(request.query.items(), default=_DLQ_PAGE, most=_DLQ_PAGE)
        if wanted is None:
            return [], {}
        found = sorted(self._broker.dlq.find(wanted), key=_place_of)
        if wanted.dlq_ids:  # the caller has already limited the number
            return found, {}
        return oldest_first(found, page, _place_of)

    # --- schedules, URL groups, queues, flow control, keys ---

    async def put_schedule(self, request: web.Request) -> web.Response:
        """POST `/v2/schedules/{destination}`."""
        wanted = requests.read_schedule(await self._read(request))
        made = self._broker.schedules.put(wanted.request, wanted.cron, wanted.schedule_id)
        return json_response({"scheduleId": made.id})

    async def add_endpoints(self, request: web.Request) -> web.Response:
        """POST `/v2/topics/{name}/endpoints`."""
        name = parsing.name_of("URL group", name_in(request))
        endpoints = resource_requests.read_endpoints(await request.read())
        self._broker.url_groups.add(name, endpoints)
        return web.Response()

    async def remove_endpoints(self, request: web.Request) -> web.Response:
        """DELETE `/v2/topics/{name}/endpoints`."""
        endpoints = resource_requests.read_endpoints(await request.read(), to_remove=True)
        self._broker.url_groups.remove(name_in(request), endpoints)
        return web.Response()

    async def put_queue(self, request: web.Request) -> web.Response:
        """POST `/v2/queues`."""
        change = resource_requests.read_queue_change(await request.read())
        self._broker.queues.upsert(
            change.name, parallelism=change.parallelism, is_paused=change.is_paused
        )
        return web.Response()

    async def pin_flow_control(self, request: web.Request) -> web.Response:
        """POST `/v2/flowControl/{name}/pin`."""
        pin = resource_requests.read_pin(request.query.items())
        self._broker.flow_controls.pin(
            name_in(request), parallelism=pin.parallelism, rate=pin.rate, period=pin.period
        )
        return web.Response()

    async def unpin_flow_control(self, request: web.Request) -> web.Response:
        """POST `/v2/flowControl/{name}/unpin`."""
        flags = {
            name: parsing.flag_of(request.query.get(name, "false"), name)
            for name in ("parallelism", "rate")
        }
        self._broker.flow_controls.unpin(name_in(request), **flags)
        return web.Response()

    async def parallelism(self, _: web.Request) -> web.Response:
        """GET `/v2/globalParallelism`."""
        return json_response(
            {"parallelismMax": MAX_ATTEMPTS, "parallelismCount": self._broker.active}
        )

    async def get_keys(self, _: web.Request) -> web.Response:
        """GET `/v2/keys`."""
        return json_response(views.keys(self._broker.keys))

    async def rotate_keys(self, _: web.Request) -> web.Response:
        """POST `/v2/keys/rotate`."""
        return json_response(views.keys(self._broker.rotate_keys()))


def json_response(shown: Any, *, status: int = 200) -> web.Response:
    """Return a response in JSON."""
    return web.json_response(shown, status=status)


def name_in(request: web.Request) -> str:
    """Return the name in the path; raise `ApiError` if it cannot be saved."""
    return parsing.printable(request.match_info["name"], "the name in the path")


def _exactly(found: Iterable[DlqMessage]) -> Filter:
    return Filter(dlq_ids=tuple(one.id for one in found))


def _place_of(one: DlqMessage) -> Place:
    return one.failed_ms, one.id
