"""`hookmill qstash`: runs the emulator. Redis, the broker, the dispatcher and the API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import structlog

from hookmill.config import dev_files
from hookmill.config.settings import Settings
from hookmill.emulator.app import serving
from hookmill.emulator.broker import Broker
from hookmill.emulator.credentials import are_real, check_together, fresh_token
from hookmill.emulator.dispatcher import Dispatcher
from hookmill.emulator.models import SigningKeys
from hookmill.emulator.state import State
from hookmill.emulator.store import Store
from hookmill.errors import HookmillError
from hookmill.runtime import process
from hookmill.runtime.embedded_redis import embedded_server
from hookmill.runtime.tasks import cancel_and_wait

log = structlog.get_logger("qstash")

DATA = dev_files.FOLDER / "qstash"
"""Where the embedded server keeps the state, in the current folder."""

Show = Callable[[str], None]
"""Prints a line for the person at the terminal."""


class EmulatorOptions(NamedTuple):
    """How to run the emulator.

    `redis_url` "": the embedded server. `token` "": a fresh one. `keys` None: the public ones.
    `scale` multiplies the waits of messages. `data` is the embedded server's folder.
    """

    port: int
    host: str = "127.0.0.1"
    redis_url: str = ""
    prefix: str = "hookmill"
    token: str = ""
    keys: SigningKeys | None = None
    scale: float = 1.0
    data: Path = DATA


def options_of(
    settings: Settings, *, port: int, scale: float, data: Path | None
) -> EmulatorOptions:
    """Return the options that follow from the settings: Redis, token and signing keys."""
    keys = settings.qstash_keys
    return EmulatorOptions(
        port=port,
        redis_url=settings.redis_url or "",
        prefix=settings.prefix,
        token=settings.token or "",
        keys=SigningKeys(keys[0], keys[-1]) if keys else None,
        scale=scale,
        data=data or DATA,
    )


def run(options: EmulatorOptions, show: Show) -> None:
    """Run the emulator until SIGTERM or Ctrl-C. `show` prints a fresh token, once."""
    if options.redis_url:
        process.run(serve(options, show))
        return
    with embedded_server(options.data) as url:
        process.run(serve(options._replace(redis_url=url), show))


async def serve(options: EmulatorOptions, show: Show) -> None:
    """Serve the API and deliver, until asked to stop or until another emulator takes over."""
    state, store = State(), Store(options.redis_url, options.prefix)
    token = options.token or fresh_token()
    async with process.stop_signal(*process.hangup()) as stop:
        try:
            await store.take()
            await store.load(state)
            broker = Broker(state, options.keys, scale=options.scale)
            check_together(token, broker.keys)
            dispatcher = Dispatcher(broker, lambda: store.save(state, drains=True))

            async def save() -> None:
                await store.save(state)
                dispatcher.wake()

            async with serving(broker, save, token, options.host, options.port) as port:
                url = f"http://{options.host}:{port}"
                _log_start(options, broker.keys, url, len(state.messages))
                with _told(options, url, token, show):
                    await _work(store, dispatcher, stop)
                log.info("stopping")
        except OSError as error:
            where = f"{options.host} port {options.port}"
            raise HookmillError(f"cannot listen on {where}: {error.strerror}") from None
        finally:
            with suppress(HookmillError):  # the error that ended it must not be replaced
                await store.save(state, drains=True)
            await store.close()


async def _work(store: Store, dispatcher: Dispatcher, stop: asyncio.Event) -> None:
    """Deliver until asked to stop. Raises our own errors, and `InUseError` for a lost lease."""
    watched = [dispatcher.start(), asyncio.create_task(store.hold())]
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({*watched, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
    finally:
        await cancel_and_wait((*watched, stopping))
        # Without this, asyncio would log the error of a second task that failed.
        await asyncio.gather(*watched, return_exceptions=True)
        await dispatcher.stop()


@contextmanager
def _told(options: EmulatorOptions, url: str, token: str, show: Show) -> Iterator[None]:
    """Print a fresh token, and keep it in a file while the block runs, where `Sender` finds it."""
    if options.token:
        yield
        return
    variables = {"QSTASH_URL": url, "QSTASH_TOKEN": token}
    with dev_files.kept(dev_files.QSTASH, variables) as path:
        if path is None:
            log.warning("the token is in no file: the current folder cannot be written")
        for name, value in variables.items():
            show(f"export {name}={value}")
        yield


def _log_start(options: EmulatorOptions, keys: SigningKeys, url: str, waiting: int) -> None:
    log.info(
        "the QStash emulator is running, a development tool",
        QSTASH_URL=url,
        QSTASH_TOKEN="yours" if options.token else "a fresh one",
        signing_keys="yours" if are_real(keys) else "for development only",
        waiting=waiting,
    )
    if options.scale != 1:
        log.info("waits are scaled", time_scale=options.scale)
