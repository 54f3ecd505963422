"""`hookmill qstash`: the stand-in as a program. Redis, the desk, the courier and the API."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import structlog

from hookmill.config.settings import Settings
from hookmill.emulator import DEVELOPMENT_TOKEN
from hookmill.emulator.app import serving
from hookmill.emulator.broker import Desk
from hookmill.emulator.dispatcher import Courier
from hookmill.emulator.models import Keys
from hookmill.emulator.state import State
from hookmill.emulator.store import Store
from hookmill.errors import HookmillError
from hookmill.runtime import process
from hookmill.runtime.embedded_redis import embedded_server

log = structlog.get_logger("qstash")

DATA = Path(".hookmill") / "qstash"
"""Where the embedded server keeps the state, in the current folder."""


class Options(NamedTuple):
    """How to run it. `redis_url` "": the embedded server. `scale` multiplies what is waited for."""

    port: int
    host: str = "127.0.0.1"
    redis_url: str = ""
    prefix: str = "hookmill"
    token: str = DEVELOPMENT_TOKEN
    keys: Keys | None = None
    scale: float = 1.0
    data: Path = DATA


def options_of(settings: Settings, *, port: int, scale: float, data: Path | None) -> Options:
    """Return how the settings have it run: on their Redis, with their token and signing keys."""
    keys = settings.qstash_keys
    return Options(
        port=port,
        redis_url=settings.redis_url or "",
        prefix=settings.prefix,
        token=settings.token or DEVELOPMENT_TOKEN,
        keys=Keys(keys[0], keys[-1]) if keys else None,
        scale=scale,
        data=data or DATA,
    )


def run(options: Options) -> None:
    """Run it until SIGTERM or Ctrl-C."""
    if options.redis_url:
        process.run(serve(options))
        return
    with embedded_server(options.data) as url:
        process.run(serve(options._replace(redis_url=url)))


async def serve(options: Options) -> None:
    """Serve the API and deliver, until asked to stop or until another one took over."""
    state, store = State(), Store(options.redis_url, options.prefix)
    async with process.stop_signal() as stop:
        try:
            await store.take()
            await store.load(state)
            desk = Desk(state, options.keys, scale=options.scale)
            courier = Courier(desk, lambda: store.save(state, drains=True))

            async def keep() -> None:
                await store.save(state)
                courier.wake()

            async with serving(desk, keep, options.token, options.host, options.port) as port:
                _announce(options, port, len(state.messages))
                await _work(store, courier, stop)
                log.info("stopping")
        except OSError as error:
            where = f"{options.host} port {options.port}"
            raise HookmillError(f"cannot listen on {where}: {error.strerror}") from None
        finally:
            with suppress(HookmillError):  # what ended it is what is to be told
                await store.save(state, drains=True)
            await store.close()


async def _work(store: Store, courier: Courier, stop: asyncio.Event) -> None:
    """Deliver until asked to stop; an error of ours, or a lost lease, passes through."""
    watched = [courier.start(), asyncio.create_task(store.hold())]
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({*watched, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
    finally:
        for task in (*watched, stopping):
            task.cancel()
        await asyncio.gather(*watched, stopping, return_exceptions=True)
        await courier.stop()


def _announce(options: Options, port: int, waiting: int) -> None:
    log.info(
        "the QStash stand-in is running, a development tool",
        QSTASH_URL=f"http://{options.host}:{port}",
        QSTASH_TOKEN=options.token if options.token == DEVELOPMENT_TOKEN else "yours",
        signing_keys="yours" if options.keys else "the public development keys",
        waiting=waiting,
    )
    if options.scale != 1:
        log.info("waiting is scaled", time_scale=options.scale)
