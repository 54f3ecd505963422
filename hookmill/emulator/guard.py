"""What happens around every API request: its origin, the token, saving, refusals, and the log.

What a request changed is saved before it is answered.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import ClientPayloadError, hdrs, web
from aiohttp.http_exceptions import BadHttpMessage

from hookmill.emulator.models import ApiError
from hookmill.emulator.origins import fault_of
from hookmill.emulator.state import Save
from hookmill.errors import HookmillError
from hookmill.runtime.log_pace import LogPace

log = structlog.get_logger("qstash")

_READING = {hdrs.METH_GET, hdrs.METH_HEAD}

_CONNECTION_LOST = (web.RequestPayloadError, ClientPayloadError, BadHttpMessage, OSError)

RouteHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """Refuses what a web page may have sent, checks the token, and saves the changes with `save`
    before the response is sent. `host` is the address that the emulator listens on.
    """

    def __init__(self, save: Save, token: str, host: str) -> None:
        self._save_changes = save
        self._token = token
        self._host = host
        self._pace = LogPace()
        self._is_behind = False
        """Whether changes of an earlier request are not saved."""

    @property
    def middleware(self) -> Any:
        """The middleware of all routes."""

        @web.middleware
        async def guard(request: web.Request, handler: RouteHandler) -> web.StreamResponse:
            if fault := fault_of(request.headers, self._host):
                return self._forbidden(request, fault)
            if request.path == "/":
                return await handler(request)
            try:
                self._check_token(request)
                response = await self._handle(request, handler)
            except (ApiError, web.HTTPException, *_CONNECTION_LOST) as error:
                return _refusal(request, error)
            _log(log.debug, "answered", request, response.status)
            return response

        return guard

    def _forbidden(self, request: web.Request, fault: str) -> web.Response:
        if self._pace.failed():  # a page can make as many requests as it likes
            _log(log.warning, "refused", request, 403, error=fault, **self._pace.failures)
        text = f"this request is refused, because {fault}"
        return web.json_response({"error": text}, status=403)

    async def _handle(self, request: web.Request, handler: RouteHandler) -> web.StreamResponse:
        if request.method in _READING:
            return await handler(request)
        if self._is_behind:  # nothing more is accepted until Redis takes the earlier changes
            await self._save()
        try:
            return await handler(request)
        finally:  # a request can be refused after it changed something
            await self._save()

    async def _save(self) -> None:
        try:
            await self._save_changes()
        except HookmillError as error:
            self._is_behind = True
            raise ApiError(503, f"not saved, try again: {error}") from None
        self._is_behind = False

    def _check_token(self, request: web.Request) -> None:
        in_query = request.query.getall("qstash_token", [])
        if not any(is_token(given, self._token) for given in in_query) and not any(
            map(self.carries_token, request.headers.getall(hdrs.AUTHORIZATION, []))
        ):
            raise ApiError(
                401, "the token is missing or wrong: Authorization: Bearer TOKEN, or ?qstash_token="
            )

    def carries_token(self, header: str) -> bool:
        """Return whether the value of an `Authorization` header is the emulator's token."""
        return carries_token(header, self._token)


def carries_token(header: str, token: str) -> bool:
    """Return whether the value of an `Authorization` header is this token."""
    scheme, _, given = header.partition(" ")
    return scheme.lower() == "bearer" and is_token(given.strip(), token)


def is_token(given: str, token: str) -> bool:
    """Compare in constant time. The given text may contain any bytes."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), token.encode())


def _refusal(request: web.Request, error: Exception) -> web.Response:
    status, text = 400, "the connection was lost before the body was complete"
    if isinstance(error, ApiError):
        status, text = error.status, error.text
    elif isinstance(error, web.HTTPRequestEntityTooLarge):
        status, text = 413, "the body is longer than the emulator takes"
    elif isinstance(error, web.HTTPException):
        status, text = error.status, f"{request.method} of this path is not part of the API"
    _log(log.info, "refused", request, status, error=text)
    return web.json_response({"error": text}, status=status)


def _log(
    write: Callable[..., Any], event: str, request: web.Request, status: int, **more: str | int
) -> None:
    """Log a request by its route, because its path may contain a secret."""
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "none"
    write(event, method=request.method, route=route, status=status, **more)
