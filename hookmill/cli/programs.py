"""`hookmill receiver`, `worker`, `console`, `dev` and `qstash`: run until stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hookmill.cli.options import Group, Name, Processes, Target
from hookmill.cli.output import say
from hookmill.cli.start import read_settings, supervise
from hookmill.errors import SettingsError


def receiver(*, processes: Processes = None, name: Name = None) -> None:
    """Receive: verify deliveries and append them to the stream."""
    from hookmill.runtime.loading import load_program

    settings = read_settings(name, processes=processes)
    supervise(settings, "receiver", name)
    load_program("receiver")(settings)


def worker(
    target: Target = None,
    *,
    group: Group = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Messages to handle at the same time.")
    ] = None,
    processes: Processes = None,
    name: Name = None,
) -> None:
    """Work: take messages from the stream and run their handlers."""
    from hookmill.runtime.loading import load_handlers, load_program

    settings = read_settings(
        name, group=group, concurrency=concurrency, processes=processes, handlers=target
    )
    settings.need_redis_url()
    if settings.handlers is None:
        raise SettingsError(
            ["no handlers: give MODULE:ATTRIBUTE, or set HOOKMILL_HANDLERS (app.main:handlers)"]
        )
    supervise(settings, "worker", name)
    program = load_program("worker")
    program(settings, load_handlers(settings.handlers))


def dev(
    target: Target = None,
    *,
    samples: Annotated[bool, typer.Option("--samples", help="Send signed samples.")] = False,
    on_redis_url: Annotated[
        bool,
        typer.Option(
            "--on-redis-url", help="Use the Redis of REDIS_URL, under a prefix of your own."
        ),
    ] = False,
) -> None:
    """Run everything on this machine: embedded server, QStash emulator, receiver, two workers,
    console.
    """
    from hookmill.dev import environment
    from hookmill.dev import main as development

    ignored = environment.set_defaults(on_redis_url=on_redis_url)
    settings = read_settings("dev", handlers=target)
    development.run(
        settings,
        settings.handlers or "hookmill.dev.samples:handlers",
        samples=samples,
        on_redis_url=on_redis_url,
        ignored=ignored,
    )


def console(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE:ATTRIBUTE",
            help="Handlers whose event classes bodies are shown against. They are imported.",
        ),
    ] = None,
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Log an address that logs one person in, once.")
    ] = False,
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway",
            help="Serve it also where the event classes cannot be imported: without them.",
        ),
    ] = False,
    name: Name = None,
) -> None:
    """Serve the console: web pages that show the running system and steer it."""
    from hookmill.console import main as program

    settings = read_settings(name, console_host=host, console_port=port)
    program.run(settings, link=link, target=target, anyway=anyway)


def qstash(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine.")] = 8081,
    time_scale: Annotated[
        float,
        typer.Option(min=0.0, max=1000.0, help="Multiplies delays and backoff; 0.01: faster."),
    ] = 1.0,
    data: Annotated[
        Path | None, typer.Option(help="Folder for the state, where REDIS_URL is not set.")
    ] = None,
    name: Name = None,
) -> None:
    """Emulate QStash: its API, on this machine. A tool for development."""
    from hookmill.emulator import main as emulator

    options = emulator.options_of(read_settings(name), port=port, scale=time_scale, data=data)
    emulator.run(options, show=say)
