"""Judges the settings, as far as that is possible without Redis and without the sources' secrets.

No I/O, except that it reads the names of the environment's variables.
"""

from __future__ import annotations

from collections.abc import Iterator

from hookmill.admin.findings import Finding
from hookmill.admin.units import span
from hookmill.config.hosts import is_loopback
from hookmill.config.settings import Settings, unknown_variables
from hookmill.config.source_options import QSTASH, preset_of
from hookmill.config.sources import names_of
from hookmill.errors import see
from hookmill.runtime.open_files import FEW, allowed_connections

LEAST_WINDOW = 24 * 3600
"""The shortest time (seconds) over which senders send a delivery again."""


def judge_partitions(agreed: int | None, settings: Settings) -> Iterator[Finding]:
    """Judge the number of partitions; `agreed` is that of the stream, None if nobody made it."""
    if agreed is not None and agreed != settings.partitions:
        yield Finding(
            level="error",
            what=f"HOOKMILL_PARTITIONS is {settings.partitions}, but this stream was made with "
            f"{agreed}",
            why="neither a receiver nor a worker starts with it",
            do=f"set it to {agreed}, for receivers and workers alike; to change the number, "
            f"{see('how-to/scale.md')}",
        )


def judge_open_files(files: int, settings: Settings) -> Iterator[Finding]:
    """Judge the limit of open files; `files` is as far as this process may raise it."""
    allowed = allowed_connections(settings.connections, files)
    if allowed < (settings.connections or FEW):
        yield Finding(
            level="warning",
            what=f"a process may have {files:,} open files here, so a receiver keeps "
            f"{allowed:,} connections at most",
            why="strangers can hold so many connections easily; a new delivery then costs the "
            "connection of another sender",
            do="raise the hard limit of open files of the receivers: LimitNOFILE in systemd, "
            "ulimits in Docker; or set HOOKMILL_CONNECTIONS to fewer",
        )


def judge_settings(settings: Settings) -> Iterator[Finding]:
    """Judge the settings."""
    by_token = (preset_of(name, settings.options_of(name)) in QSTASH for name in names_of(settings))
    if settings.public_url is None and any(by_token):
        yield Finding(
            level="warning",
            what="HOOKMILL_PUBLIC_URL is not set",
            why="a QStash token that was made for another of your URLs would be accepted here",
            do="set it to the base URL that senders were given, such as https://app.example",
        )
    if settings.dedup_window < LEAST_WINDOW:
        yield Finding(
            level="warning",
            what=f"a message ID is remembered for {span(settings.dedup_window)} only",
            why="senders send a delivery again for days: a later duplicate would run once more",
            do="set HOOKMILL_DEDUP_WINDOW to 259200 (72 h), unless your senders give up earlier",
        )
    yield from _judge_admin_address(settings)
    if settings.queue_bytes < 2 * settings.body_limit:
        yield Finding(
            level="note",
            what="HOOKMILL_QUEUE_BYTES is less than twice HOOKMILL_BODY_LIMIT",
            why="one body that arrives slowly can leave no room for the bodies of other sources",
            do="set HOOKMILL_QUEUE_BYTES to six times HOOKMILL_BODY_LIMIT, as it is by default",
        )
    for name in unknown_variables():
        yield Finding(
            level="warning",
            what=f"{name} is set, and nothing reads it",
            why="it may be misspelt: the setting that it should change keeps its default",
            do="correct its name or unset it; " + see("reference/settings.md"),
        )


def _judge_admin_address(settings: Settings) -> Iterator[Finding]:
    """Judge where health and metrics are answered."""
    port, host = settings.admin_port, settings.admin_host
    if port is None and "admin_host" in settings.model_fields_set:
        yield Finding(
            level="warning",
            what="HOOKMILL_ADMIN_HOST is set, HOOKMILL_ADMIN_PORT is not",
            why="nothing answers there: no health of workers, no metrics",
            do="set HOOKMILL_ADMIN_PORT, such as 9000, or unset the host",
        )
    elif port and port == settings.port:
        yield Finding(
            level="error",
            what=f"HOOKMILL_ADMIN_PORT is {port}, and so is PORT",
            why="a receiver does not start with it: senders must not reach the admin address",
            do="give it another port, such as 9000",
        )
    elif port is not None and not is_loopback(host):
        yield Finding(
            level="note",
            what=f"health and metrics are answered at {host}, port {port}, without a password",
            why="whoever reaches this address reads the names of sources and groups, and numbers",
            do="let only your own network reach it; the load balancer must not pass it on",
        )
