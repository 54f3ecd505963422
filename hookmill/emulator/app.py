"""The stand-in's HTTP: routes and the token. Reads with `requests`, asks the desk, shows with
`views`.

What a request changed is written down before it is answered.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog
from aiohttp import ClientPayloadError, hdrs, web
from aiohttp.http_exceptions import BadHttpMessage

from hookmill.emulator import parsing, requests, views
from hookmill.emulator.broker import Desk
from hookmill.emulator.dispatcher import AT_A_TIME
from hookmill.emulator.flow_control import Gates
from hookmill.emulator.models import ApiError, DeadLetter, Filter, Gate, Order, Queue, Record
from hookmill.emulator.queues import Queues
from hookmill.emulator.schedules import Schedules
from hookmill.emulator.url_groups import UrlGroups
from hookmill.errors import HookmillError

log = structlog.get_logger("qstash")

MOST_BYTES = 100 * 1024 * 1024
"""The longest body: what QStash allows a batch."""

ABOUT = """\
This is Hookmill's stand-in for QStash: a development tool, not the service and not made by its
makers. It keeps the v2 API, and delivers to this machine. Set QSTASH_URL to this address.
"""

_LONGEST_LINE = 65_536
"""Bytes of a request's first line, or of a header: a destination or a hundred IDs stand there."""

_LOG_PAGE, _DLQ_PAGE = 1000, 100
"""What a page holds at most."""

_READING = {hdrs.METH_GET, hdrs.METH_HEAD}

_BROKEN_OFF = (web.RequestPayloadError, ClientPayloadError, BadHttpMessage, OSError)

R = TypeVar("R", bound=Record)

