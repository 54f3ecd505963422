"""What happens around every request: its host and origin, who asks, errors, and the headers.

Whatever a stranger sends gets an answer and one short line in the log, and never a traceback.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import structlog
from aiohttp import ClientPayloadError, hdrs, web
from aiohttp.http_exceptions import BadHttpMessage

from hookmill.admin.dead_letters import NoSuchDeadLetterError
from hookmill.config.settings import Settings
from hookmill.console.access import Access, Viewer, is_right
from hookmill.console.origins import host_fault, origin_fault
from hookmill.console.pages import PageRefusedError, Shown
from hookmill.console.rendering import STATIC
from hookmill.errors import GroupRefusedError, HookmillError, StreamUnavailableError
from hookmill.runtime.log_limit import LogLimit

log = structlog.get_logger("console")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""The headers of every answer. With nothing inline, no nonce and no hash is needed."""

MAX_FORM = 64 * 1024
"""Bytes that a sent form may have."""

_MAX_FIELDS = 2000

_READING = {hdrs.METH_GET, hdrs.METH_HEAD}

_CONNECTION_LOST = (web.RequestPayloadError, ClientPayloadError, BadHttpMessage, ConnectionError)

PROBED = {"/healthz": "ok\n", "/readyz": "ready\n"}
"""What a probe asks, and the answer. It says nothing of what the console shows."""

_OPEN = {*PROBED, "/login", *(f"/static/{name}" for name in STATIC)}
"""What is answered before a login."""

VIEWER: web.RequestKey[Viewer] = web.RequestKey("viewer", Viewer)

RouteHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Show = Callable[[web.Request, Shown], web.Response]


class ConsoleGuard:
    """The middleware around all routes. `show` renders a page, `cookie` is the session's."""

    def __init__(self, settings: Settings, access: Access, show: Show, cookie: str) -> None:
        self._settings = settings
        self._access = access
        self._show = show
        self._cookie = cookie
        self._log_limit = LogLimit()

    @property
    def middleware(self) -> Any:
        """The middleware of all routes."""

        @web.middleware
        async def guard(request: web.Request, handler: RouteHandler) -> web.StreamResponse:
            request[VIEWER] = Viewer()
            try:
                self._check_origin(request)
                request[VIEWER] = self._viewer(request)
                response = await self._handle(request, handler)
            except _CONNECTION_LOST:
                response = self._refused(request, 400, "the connection was lost")
            except Exception as error:  # noqa: BLE001 - each becomes an answer
                response = self._failed(request, error)
            if not response.prepared:
                add_headers(response)
            return response

        return guard

    def _check_origin(self, request: web.Request) -> None:
        url, listens_on = self._settings.console_url, self._settings.console_host
        if request.path in PROBED:
            return  # it says nothing, and a probe names an address
        fault = host_fault(request.headers, listens_on, url)
        if fault is None and request.method not in _READING:
            fault = origin_fault(request.headers, url)
        if fault is not None:
            raise PageRefusedError(403, f"this request is refused: {fault}")

    def _viewer(self, request: web.Request) -> Viewer:
        header = self._settings.console_trusted_header
        named = request.headers.getall(header, []) if header else []
        cookie = request.cookies.get(self._cookie, "")
        by_itself = "X-Hookmill-Live" in request.headers
        return self._access.viewer(cookie, request.remote or "", named, by_itself=by_itself)

    async def _handle(self, request: web.Request, handler: RouteHandler) -> web.StreamResponse:
        viewer = request[VIEWER]
        if request.path not in _OPEN:
            if viewer.role is None:
                return self._ask_for_login(request)
            if request.method not in _READING and not is_right(viewer, await _csrf(request)):
                raise PageRefusedError(
                    403, "this form is too old or not the console's own: load the page again"
                )
        return await handler(request)

    def _ask_for_login(self, request: web.Request) -> web.Response:
        if request.method in _READING and request.path != "/live":
            raise web.HTTPSeeOther("/login")
        raise PageRefusedError(401, "log in first")

    def _failed(self, request: web.Request, error: Exception) -> web.StreamResponse:
        match error:
            case web.HTTPRedirection():
                return web.Response(status=error.status, headers=error.headers)
            case PageRefusedError():
                return self._refused(request, error.status, str(error))
            case web.HTTPRequestEntityTooLarge():
                return self._refused(request, 413, "the form is too large")
            case web.HTTPException():
                return self._refused(request, error.status, "there is no such page")
            case NoSuchDeadLetterError() | GroupRefusedError():
                return self._refused(request, 404, str(error))
            case StreamUnavailableError():
                return self._refused(request, 503, f"Redis cannot be used: {error}")
            case HookmillError():
                return self._refused(request, 400, str(error))
        if self._log_limit.passes():
            log.error(
                "a page failed", route=_route(request), exc_info=error, **self._log_limit.report()
            )
        return self._answer(request, 500, "the console failed to make this page: see its log")

    def _refused(self, request: web.Request, status: int, text: str) -> web.Response:
        if self._log_limit.passes():
            log.warning(
                "refused", route=_route(request), status=status, error=text[:200],
                **self._log_limit.report(),
            )  # fmt: skip
        return self._answer(request, status, text)

    def _answer(self, request: web.Request, status: int, text: str) -> web.Response:
        return self._show(request, Shown("error.html", {"text": text, "code": status}, "", status))


def add_headers(response: web.StreamResponse) -> None:
    """Add the headers of every answer, where the answer has none of its own."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


async def form_of(request: web.Request) -> dict[str, list[str]]:
    """Return what a sent form says. Raises `PageRefusedError`."""
    if request.method in _READING:
        return {}
    if request.content_type != "application/x-www-form-urlencoded":
        raise PageRefusedError(415, "send a form as application/x-www-form-urlencoded")
    text = (await request.read()).decode("utf-8", "replace")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise PageRefusedError(400, "the form cannot be read") from None
    form: dict[str, list[str]] = {}
    for name, value in pairs:
        form.setdefault(name, []).append(value)
    return form


async def _csrf(request: web.Request) -> str:
    return next(iter((await form_of(request)).get("csrf", ())), "")


def _route(request: web.Request) -> str:
    """Return a request's route: its path may be anything."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "none"
