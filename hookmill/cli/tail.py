"""`hookmill tail`: show what comes in and what is refused, as it happens."""

from __future__ import annotations

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hookmill.cli.options import AsJSON
from hookmill.cli.output import say, say_error, say_json, say_value
from hookmill.cli.selecting import Where, conditions, moment
from hookmill.cli.start import read_settings, run
from hookmill.printable import cell

if TYPE_CHECKING:
    from hookmill.admin.tailing import TailEvent, Wanted
    from hookmill.config.settings import Settings

Source = Annotated[str | None, typer.Option(help="Only this source; * stands for any text.")]
EventType = Annotated[
    str | None, typer.Option("--type", help="Only this event type; * stands for any text: post.*")
]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Begin there, as far as Redis still has it: 2026-11-21T09:30 (UTC), or 10m ago.",
    ),
]


def tail(  # noqa: PLR0913 - an option each
    *,
    source: Source = None,
    event_type: EventType = None,
    where: Where = None,
    refused: Annotated[
        bool, typer.Option("--refused", help="Only refused deliveries that were kept.")
    ] = False,
    arrived: Annotated[bool, typer.Option("--arrived", help="Only what came in.")] = False,
    since: Since = None,
    cursor: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="CURSOR", help="Go on behind a cursor, the last column of a line."
        ),
    ] = None,
    body: Annotated[bool, typer.Option("--body", help="Show headers and body as well.")] = False,
    no_follow: Annotated[
        bool, typer.Option("--no-follow", help="End where there is no more now.")
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """Show what comes in, and what is refused, until Ctrl-C. It changes nothing.

    In each line: when it came, "in" or "refused", source, event type and message ID (or status,
    code and the reason), and the cursor. Of refused deliveries it shows those that receivers keep
    (HOOKMILL_KEEP_REFUSED): not every one. What is handled and dropped from Redis before it can be
    shown is counted; HOOKMILL_RETENTION keeps it for longer.
    """
    # Long because: each option of the command is a parameter with its help.
    from hookmill.admin.tailing import Wanted

    if cursor is not None and since is not None:
        raise typer.BadParameter("give --since or --from")
    wanted = Wanted(source=source, type=event_type, where=conditions(where))
    if refused or arrived:
        chosen = {"refused": refused, "arrived": arrived}
        kinds = frozenset(name for name, is_chosen in chosen.items() if is_chosen)
        wanted = Wanted(kinds=kinds, source=source, type=event_type, where=wanted.where)  # type: ignore[arg-type]  # both names are kinds
    begin = moment("--since", since)
    settings = read_settings()
    with suppress(KeyboardInterrupt):
        run(show(settings, wanted, begin, cursor, body=body, ends=no_follow, as_json=as_json))


async def show(
    settings: Settings,
    wanted: Wanted,
    since_ms: int | None = None,
    cursor: str | None = None,
    *,
    body: bool = False,
    ends: bool = False,
    as_json: bool = False,
) -> None:
    """Print an event a line."""
    from hookmill.admin.tailing import Tail, follow
    from hookmill.errors import StreamUnavailableError
    from hookmill.stream.client import Client

    async with await Client.as_found(settings.need_redis_url(), settings.prefix) as client:
        tailing = Tail(client, settings, wanted, with_bodies=body)
        await tailing.start(since_ms, cursor)
        is_end = False
        while ends and not is_end:
            events, is_end = await tailing.look()
            for event in events:
                say_event(event, as_json=as_json)
        if ends:
            return
        async with aclosing(follow(tailing)) as following:
            async for one in following:
                if isinstance(one, StreamUnavailableError):
                    say_error(f"{one}; it goes on at the same place when Redis is back")
                else:
                    say_event(one, as_json=as_json)


def say_event(event: TailEvent, *, as_json: bool) -> None:
    """Print one event."""
    facts = event.facts
    if as_json:
        say_json({"kind": event.kind, **facts, "cursor": event.cursor})
        return
    say(_line(event))
    for name in ("headers", "body"):
        if facts.get(name):
            say_value(name, facts[name].replace("\r\n", "\n"))


def _line(event: TailEvent) -> str:
    facts: dict[str, Any] = event.facts
    if event.kind == "missed":
        return (
            f"{facts['messages']} more came in and were dropped from Redis before they could be "
            "shown: HOOKMILL_RETENTION keeps messages for longer"
        )
    if event.kind == "refused":
        hints = facts["would_match_if"]
        why = f"it would match if {hints[0]}" if hints else facts["cause"] or facts["detail"]
        said = ["refused", facts["source"], f"{facts['status']} {facts['code']}", why]
    else:
        said = ["in", facts["source"], facts["type"], facts["message_id"]]
    return "  ".join([facts["at"] or "-", *map(cell, said), event.cursor])
