"""The emulator's HTTP server and its routes.

`guard` is around every request, `api` has the methods that need more than a record's name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from aiohttp import web

from hookmill.emulator import parsing, views
from hookmill.emulator.api import Api, json_response, name_in
from hookmill.emulator.broker import Broker
from hookmill.emulator.flow_control import FlowControls
from hookmill.emulator.guard import Guard, RouteHandler
from hookmill.emulator.models import ApiError, FlowControlKey, Queue, Record
from hookmill.emulator.queues import Queues
from hookmill.emulator.schedules import CronSchedules
from hookmill.emulator.state import Save
from hookmill.emulator.url_groups import UrlGroups
from hookmill.runtime.http_log import server_logger

MAX_BYTES = 100 * 1024 * 1024
"""The longest body: QStash's limit of a batch."""

_LONGEST_LINE = 65_536
"""Bytes of a request's first line, or of a header. They contain a destination or a hundred IDs."""

R = TypeVar("R", bound=Record)


def make_app(
    broker: Broker, save: Save, token: str, *, host: str = "127.0.0.1", max_body: int = MAX_BYTES
) -> web.Application:
    """Return the API of a broker that listens on `host`. `save` saves the changes and wakes the
    dispatcher.
    """
    guard = Guard(save, token, host)
    app = web.Application(
        middlewares=[guard.middleware],
        client_max_size=max_body,
        handler_args={
            "logger": server_logger("qstash.http"),
            "access_log": None,  # it would show the tokens in queries
            "auto_decompress": False,  # a message is delivered with the bytes it came with
            "max_line_size": _LONGEST_LINE,
            "max_field_size": _LONGEST_LINE,
        },
    )
    app.add_routes(_routes(Api(broker, guard.carries_token), broker))
    return app


@asynccontextmanager
async def serving(
    broker: Broker, save: Save, token: str, host: str, port: int
) -> AsyncIterator[int]:
    """Serve the API inside the block; give the port. Port 0 takes a free one."""
    runner = web.AppRunner(make_app(broker, save, token, host=host), shutdown_timeout=5.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _routes(api: Api, broker: Broker) -> list[web.RouteDef]:
    return [
        web.get("/", api.about),
        web.post("/v2/publish/{destination:.+}", api.publish),
        web.post("/v2/enqueue/{name}/{destination:.+}", api.enqueue),
        web.post("/v2/batch", api.batch),
        web.get("/v2/messages/{name}", _show(broker.message, views.message)),
        web.delete("/v2/messages/{name}", api.cancel_message),
        web.delete("/v2/messages", api.cancel_messages),
        web.get("/v2/logs", api.list_logs),
        web.get("/v2/events", api.list_events),
        *_dlq_routes(api, broker),
        *_schedule_routes(api, broker.schedules),
        *_url_group_routes(api, broker.url_groups),
        *_queue_routes(api, broker.queues),
        *_flow_control_routes(api, broker.flow_controls),
        web.get("/v2/globalParallelism", api.parallelism),
        web.get("/v2/keys", api.get_keys),
        web.post("/v2/keys/rotate", api.rotate_keys),
    ]


def _dlq_routes(api: Api, broker: Broker) -> list[web.RouteDef]:
    return [
        web.get("/v2/dlq", api.list_dlq),
        web.delete("/v2/dlq", api.delete_dlq_messages),
        web.post("/v2/dlq/retry", api.retry_dlq_messages),
        web.post("/v2/dlq/retry/{name}", api.retry_dlq_message),
        web.get("/v2/dlq/{name}", _show(broker.dlq.get, views.dlq_message)),
        web.delete("/v2/dlq/{name}", api.delete_dlq_message),
    ]


def _schedule_routes(api: Api, schedules: CronSchedules) -> list[web.RouteDef]:
    one = "/v2/schedules/{name}"
    return [
        web.get("/v2/schedules", _show_all(schedules.all, views.schedule)),
        web.get(one, _show(schedules.get, views.schedule)),
        web.delete(one, _change(schedules.drop)),
        # The SDKs use PATCH, the API's reference says POST.
        *(
            method(f"{one}/{action}", _change(change))
            for action, change in (("pause", schedules.pause), ("resume", schedules.resume))
            for method in (web.patch, web.post)
        ),
        web.post("/v2/schedules/{destination:.+}", api.put_schedule),
    ]


def _url_group_routes(api: Api, url_groups: UrlGroups) -> list[web.RouteDef]:
    one = "/v2/topics/{name}"
    return [
        web.get("/v2/topics", _show_all(url_groups.all, views.url_group)),
        web.get(one, _show(url_groups.get, views.url_group)),
        web.delete(one, _change(url_groups.drop)),
        web.post(f"{one}/endpoints", api.add_endpoints),
        web.delete(f"{one}/endpoints", api.remove_endpoints),
    ]


def _queue_routes(api: Api, queues: Queues) -> list[web.RouteDef]:
    def view(queue: Queue) -> views.Json:
        return views.queue(queue, queues.lag(queue.name))

    def pause(name: str) -> None:
        queues.upsert(parsing.name_of("queue", name), is_paused=True)

    def resume(name: str) -> None:
        queues.upsert(parsing.name_of("queue", name), is_paused=False)

    one = "/v2/queues/{name}"
    return [
        web.get("/v2/queues{_:/?}", _show_all(queues.all, view)),
        web.post("/v2/queues{_:/?}", api.put_queue),
        web.get(one, _show(queues.get, view)),
        web.delete(one, _change(queues.drop)),
        web.post(f"{one}/pause", _change(pause)),
        web.post(f"{one}/resume", _change(resume)),
    ]


def _flow_control_routes(api: Api, flow_controls: FlowControls) -> list[web.RouteDef]:
    def view(one: FlowControlKey) -> views.Json:
        return views.flow_control_key(
            one, waiting=flow_controls.waiting(one.key), active=flow_controls.active(one.key)
        )

    def known(key: str) -> FlowControlKey:
        if all(one.key != key for one in flow_controls.all()):
            raise ApiError(404, f"flow control key {key!r} not found")
        return flow_controls.get(key)

    one = "/v2/flowControl/{name}"
    return [
        web.get("/v2/flowControl", _show_all(flow_controls.all, view)),
        web.get(one, _show(known, view)),
        web.post(f"{one}/pause", _change(flow_controls.pause)),
        web.post(f"{one}/resume", _change(flow_controls.resume)),
        web.post(f"{one}/resetRate", _change(flow_controls.reset)),
        web.post(f"{one}/pin", api.pin_flow_control),
        web.post(f"{one}/unpin", api.unpin_flow_control),
    ]


def _show_all(find_all: Callable[[], list[R]], view: Callable[[R], views.Json]) -> RouteHandler:
    """Return a handler that answers with all records of a kind."""

    async def handler(_: web.Request) -> web.Response:
        return json_response([view(record) for record in find_all()])

    return handler


def _show(find: Callable[[str], R], view: Callable[[R], views.Json]) -> RouteHandler:
    """Return a handler that answers with the record that the path names."""

    async def handler(request: web.Request) -> web.Response:
        return json_response(view(find(name_in(request))))

    return handler


def _change(change: Callable[[str], object]) -> RouteHandler:
    """Return a handler that changes the record that the path names."""

    async def handler(request: web.Request) -> web.Response:
        change(name_in(request))
        return web.Response()

    return handler