Keep = Callable[[], Awaitable[None]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(desk: Desk, keep: Keep, token: str, *, max_body: int = MOST_BYTES) -> web.Application:
    """Return the API of a desk. `keep` writes down what changed, and wakes the courier."""
    api = _Api(desk, keep, token)
    app = web.Application(
        middlewares=[api.guard],
        client_max_size=max_body,
        handler_args={
            "logger": _server_logger(),
            "access_log": None,  # it would show the tokens in queries
            "auto_decompress": False,  # what is published is delivered as it came
            "max_line_size": _LONGEST_LINE,
            "max_field_size": _LONGEST_LINE,
        },
    )
    app.add_routes(_routes(api, desk))
    return app


@asynccontextmanager
async def serving(desk: Desk, keep: Keep, token: str, host: str, port: int) -> AsyncIterator[int]:
    """Serve the API meanwhile; give the port (0 stands for a free one)."""
    runner = web.AppRunner(make_app(desk, keep, token), shutdown_timeout=5.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _routes(api: _Api, desk: Desk) -> list[web.RouteDef]:
    return [
        web.get("/", api.about),
        web.post("/v2/publish/{destination:.+}", api.publish),
        web.post("/v2/enqueue/{name}/{destination:.+}", api.enqueue),
        web.post("/v2/batch", api.batch),
        web.get("/v2/messages/{name}", _showing(desk.message, views.message)),
        web.delete("/v2/messages/{name}", api.cancel_message),
        web.delete("/v2/messages", api.cancel_messages),
        web.get("/v2/logs", api.list_logs),
        web.get("/v2/events", api.list_events),
        *_dlq_routes(api, desk),
        *_schedule_routes(api, desk.schedules),
        *_topic_routes(api, desk.topics),
        *_queue_routes(api, desk.queues),
        *_gate_routes(api, desk.gates),
        web.get("/v2/globalParallelism", api.parallelism),
        web.get("/v2/keys", api.get_keys),
        web.post("/v2/keys/rotate", api.rotate_keys),
    ]


def _dlq_routes(api: _Api, desk: Desk) -> list[web.RouteDef]:
    return [
        web.get("/v2/dlq", api.list_dead),
        web.delete("/v2/dlq", api.drop_dead),
        web.post("/v2/dlq/retry", api.retry_dead),
        web.post("/v2/dlq/retry/{name}", api.retry_one_dead),
        web.get("/v2/dlq/{name}", _showing(desk.dead_letter, views.dead_letter)),
        web.delete("/v2/dlq/{name}", api.drop_one_dead),
    ]


def _schedule_routes(api: _Api, schedules: Schedules) -> list[web.RouteDef]:
    one = "/v2/schedules/{name}"
    return [
        web.get("/v2/schedules", _listing(schedules.all, views.schedule)),
        web.get(one, _showing(schedules.get, views.schedule)),
        web.delete(one, _doing(schedules.drop)),
        # The SDKs say PATCH, the API's reference POST.
        *(
            say(f"{one}/{what}", _doing(change))
            for what, change in (("pause", schedules.pause), ("resume", schedules.resume))
            for say in (web.patch, web.post)
        ),
        web.post("/v2/schedules/{destination:.+}", api.put_schedule),
    ]


def _topic_routes(api: _Api, topics: UrlGroups) -> list[web.RouteDef]:
    one = "/v2/topics/{name}"
    return [
        web.get("/v2/topics", _listing(topics.all, views.url_group)),
        web.get(one, _showing(topics.get, views.url_group)),
        web.delete(one, _doing(topics.drop)),
        web.post(f"{one}/endpoints", api.add_endpoints),
        web.delete(f"{one}/endpoints", api.remove_endpoints),
    ]


def _queue_routes(api: _Api, queues: Queues) -> list[web.RouteDef]:
    def shown(queue: Queue) -> views.Json:
        return views.queue(queue, queues.lag(queue.name))

    def pause(name: str) -> None:
        queues.upsert(parsing.name_of("queue", name), is_paused=True)

    def resume(name: str) -> None:
        queues.upsert(parsing.name_of("queue", name), is_paused=False)

    one = "/v2/queues/{name}"
    return [
        web.get("/v2/queues{_:/?}", _listing(queues.all, shown)),
        web.post("/v2/queues{_:/?}", api.put_queue),
        web.get(one, _showing(queues.get, shown)),
        web.delete(one, _doing(queues.drop)),
        web.post(f"{one}/pause", _doing(pause)),
        web.post(f"{one}/resume", _doing(resume)),
    ]


def _gate_routes(api: _Api, gates: Gates) -> list[web.RouteDef]:
    def shown(gate: Gate) -> views.Json:
        return views.gate(gate, waiting=gates.waiting(gate.key), active=gates.active(gate.key))

    def known(key: str) -> Gate:
        if all(gate.key != key for gate in gates.all()):
            raise ApiError(404, f"flow control key {key!r} not found")
        return gates.get(key)

    one = "/v2/flowControl/{name}"
    return [
        web.get("/v2/flowControl", _listing(gates.all, shown)),
        web.get(one, _showing(known, shown)),
        web.post(f"{one}/pause", _doing(gates.pause)),
        web.post(f"{one}/resume", _doing(gates.resume)),
        web.post(f"{one}/resetRate", _doing(gates.reset)),
        web.post(f"{one}/pin", api.pin_gate),
        web.post(f"{one}/unpin", api.unpin_gate),
    ]


def _listing(all_of_them: Callable[[], list[R]], view: Callable[[R], views.Json]) -> Handler:
    """Answer with all records of a kind."""

    async def handler(_: web.Request) -> web.Response:
        return _json([view(record) for record in all_of_them()])

    return handler


def _showing(find: Callable[[str], R], view: Callable[[R], views.Json]) -> Handler:
    """Answer with the one that the path names."""

    async def handler(request: web.Request) -> web.Response:
        return _json(view(find(_name_in(request))))

    return handler


def _doing(change: Callable[[str], object]) -> Handler:
    """Change the one that the path names."""

    async def handler(request: web.Request) -> web.Response:
        change(_name_in(request))
        return web.Response()

    return handler


class _Api:
    """What each route does."""

    def __init__(self, desk: Desk, keep: Keep, token: str) -> None:
        self._desk = desk
        self._keep = keep
        self._token = token
        self._is_behind = False
        """Whether what a request changed is not written down."""

    # --- around every request ---

    @property
    def guard(self) -> Any:
        """The way in and out of every route."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path == "/":
                return await handler(request)
            try:
                self._admit(request)
                response = await self._answer(request, handler)
            except (ApiError, web.HTTPException, *_BROKEN_OFF) as error:
                return _refusal(request, error)
            _tell(log.debug, "answered", request, response.status)
            return response

        return guard

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method in _READING:
            return await handler(request)
        if self._is_behind:  # nothing more is taken in until Redis takes it too
            await self._write_down()
        try:
            return await handler(request)
        finally:  # a refusal may come after a change
            await self._write_down()

    async def _write_down(self) -> None:
        try:
            await self._keep()
        except HookmillError as error:
            self._is_behind = True
            raise ApiError(503, f"not written down, ask again: {error}") from None
        self._is_behind = False

    def _admit(self, request: web.Request) -> None:
        in_query = request.query.getall("qstash_token", [])
        if not any(requests.is_token(given, self._token) for given in in_query) and not any(
            map(self._carries_token, request.headers.getall(hdrs.AUTHORIZATION, []))
        ):
            raise ApiError(
                401, "the token is missing or wrong: Authorization: Bearer TOKEN, or ?qstash_token="
            )

    def _carries_token(self, header: str) -> bool:
        return requests.carries_token(header, self._token)

    async def _read(self, request: web.Request) -> requests.ApiRequest:
        """Read a request, without our token: all headers of it may be forwarded."""
        headers = tuple(
            (str(name), value)  # a name is a str of aiohttp's own, which cannot be written down
            for name, value in request.headers.items()
            if name.lower() != "authorization" or not self._carries_token(value)
        )
        body = await request.read()
        return requests.ApiRequest(request.raw_path, headers, body, request.remote or "")

    async def about(self, _: web.Request) -> web.Response:
        return web.Response(text=ABOUT)

    # --- publishing ---

    async def publish(self, request: web.Request) -> web.Response:
        return self._publish(requests.publish_order(await self._read(request)))

    async def enqueue(self, request: web.Request) -> web.Response:
        queue = _name_in(request)
        return self._publish(requests.enqueue_order(await self._read(request), queue))

    def _publish(self, order: Order) -> web.Response:
        receipts = self._desk.publish(order)
        is_new = not all(one.is_duplicate for one in receipts)
        return _json(views.published(order, receipts), status=200 if is_new else 202)

    async def batch(self, request: web.Request) -> web.Response:
        orders = requests.batch_orders(await self._read(request))
        return _json([self._published_or_error(order) for order in orders])

    def _published_or_error(self, order: Order | ApiError) -> Any:
        if isinstance(order, ApiError):
            return {"error": order.text}
        try:
            return views.published(order, self._desk.publish(order))
        except ApiError as error:
            return {"error": error.text}

    # --- messages ---

    async def cancel_message(self, request: web.Request) -> web.Response:
        message = self._desk.message(_name_in(request))
        return _json(
            {"cancelled": self._desk.cancel(Filter(message_ids=(message.id,)))}, status=202
        )

    async def cancel_messages(self, request: web.Request) -> web.Response:
        choice = requests.choice_of(request.query.items(), await request.read())
        return _json(
            {"cancelled": self._desk.cancel(choice) if choice is not None else 0}, status=202
        )

    async def list_logs(self, request: web.Request) -> web.Response:
        return self._logs(request, "logs")

    async def list_events(self, request: web.Request) -> web.Response:
        return self._logs(request, "events")

    def _logs(self, request: web.Request, name: str) -> web.Response:
        choice = requests.choice_of(request.query.items()) or Filter()
        page = requests.page_of(request.query.items(), default=_LOG_PAGE, most=_LOG_PAGE)
        entries, cursor = views.latest_first(self._desk.logs(choice), page)
        return _json({name: [views.log_entry(entry) for entry in entries], **cursor})

    # --- dead letters ---

    async def list_dead(self, request: web.Request) -> web.Response:
        letters, cursor = self._dead_page(request, requests.choice_of(request.query.items()))
        return _json({"messages": [views.dead_letter(letter) for letter in letters], **cursor})

    async def drop_one_dead(self, request: web.Request) -> web.Response:
        self._desk.drop_dead(self._one_dead(request))
        return _json({"deleted": 1})

    async def drop_dead(self, request: web.Request) -> web.Response:
        choice = requests.choice_of(request.query.items(), await request.read())
        letters, cursor = self._dead_page(request, choice)
        deleted = self._desk.drop_dead(_these(letters)) if letters else 0
        return _json({"deleted": deleted, **cursor})

    async def retry_one_dead(self, request: web.Request) -> web.Response:
        (receipt,) = self._desk.retry_dead(self._one_dead(request))
        return _json(views.receipt(receipt), status=201)

    async def retry_dead(self, request: web.Request) -> web.Response:
        choice = requests.choice_of(request.query.items(), await request.read())
        for dlq_id in choice.dlq_ids if choice is not None else ():
            self._desk.dead_letter(dlq_id)  # all of them or none
        letters, cursor = self._dead_page(request, choice)
        receipts = self._desk.retry_dead(_these(letters)) if letters else []
        return _json({"responses": [views.receipt(one) for one in receipts], **cursor}, status=201)

    def _one_dead(self, request: web.Request) -> Filter:
        return _these([self._desk.dead_letter(_name_in(request))])

    def _dead_page(
        self, request: web.Request, choice: Filter | None
    ) -> tuple[list[DeadLetter], views.Json]:
        page = requests.page_of(request.query.items(), default=_DLQ_PAGE, most=_DLQ_PAGE)
        if choice is None:
            return [], {}
        letters = sorted(self._desk.dead_letters(choice), key=_place_of)
        if choice.dlq_ids:  # they were counted by whoever gave them
            return letters, {}
        return views.oldest_first(letters, page, _place_of)

    # --- what schedules, URL groups, queues and flow-control keys are to be ---

    async def put_schedule(self, request: web.Request) -> web.Response:
        order, cron, schedule_id = requests.schedule_order(await self._read(request))
        made = self._desk.schedules.put(order, cron, schedule_id)
        return _json({"scheduleId": made.id})

    async def add_endpoints(self, request: web.Request) -> web.Response:
        name = parsing.name_of("URL group", _name_in(request))
        self._desk.topics.add(name, requests.endpoints_of(await request.read()))
        return web.Response()

    async def remove_endpoints(self, request: web.Request) -> web.Response:
        endpoints = requests.endpoints_of(await request.read(), to_remove=True)
        self._desk.topics.remove(_name_in(request), endpoints)
        return web.Response()

    async def put_queue(self, request: web.Request) -> web.Response:
        change = requests.queue_change(await request.read())
        self._desk.queues.upsert(
            change.name, parallelism=change.parallelism, is_paused=change.is_paused
        )
        return web.Response()

    async def pin_gate(self, request: web.Request) -> web.Response:
        pin = requests.pin_of(request.query.items())
        self._desk.gates.pin(
            _name_in(request), parallelism=pin.parallelism, rate=pin.rate, period=pin.period
        )
        return web.Response()

    async def unpin_gate(self, request: web.Request) -> web.Response:
        asked = {
            name: parsing.flag_of(request.query.get(name, "false"), name)
            for name in ("parallelism", "rate")
        }
        self._desk.gates.unpin(_name_in(request), **asked)
        return web.Response()

    async def parallelism(self, _: web.Request) -> web.Response:
        return _json({"parallelismMax": AT_A_TIME, "parallelismCount": self._desk.active})

    # --- the whole ---

    async def get_keys(self, _: web.Request) -> web.Response:
        return _json(views.keys(self._desk.keys))

    async def rotate_keys(self, _: web.Request) -> web.Response:
        return _json(views.keys(self._desk.rotate_keys()))


# --- answers ---


def _json(shown: Any, *, status: int = 200) -> web.Response:
    return web.json_response(shown, status=status)


def _refusal(request: web.Request, error: Exception) -> web.Response:
    status, text = 400, "the body broke off"
    if isinstance(error, ApiError):
        status, text = error.status, error.text
    elif isinstance(error, web.HTTPRequestEntityTooLarge):
        status, text = 413, "the body is longer than the stand-in takes"
    elif isinstance(error, web.HTTPException):
        status, text = error.status, f"{request.method} of this path is not part of the API"
    _tell(log.info, "refused", request, status, error=text)
    return _json({"error": text}, status=status)


def _tell(
    say: Callable[..., Any], what: str, request: web.Request, status: int, **more: str
) -> None:
    """Log a request by its route: its own path may hold what is nobody's business."""
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "none"
    say(what, method=request.method, route=route, status=status, **more)


def _server_logger() -> logging.Logger:
    logger = logging.getLogger("qstash.http")
    logger.addFilter(_without_request)
    return logger


def _without_request(record: logging.LogRecord) -> bool:
    """Reduce what a client caused to one line, without what it sent."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, BadHttpMessage | ClientPayloadError | OSError):
        record.msg, record.args = "malformed request: %s", (type(error).__name__,)
        record.exc_info = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


# --- small things ---


def _these(letters: Iterable[DeadLetter]) -> Filter:
    return Filter(dlq_ids=tuple(letter.id for letter in letters))


def _place_of(letter: DeadLetter) -> views.Place:
    return letter.died_ms, letter.id


def _name_in(request: web.Request) -> str:
    """Return the name in the path, if it can be written down."""
    return parsing.printable(request.match_info["name"], "the name in the path")
