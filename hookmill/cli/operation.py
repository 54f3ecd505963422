"""`hookmill status` and `hookmill check`: what operators ask about the running system."""

from __future__ import annotations

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from hookmill.cli.options import AsJSON, Group
from hookmill.cli.output import console, say, say_error, say_json
from hookmill.cli.pauses import line_of
from hookmill.cli.start import read_settings, run
from hookmill.errors import SettingsError, StreamUnavailableError
from hookmill.printable import cell, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hookmill.admin.findings import Finding
    from hookmill.config.settings import Settings
    from hookmill.stream.facts import GroupFacts, Overview

_COLUMNS = (
    *("group", "waiting", "held", "delayed", "again", "parked", "paused", "dead", "oldest"),
    *("IDs", "duplicates", "workers"),
)

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def status(
    *,
    watch: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="Show it again, every so many seconds."),
    ] = None,
    group: Annotated[str | None, typer.Option("--group", help="Only this group.")] = None,
    as_json: AsJSON = False,
) -> None:
    """Show how much of each group's work is in which state. It changes nothing.

    Exit 1 where a part of a Redis Cluster cannot be asked; what the others have is shown.
    """
    settings = read_settings()
    with suppress(KeyboardInterrupt):
        run(
            show_once(settings, group, as_json=as_json)
            if watch is None
            else show_again_and_again(settings, watch, group, as_json=as_json)
        )


def check(
    *,
    rate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[SOURCE=]MESSAGES_PER_SECOND",
            help="Also judge the memory for this rate: of all sources, or of one. Repeatable.",
        ),
    ] = None,
    group: Group = None,
    as_json: AsJSON = False,
) -> None:
    """Judge the server and the settings. Exit 0: fine, 1: warnings, 2: messages would be lost, or
    none would get through.
    """
    from hookmill.admin import checkup
    from hookmill.admin.findings import exit_status
    from hookmill.admin.id_rates import given_rates

    try:
        settings = read_settings(group=group)
    except SettingsError as error:
        findings = checkup.findings_of(error)
    else:
        try:
            rates = given_rates(rate or (), settings)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--rate") from None
        findings = run(checkup.check(settings, rates))
    show_findings(findings, as_json=as_json)
    raise typer.Exit(exit_status(findings))


async def show_once(settings: Settings, group: str | None = None, *, as_json: bool) -> None:
    """Print the state of the stream and its groups, or of one group, once."""
    from hookmill.admin.status import look, only

    seen = await look(settings)
    _show(seen if group is None else only(seen, group), settings.lease, as_json=as_json)
    if seen.unseen:
        raise typer.Exit(1)


async def show_again_and_again(
    settings: Settings, every: float, group: str | None = None, *, as_json: bool
) -> None:
    """Print the same every so many seconds. On a terminal, each replaces the one before."""
    from hookmill.admin import status as looks

    screen = console()
    async with aclosing(looks.watch(settings, every)) as watching:
        async for seen in watching:
            if isinstance(seen, StreamUnavailableError):
                say_error(str(seen))
                continue
            if screen.is_terminal and not as_json:
                screen.clear()
            _show(
                seen if group is None else looks.only(seen, group), settings.lease, as_json=as_json
            )


def _show(overview: Overview, lease: float, *, as_json: bool) -> None:
    from hookmill.admin.status import describe

    if as_json:
        say_json(describe(overview, lease))
        return
    for line in table(overview, lease):
        say(line)


