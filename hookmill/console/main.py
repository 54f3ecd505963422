"""`hookmill console`: starts, serves the pages until it is asked to stop, and ends."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from hookmill.admin.declared_events import load_declared
from hookmill.config.hosts import is_loopback
from hookmill.config.settings import Settings
from hookmill.console.app import serving
from hookmill.errors import HandlersError, HookmillError, SettingsError
from hookmill.events import Event
from hookmill.runtime import process

log = structlog.get_logger("console")


def run(
    settings: Settings, *, link: bool = False, target: str | None = None, anyway: bool = False
) -> None:
    """Run the console until SIGTERM or Ctrl-C. With `link`, log an address that logs one person in,
    once. `target` names handlers or a module whose events bodies are shown against: it is imported,
    which runs its code. Raises `SettingsError` and, unless `anyway`, `HandlersError`.
    """
    settings.need_redis_url()
    check_is_guarded(settings)
    events = () if target is None else _events_of(target, anyway=anyway)
    process.run(_serve(settings, events, link=link))


def _events_of(target: str, *, anyway: bool) -> tuple[type[Event], ...]:
    """Import the event classes. Where they cannot be, and only they would be missing, say so: the
    error has the name of what the module raised, and not its text, which may quote anything.
    """
    try:
        return load_declared(target).events
    except HandlersError as error:
        if not anyway:
            raise
        log.warning("bodies are shown without your event classes", error=str(error))
        return ()


def check_is_guarded(settings: Settings) -> None:
    """Raise `SettingsError` if anybody in the network could read all messages."""
    is_guarded = any(settings.console_tokens) or settings.console_trusted_header
    if not is_guarded and not is_loopback(host := settings.console_host):
        fault = (
            f"HOOKMILL_CONSOLE_HOST is {host}, and the console has no login: set "
            "HOOKMILL_CONSOLE_TOKEN_FILE to a file with a token, or listen on 127.0.0.1"
        )
        raise SettingsError([fault])


async def _serve(settings: Settings, events: Iterable[type[Event]], *, link: bool) -> None:
    async with process.stop_signal(*process.hangup()) as stop:
        try:
            async with serving(settings, events) as (port, console):
                host = settings.console_host
                url = (
                    settings.console_url or f"http://{f'[{host}]' if ':' in host else host}:{port}"
                )
                may_act = settings.console_tokens[0] is not None
                log.info("console open", url=f"{url}/", read_only=not may_act)
                if link:
                    log.info("log in once", url=f"{url}/login?once={console.access.make_link()}")
                await stop.wait()
                log.info("stopping")
        except OSError as error:
            where = f"{settings.console_host} port {settings.console_port}"
            raise HookmillError(f"cannot listen on {where}: {error.strerror}") from None
