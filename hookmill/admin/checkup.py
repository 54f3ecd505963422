"""The `hookmill check` and `hookmill status` commands: print what was found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from hookmill.admin.findings import Finding, exit_status
from hookmill.admin.server_checks import (
    judge_groups,
    judge_memory,
    judge_server,
    judge_settings,
    readable_size,
)
from hookmill.admin.source_checks import SourceFacts, judge_sources
from hookmill.config.settings import Settings
from hookmill.config.source_options import preset_of, spec_of
from hookmill.config.sources import names_of, secrets_of
from hookmill.errors import HookmillError, SettingsError, StreamUnavailableError
from hookmill.signatures import Secret
from hookmill.signatures.spec_verifier import SpecVerifier
from hookmill.stream.client import Client
from hookmill.stream.facts import GroupFacts, Overview
from hookmill.stream.inspector import Inspector

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


@asynccontextmanager
async def inspecting(settings: Settings) -> AsyncIterator[Inspector]:
    """Open what looks at the settings' server."""
    async with await Client.as_found(settings.need_redis_url(), settings.prefix) as client:
        yield Inspector(client)


async def check(settings: Settings, *, rate: float | None = None, as_json: bool = False) -> int:
    """Print what is to be said against the server and the settings; return the exit status."""
    return report(await find(settings, rate), as_json=as_json)


def report(findings: list[Finding], *, as_json: bool = False) -> int:
    """Print findings; return the exit status."""
    for finding in findings:
        if as_json:
            _console().out(msgspec.json.encode(finding).decode())
        else:
            _print(finding)
    if not findings and not as_json:
        _console().print("nothing found")
    return exit_status(findings)


def findings_of(error: SettingsError) -> list[Finding]:
    """Return settings that cannot be read as findings."""
    return [
        Finding(
            level="error",
            what=fault,
            why="neither a receiver nor a worker starts with it",
            do="mend it, then check again: nothing else was judged",
        )
        for fault in error.faults
    ]


def facts_of(settings: Settings) -> list[SourceFacts]:
    """Gather what is to be known of the sources; their secrets are read."""
    return [_facts_of(name, settings) for name in names_of(settings)]


def _facts_of(name: str, settings: Settings) -> SourceFacts:
    options, path = settings.options_of(name), settings.path_of(name)
    spec = spec_of(name, options)
    secrets: tuple[Secret, ...] = ()
    faults: list[str] = []
    try:
        secrets = tuple(secrets_of(name, settings))
        if spec is not None:
            SpecVerifier(spec, secrets)
    except HookmillError as error:
        faults += [
            fault if fault.startswith("sources.") else f"sources.{name}: {fault}"
            for fault in str(error).splitlines()
        ]
    if spec is not None and spec.needs_url and not (options.url or settings.public_url):
        faults.append(
            f"sources.{name}: it signs its URL: set HOOKMILL_PUBLIC_URL, or url in its table"
        )
    return SourceFacts(
        name, preset_of(name, options), path, spec, options.id, secrets, tuple(faults)
    )


async def find(settings: Settings, rate: float | None) -> list[Finding]:
    """Look and judge; the worst comes first."""
    findings = list(judge_settings(settings))
    findings += judge_sources(facts_of(settings), time.time(), development=settings.development)
    try:
        async with inspecting(settings) as inspector:
            server, overview = await inspector.server(), await inspector.overview()
    except StreamUnavailableError as error:
        findings.append(
            Finding(
                level="error",
                what=f"Redis cannot be used: {error}",
                why="receivers answer 503, workers wait",
                do="see that it runs, that REDIS_URL names it, and that the user may use it",
            )
        )
    else:
        findings += judge_server(server, settings)
        findings += judge_memory(server, overview, settings, rate)
        findings += judge_groups(overview, settings)
    return sorted(findings, key=lambda finding: list(_COLOURS).index(finding.level))


async def status(settings: Settings, *, every: float | None = None, as_json: bool = False) -> None:
    """Print how much of each group's work is in which state; again every so many seconds."""
    async with inspecting(settings) as inspector:
        while True:
            try:
                overview = await inspector.overview()
            except StreamUnavailableError as error:
                if every is None:
                    raise
                # Whoever watches wants to see it come back.
                Console(stderr=True, markup=False).print(f"hookmill: {error}")
            else:
                _show(overview, settings, as_json=as_json, again=every is not None)
            if every is None:
                return
            await asyncio.sleep(every)


def describe(overview: Overview, lease: float) -> dict[str, Any]:
    """Return an overview as JSON-ready values, with ages instead of times."""
    seen: dict[str, Any] = {
        "stream": {
            "partitions": overview.partitions,
            "length": overview.length,
            "bytes": overview.bytes,
        },
        "used_memory": overview.used_memory,
        "maxmemory": overview.maxmemory or None,
        "groups": [],
    }
    for group in overview.groups:
        row = msgspec.to_builtins(group) | {"consumers": msgspec.to_builtins([*group.consumers])}
        oldest = row.pop("oldest_ms")
        row["oldest_age"] = None if oldest is None else max(0, overview.now_ms - oldest) / 1000
        row["workers"] = group.workers(lease)
        seen["groups"].append(row)
    return seen


def table(overview: Overview, lease: float) -> list[str]:
    """Lay an overview out for reading."""
    size = "size unknown" if overview.bytes is None else readable_size(overview.bytes)
    limit = f" of {readable_size(overview.maxmemory)}" if overview.maxmemory else ""
    used = f"Redis uses {readable_size(overview.used_memory)}{limit}"
    split = f" in {overview.partitions} partitions" if overview.partitions > 1 else ""
    lines = [f"stream: {overview.length:,} entries{split}, {size}; {used}"]
    if not overview.groups:
        return [*lines, "no group: no worker has run yet"]
    head = [
        *("group", "waiting", "held", "delayed", "again", "parked", "dead", "oldest"),
        *("IDs", "duplicates", "workers"),
    ]
    rows = [head, *(_row(group, overview.now_ms, lease) for group in overview.groups)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        name, *cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([row[0].ljust(len(name)), *cells]))
    for group in overview.groups:
        if not group.workers(lease):
            lines.append(f"nobody runs group {group.name}")
        lines += [
            f"{group.name}: {one.name} holds {one.pending}, heard of {one.idle_ms / 1000:.0f} s ago"
            for one in group.consumers
        ]
    return lines


def _row(group: GroupFacts, now_ms: int, lease: float) -> list[str]:
    oldest = "-" if group.oldest_ms is None else _age(max(0, now_ms - group.oldest_ms) / 1000)
    return [
        group.name,
        "unknown" if group.waiting is None else f"{group.waiting:,}",
        *(f"{n:,}" for n in (group.held, group.delayed, group.again, group.parked, group.dead)),
        oldest,
        f"{group.remembered:,}",
        f"{group.duplicates:,}",
        str(group.workers(lease)),
    ]


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _show(overview: Overview, settings: Settings, *, as_json: bool, again: bool) -> None:
    console = _console()
    if as_json:
        console.out(msgspec.json.encode(describe(overview, settings.lease)).decode())
        return
    if again and console.is_terminal:
        console.clear()
    for line in table(overview, settings.lease):
        console.out(line)


def _print(finding: Finding) -> None:
    console = _console()
    head = Text(f"{finding.level}: ", style=_COLOURS[finding.level]) + Text(finding.what)
    console.print(head, soft_wrap=True)
    console.print(Text(f"  {finding.why}\n  {finding.do}"), soft_wrap=True)


def _console() -> Console:
    return Console(markup=False, emoji=False, highlight=False)
