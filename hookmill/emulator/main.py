"""`hookmill qstash`: runs the emulator. Redis, the broker, the dispatcher and the API."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import structlog

from hookmill.config.settings import Settings
from hookmill.emulator import DEVELOPMENT_TOKEN
from hookmill.emulator.app import serving
from hookmill.emulator.broker import Broker
from hookmill.emulator.dispatcher import Dispatcher
from hookmill.emulator.models import SigningKeys
from hookmill.emulator.state import State
from hookmill.emulator.store import Store
from hookmill.errors import HookmillError
from hookmill.runtime import process
from hookmill.runtime.embedded_redis import embedded_server
from hookmill.runtime.tasks import cancel_and_wait
from hookmill.signatures.qstash import DEVELOPMENT_KEYS

log = structlog.get_logger("qstash")

DATA = Path(".hookmill") / "qstash"
"""Where the embedded server keeps the state, in the current folder."""


class EmulatorOptions(NamedTuple):
    """How to run the emulator.

    `redis_url` "": the embedded server. `scale` multiplies the waits of messages. `data` is the
    embedded server's folder.
    """

    port: int
    host: str = "127.0.0.1"
    redis_url: str = ""
    prefix: str = "hookmill"
    token: str = DEVELOPMENT_TOKEN
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
        token=settings.token or DEVELOPMENT_TOKEN,
        keys=SigningKeys(keys[0], keys[-1]) if keys else None,
        scale=scale,
        data=data or DATA,
    )


def run(options: EmulatorOptions) -> None:
    """Run the emulator until SIGTERM or Ctrl-C."""
    if options.redis_url:
        process.run(serve(options))
        return
    with embedded_server(options.data) as url:
        process.run(serve(options._replace(redis_url=url)))


async def serve(options: EmulatorOptions) -> None:
    """Serve the API and deliver, until asked to stop or until another emulator takes over."""
    state, store = State(), Store(options.redis_url, options.prefix)
    async with process.stop_signal() as stop:
        try:
            await store.take()
            await store.load(state)
            broker = Broker(state, options.keys, scale=options.scale)
            dispatcher = Dispatcher(broker, lambda: store.save(state, drains=True))

            async def save() -> None:
                await store.save(state)
                dispatcher.wake()

            async with serving(broker, save, options.token, options.host, options.port) as port:
                _log_start(options, port, len(state.messages))
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


def _are_own(keys: SigningKeys | None) -> bool:
    # `hookmill dev` sets the public keys as if they were the user's.
    return keys is not None and keys.current not in DEVELOPMENT_KEYS


def _log_start(options: EmulatorOptions, port: int, waiting: int) -> None:
    log.info(
        "the QStash emulator is running, a development tool",
        QSTASH_URL=f"http://{options.host}:{port}",
        QSTASH_TOKEN=options.token if options.token == DEVELOPMENT_TOKEN else "yours",
        signing_keys="yours" if _are_own(options.keys) else "the public development keys",
        waiting=waiting,
    )
    if options.scale != 1:
        log.info("waits are scaled", time_scale=options.scale)