def table(overview: Overview, lease: float) -> list[str]:
    """Lay an overview out for people. `lease` (seconds) decides which workers of an older release
    still count.
    """
    from hookmill.admin.pauses import words_of_heedless
    from hookmill.admin.status import dead_reasons
    from hookmill.admin.units import size
    from hookmill.admin.worker_checks import sick_workers

    total = "size unknown" if overview.bytes is None else size(overview.bytes)
    limit = f" of {size(overview.maxmemory)}" if overview.maxmemory else ""
    used = f"Redis uses {size(overview.used_memory)}{limit}"
    split = f" in {overview.partitions} partitions" if overview.partitions > 1 else ""
    lines = [f"stream: {overview.length:,} entries{split}, {total}; {used}"]
    lines += [f"{printable(why)}; it is missing below" for why in overview.unseen.values()]
    if not overview.groups:
        return [*lines, "there is no group"]
    columns = [*_COLUMNS]
    if not any(group.paused for group in overview.groups):
        columns.remove("paused")  # it is seldom, and the table is wide
    by_name = [_row(overview, group, lease) for group in overview.groups]
    rows = [columns, *([row[name] for name in columns] for row in by_name)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    for row in rows:
        name, *cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([row[0].ljust(len(name)), *cells]))
    for group in overview.groups:
        name = cell(group.name)
        if not group.workers(lease):
            lines.append(f"{name}: no worker of this group runs")
        if reasons := ", ".join(f"{cell(why)} {n:,}" for why, n in dead_reasons(group)):
            lines.append(f"{name}: dead by reason: {reasons}")
        lines += [f"{name}: {line_of(one)}" for one in group.pauses]
        lines += [f"{name}: {words_of_heedless(cell(one))}" for one in group.heedless(lease)]
        lines += [f"{name}: {line}" for line in _workers(group, lease)]
        lines += [
            f"{name}: {cell(one.name)} is sick: {cell(one.what)}. {one.do[0].upper()}{one.do[1:]}"
            for one in sick_workers(group, lease)
        ]
    return lines


def _workers(group: GroupFacts, lease: float) -> Iterator[str]:
    """Describe each worker: first those with a heartbeat, then the others."""
    from hookmill.admin.units import age

    pending = {one.name: one.pending for one in group.consumers}
    for one in group.heartbeats:
        oldest = f", the oldest for {age(one.oldest_held)}" if one.oldest_held is not None else ""
        yield (
            f"{cell(one.name)} holds {pending.get(one.name, one.held)}{oldest}; "
            f"{one.free_slots} of {one.concurrency} slots and {one.free_threads} of {one.threads} "
            f"threads free; release {cell(one.version or 'unknown')} on "
            f"{cell(one.host or 'unknown')}, "
            f"up for {age(one.uptime)}, heartbeat {age(one.age_ms / 1000)} ago"
        )
    blocked = group.blocked(lease)
    for other in group.without_heartbeat:
        if other.lease_number is None:
            state = "of an older release"
        elif other in blocked:
            state = "no heartbeat, its event loop is blocked"
        else:
            state = "no heartbeat"
        seen = f"seen {other.idle_ms / 1000:.0f} s ago"
        yield f"{cell(other.name)} holds {other.pending}, {state}, {seen}"


def _row(overview: Overview, group: GroupFacts, lease: float) -> dict[str, str]:
    """Return the cells of a group by the names of their columns."""
    from hookmill.admin.status import oldest_age
    from hookmill.admin.units import age

    oldest = oldest_age(overview, group)
    states = ("held", "delayed", "again", "parked", "paused", "dead")
    return {
        "group": cell(group.name),
        "waiting": "unknown" if group.waiting is None else f"{group.waiting:,}",
        **{state: f"{getattr(group, state):,}" for state in states},
        "oldest": "-" if oldest is None else age(oldest),
        "IDs": f"{group.remembered:,}",
        "duplicates": f"{group.duplicates:,}",
        "workers": str(group.workers(lease)),
    }


def show_findings(findings: list[Finding], *, as_json: bool) -> None:
    """Print findings, or that there are none."""
    if as_json:
        for finding in findings:
            say_json(finding)
        return
    from rich.text import Text

    screen = console()
    for finding in findings:
        what, why, do = (printable(text) for text in (finding.what, finding.why, finding.do))
        head = Text(f"{finding.level}: ", _COLOURS[finding.level]) + Text(what)
        screen.print(head, soft_wrap=True)
        screen.print(Text(f"  {why}\n  {do}"), soft_wrap=True)
    if not findings:
        say("nothing found")
