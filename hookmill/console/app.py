"""The console's HTTP server and its routes.

`guard` is around every request. The pages themselves know no HTTP: see `pages`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp_sse import EventSourceResponse

from hookmill.config.settings import Settings
from hookmill.console import (
    audit_page,
    dead_pages,
    handler_page,
    job_pages,
    message_pages,
    overview_page,
    pause_pages,
    refused_pages,
    replay_pages,
    source_page,
    worker_page,
)
from hookmill.console.console import Console
from hookmill.console.guard import HEADERS, MAX_FORM, PROBED, VIEWER, ConsoleGuard, form_of
from hookmill.console.pages import Answer, Moved, PageRefusedError, Request, Shown
from hookmill.console.rendering import STATIC, Renderer
from hookmill.events import Event
from hookmill.runtime.http_log import server_logger

Page = Callable[[Console, Request], Awaitable[Answer]]

PAGES: dict[str, Page] = {
    "/": overview_page.overview,
    "/dead": dead_pages.dead,
    "/dead/errors": dead_pages.errors,
    "/dead/{id}": dead_pages.one,
    "/jobs/{id}": job_pages.job,
    "/messages": message_pages.messages,
    "/messages/{entry}": message_pages.story,
    "/handlers": handler_page.handlers,
    "/sources": source_page.sources,
    "/refused": refused_pages.refused,
    "/refused/{id}": refused_pages.one,
    "/workers": worker_page.workers,
    "/workers/{worker}/stacks": worker_page.stacks,
    "/audit": audit_page.audit,
}
"""What is shown."""

ACTIONS: dict[str, Page] = {
    "/dead/plan": dead_pages.plan,
    "/messages/{entry}/replay": replay_pages.plan,
    "/handlers/pause": pause_pages.pause,
    "/handlers/resume": pause_pages.resume,
    "/workers/{worker}/stacks": worker_page.ask_for_stacks,
    "/jobs/{id}/confirm": job_pages.confirm,
    "/jobs/{id}/cancel": job_pages.cancel,
}
"""What is done: forms are sent there."""

NAVIGATION = (
    ("/", "Overview"),
    ("/dead", "Dead letters"),
    ("/messages", "Messages"),
    ("/handlers", "Handlers"),
    ("/sources", "Sources"),
    ("/workers", "Workers"),
    ("/audit", "Audit"),
)


class ConsoleServer:
    """Makes the application of a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._renderer = Renderer()
        url = console.settings.console_url
        self._is_secure = url is not None and urlsplit(url).scheme == "https"
        self._cookie = (
            "__Host-hookmill" if self._is_secure else f"hookmill-{console.settings.console_port}"
        )

    def app(self) -> web.Application:
        """Return the application."""
        console = self._console
        guard = ConsoleGuard(console.settings, console.access, self._show, self._cookie)
        app = web.Application(
            middlewares=[guard.middleware],
            client_max_size=MAX_FORM,
            handler_args={"logger": server_logger("console.http"), "access_log": None},
        )
        app.on_shutdown.append(self._end_streams)
        app.add_routes(
            [
                *(web.get(path, self._shower(page)) for path, page in PAGES.items()),
                *(web.post(path, self._shower(page)) for path, page in ACTIONS.items()),
                *(web.get(f"/static/{name}", self._static) for name in STATIC),
                *(web.get(path, self._probed) for path in PROBED),
                web.get("/live", self._live),
                web.get("/login", self._ask_to_log_in),
                web.post("/login", self._log_in),
                web.post("/logout", self._log_out),
            ]
        )
        return app

    async def _end_streams(self, _: web.Application) -> None:
        # An open stream would hold up the shutdown.
        await self._console.watch.close()

    def _shower(self, page: Page) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handler(request: web.Request) -> web.Response:
            asked = Request(
                request[VIEWER], request.path, request.match_info, request.query,
                await form_of(request),
            )  # fmt: skip
            answer = await page(self._console, asked)
            if isinstance(answer, Moved):
                raise web.HTTPSeeOther(answer.to)
            return self._show(request, answer)

        return handler

    def _show(self, request: web.Request, shown: Shown) -> web.Response:
        values = {
            "viewer": request[VIEWER],
            "path": request.path,
            "navigation": NAVIGATION,
            "live": shown.live,
            "needs_login": self._console.access.needs_login,
            "unseen": self._console.backend.unseen() if request[VIEWER].role else (),
            **shown.values,
        }
        text = self._renderer.render(shown.template, values)
        return web.Response(
            body=text.encode("utf-8", "replace"), status=shown.status,
            content_type="text/html", charset="utf-8",
        )  # fmt: skip

    async def _static(self, request: web.Request) -> web.Response:
        name = request.path.rpartition("/")[2]
        return web.Response(
            body=self._renderer.files[name],
            headers={
                "Content-Type": f"{STATIC[name]}; charset=utf-8",
                "Cache-Control": "private, max-age=3600",  # its address has its version
            },
        )

    async def _probed(self, request: web.Request) -> web.Response:
        # A console without Redis still has to be asked what is wrong, so it is ready as well.
        return web.Response(text=PROBED[request.path], headers={"Hookmill-Program": "console"})

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """Send the topics that have changed, until the browser goes or the console ends."""
        response = EventSourceResponse()
        response.headers.update(HEADERS)
        with self._console.watch.listening() as listener:
            await response.prepare(request)
            async with response:
                with suppress(ConnectionError, TimeoutError):
                    await response.send("open", retry=3000)
                    while topics := await listener.next():
                        await response.send(" ".join(topics), event="changed")
        return response

    async def _ask_to_log_in(self, request: web.Request) -> web.Response:
        once = request.query.get("once", "")
        is_link = bool(once) and self._console.access.is_link(once)
        values = {
            "once": once if is_link else "",
            "is_over": bool(once) and not is_link,
            "has_tokens": self._console.access.has_tokens,
            "fault": "",
        }
        return self._show(request, Shown("login.html", values))

    async def _log_in(self, request: web.Request) -> web.Response:
        access, form = self._console.access, await form_of(request)
        forwarded = request.headers.getall(hdrs.X_FORWARDED_FOR, [])
        peer = access.client(request.remote or "", forwarded)
        if access.is_locked(peer):
            raise PageRefusedError(429, "too many logins have failed: wait a minute")
        token, name = (next(iter(form.get(field, ())), "") for field in ("token", "name"))
        cookie = access.log_in(token, peer, name)
        if cookie is None:
            await asyncio.sleep(0.2)
            raise PageRefusedError(403, "this token is wrong, or was used already")
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(
            self._cookie, cookie, path="/", httponly=True, samesite="Strict",
            secure=self._is_secure, max_age=int(self._console.settings.console_session),
        )  # fmt: skip
        return response

    async def _log_out(self, request: web.Request) -> web.Response:
        self._console.access.log_out(request.cookies.get(self._cookie, ""))
        response = web.Response(status=303, headers={"Location": "/login"})
        response.del_cookie(self._cookie, path="/", secure=self._is_secure, samesite="Strict")
        return response


@asynccontextmanager
async def serving(
    settings: Settings, events: Iterable[type[Event]] = ()
) -> AsyncIterator[tuple[int, Console]]:
    """Serve the console inside the block; give the port and its parts. Bodies are shown against
    these event classes, and those of the catalog.
    """
    console = Console(settings, events)
    runner = web.AppRunner(ConsoleServer(console).app(), shutdown_timeout=5.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.console_host, settings.console_port).start()
        yield int(runner.addresses[0][1]), console
    finally:
        await runner.cleanup()
        await console.close()
