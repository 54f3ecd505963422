"""`hookmill tail`: show what comes in, what is refused and what is handled, as it happens."""

from __future__ import annotations

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hookmill.cli.options import AsJSON, Group
from hookmill.cli.output import say, say_error, say_json, say_value
from hookmill.cli.selecting import Source, Type, Where, conditions, moment
from hookmill.cli.start import read_settings, run
from hookmill.printable import cell

if TYPE_CHECKING:
    from hookmill.admin.tailing import TailEvent, Wanted
    from hookmill.config.settings import Settings

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
    event_type: Type = None,
    where: Where = None,
    refused: Annotated[
        bool, typer.Option("--refused", help="Only refused deliveries that were kept.")
    ] = False,
    arrived: Annotated[bool, typer.Option("--arrived", help="Only what came in.")] = False,
    handled: Annotated[
        bool, typer.Option("--handled", help="Only what became of messages.")
    ] = False,
    handler: Annotated[
        str | None, typer.Option(help="Only what became of messages with this handler.")
    ] = None,
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
    group: Group = None,
    as_json: AsJSON = False,
) -> None:
    """Show what comes in, what is refused and what is handled, until Ctrl-C. It changes nothing.

    In each line: when, "in", "refused" or the outcome, source, event type and message ID (or
    status, code and the reason), and the cursor. Outcomes are those of messages that came in since
    it began, where the group keeps a history (HOOKMILL_HISTORY). Of refused deliveries it shows
    those that receivers keep (HOOKMILL_KEEP_REFUSED): not every one. What is handled and dropped
    from Redis before it can be shown is counted; HOOKMILL_RETENTION keeps it for longer.
    """
    # Long because: each option of the command is a parameter with its help.
    import msgspec

    from hookmill.admin.tailing import Wanted

    if cursor is not None and since is not None:
        raise typer.BadParameter("give --since or --from")
    chosen = {"refused": refused, "arrived": arrived, "handled": handled}
    kinds = frozenset(name for name, is_chosen in chosen.items() if is_chosen)
    wanted = Wanted(source=source, type=event_type, handler=handler, where=conditions(where))
    if kinds:
        wanted = msgspec.structs.replace(wanted, kinds=kinds)
    begin = moment("--since", since)
    settings = read_settings(group=group)
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
    from hookmill.admin.opening import open_stream
    from hookmill.admin.tailing import Tail, follow
    from hookmill.errors import StreamUnavailableError

    async with await open_stream(settings) as client:
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
    elif event.kind == "handled":
        names = [facts[name] for name in ("source", "type", "message_id")]
        took = f"{facts['handler'] or '-'} {facts['seconds'] * 1000:.0f} ms"
        late = ["too late"] if facts["is_late"] else []
        reason = [facts["reason"]] if facts["reason"] else []
        said = [facts["outcome"], *names, took, *late, *reason]
    else:
        said = ["in", facts["source"], facts["type"], facts["message_id"]]
    return "  ".join([facts["at"] or "-", *map(cell, said), event.cursor])
