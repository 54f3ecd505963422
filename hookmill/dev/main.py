"""`hookmill dev`: all on one machine. Embedded server, QStash emulator, receiver, workers, console.

Each program runs in a process of its own, as it does in production, but with keys that were made
for this run. Ctrl-C ends all of them: the emulator and the receiver first, the server last.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Collection
from contextlib import suppress
from importlib.util import find_spec

import structlog

from hookmill.admin.groups import add_if_unknown
from hookmill.config import dev_files
from hookmill.config.settings import DEFAULT_GROUP, Settings, load_settings
from hookmill.config.sources import sources_of
from hookmill.debug.simulate import answers, deliver
from hookmill.dev import environment
from hookmill.dev.environment import Made
from hookmill.dev.samples import SAMPLES, OrderPaid
from hookmill.errors import HookmillError
from hookmill.runtime import process
from hookmill.runtime.embedded_redis import embedded_server
from hookmill.runtime.tasks import cancel_and_wait
from hookmill.sending.sender import Sender

log = structlog.get_logger("dev")

WORKERS = 2
START = 15.0
"""Seconds within which the receiver must get ready."""


class ProgramFailedError(HookmillError):
    """One of the programs ended by itself, so that the others were stopped."""

    code = "program_failed"


def run(
    settings: Settings, handlers: str, *, samples: bool, on_redis_url: bool, ignored: str
) -> None:
    """Run everything until Ctrl-C. `environment.set_defaults` was called before the settings were
    read, and has returned `ignored`. Raises `ProgramFailedError`.
    """
    if ignored:
        log.warning(
            "the Redis that is set is not used, because it could be that of production",
            set_by=ignored,
            to_use_it="hookmill dev --on-redis-url",
        )
    made = environment.make_secrets(settings)
    environment.use_own_spool(settings)
    if on_redis_url:
        prefix = environment.use_own_prefix(settings)
        made.variables["HOOKMILL_PREFIX"] = prefix
        log.info("using the Redis that is set", set_by=settings.redis_variable, prefix=prefix)
        _run(made, handlers, samples=samples)
        return
    with embedded_server() as url:
        environment.use_server(url)
        log.info("embedded server started", url=url)
        made.variables["REDIS_URL"] = url
        _run(made, handlers, samples=samples)
    log.info("embedded server stopped")


def _run(made: Made, handlers: str, *, samples: bool) -> None:
    with dev_files.kept(dev_files.DEV, made.variables) as path:
        if path is None:
            log.warning("the keys are in no file: the current folder cannot be written")
        process.run(_develop(handlers, samples=samples, qstash=made.has_emulator))


async def _develop(handlers: str, *, samples: bool, qstash: bool) -> None:
    """Start all programs, and stop them at Ctrl-C, or when one of them has ended by itself."""
    settings = load_settings()
    if settings.group != DEFAULT_GROUP:
        await add_if_unknown(settings, settings.group)
    children: list[asyncio.subprocess.Process] = []
    async with process.stop_signal(*process.hangup()) as stop:
        try:
            if qstash:
                port = os.environ["QSTASH_URL"].rpartition(":")[2]
                children.append(await _start("qstash", "--port", port, name="qstash"))
            children.append(await _start("receiver", name="receiver"))
            # The admin port is the receiver's. Each worker has one that is free.
            own = {} if settings.admin_port is None else {"HOOKMILL_ADMIN_PORT": "0"}
            children += [
                await _start("worker", handlers, name=f"worker-{number}", **own)
                for number in range(1, WORKERS + 1)
            ]
            if _has_console():
                # It gets no secrets, so a module that the workers import may fail there.
                words = ("console", handlers, "--link", "--anyway")
                children.append(
                    await _start(*words, name="console", hidden=environment.SENDERS_SECRETS)
                )
            show = asyncio.create_task(_show(settings, samples=samples, qstash=qstash))
            ended = asyncio.create_task(_first_to_end(children))
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                log.error("a program ended by itself, stopping the others", status=ended.result())
            has_failed = ended.done()
            await cancel_and_wait([show, ended, stopped])
        finally:
            await _stop(children)
    if has_failed:
        raise ProgramFailedError("a program ended by itself: see its lines above")


def _has_console() -> bool:
    """Return whether what the console needs is installed."""
    if all(find_spec(name) for name in ("jinja2", "aiohttp_sse")):
        return True
    log.info("there is no console", to_have_it="pip install hookmill[console]")
    return False


async def _start(
    *command: str, name: str, hidden: Collection[str] = (), **env: str
) -> asyncio.subprocess.Process:
    inherited = {key: value for key, value in os.environ.items() if key not in hidden}
    # In a session of its own Ctrl-C does not reach it, so that we can stop them in our order.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hookmill", *command, "--name", name),
        env={**inherited, **env}, start_new_session=True,
    )  # fmt: skip


async def _stop(children: list[asyncio.subprocess.Process]) -> None:
    for child in children:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
            await child.wait()


async def _first_to_end(children: list[asyncio.subprocess.Process]) -> int:
    """Return the exit status of the first child that ends."""
    waiting = [asyncio.create_task(child.wait()) for child in children]
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        await cancel_and_wait(waiting)


async def _show(settings: Settings, *, samples: bool, qstash: bool) -> None:
    """Wait until receiver and emulator are ready, send the samples if asked to, and say what to try
    next.
    """
    base = f"http://127.0.0.1:{settings.port}"
    waited_for = [f"{base}/readyz", *([f"{settings.qstash_url}/"] if qstash else [])]
    try:
        async with asyncio.timeout(START):
            for url in waited_for:
                while not await answers(url):  # noqa: ASYNC110 - it is another process
                    await asyncio.sleep(0.1)
        if samples:
            await _send_samples(settings, base)
    except (HookmillError, TimeoutError) as error:
        log.error("the samples could not be sent", error=str(error) or "not all is ready")
    log.info("running; Ctrl-C ends everything", try_this=f"hookmill send --url {base}/qstash")


async def _send_samples(settings: Settings, base: str) -> None:
    sources = {source.name: source for source in sources_of(settings)}
    for sample in SAMPLES:
        source = sources.get(sample.source)
        if source is None:
            continue
        log.info("sample", source=sample.source, says=sample.says)
        answer = await deliver(
            source.name,
            source.scheme,
            base + source.path,
            sample.body,
            message_id=sample.message_id,
            forged=sample.forged,
        )
        level = log.info if answer.status == sample.status else log.error
        level("answered", status=answer.status, expected=sample.status, text=answer.text)
        await asyncio.sleep(0.6)  # one after another, so that a person can follow
    if settings.qstash_url.startswith("http://127.0.0.1:"):
        await _publish_sample(base)
    await asyncio.sleep(1.5)


async def _publish_sample(base: str) -> None:
    """Publish an event of our own through the QStash emulator, with a callback about it."""
    log.info(
        "sample", says="your app publishes order.paid through QStash, to be delivered in a second"
    )
    event = OrderPaid(order_id="A-1002", amount=900)
    callback = f"{base}/qstash-callbacks"
    async with Sender() as sender:
        published = await sender.send(f"{base}/qstash", event, delay=1, callback=callback)
    log.info("published", id=published.message_id)
    await asyncio.sleep(1.5)
