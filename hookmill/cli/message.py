"""`hookmill message`: where a message is, and what became of each attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hookmill.cli.options import AsJSON
from hookmill.cli.output import say, say_error, say_json, say_value
from hookmill.cli.start import read_settings, run
from hookmill.printable import cell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hookmill.admin.stories import GroupStory, Match, Place, Search, Story, Tried
    from hookmill.config.settings import Settings


def message(
    id_: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A message ID, or the ID of an entry or of a dead letter: 1764500000000-0@3",
        ),
    ],
    *,
    source: Annotated[
        str | None, typer.Option(help="The source of the message; default: all that are known.")
    ] = None,
    group: Annotated[str | None, typer.Option("--group", help="Only this group.")] = None,
    as_json: AsJSON = False,
) -> None:
    """Tell a message's story: where it is in each group, and what became of each attempt.

    Several messages with one ID are listed. Give the entry ID of one of them to see its story.
    """
    run(show(read_settings(), id_, source, group, as_json=as_json))


async def show(
    settings: Settings, text: str, source: str | None, group: str | None, *, as_json: bool
) -> None:
    """Print the story of one message, or a line for each of several."""
    from hookmill.admin import messages

    async with messages.opened(settings, group) as opened:
        search = await opened.find(text, source)
        stories = [await opened.story(match) for match in search.matches]
    for note in search.notes:
        say_error(f"note: {note}")
    if as_json:
        for story in stories:
            say_json(story)
    elif len(stories) == 1:
        show_story(stories[0])
    else:
        for line in listed(search):
            say(line)


def listed(search: Search) -> Iterator[str]:
    """Lay out several matches, a line each."""
    yield f"{len(search.matches)} messages have this ID; give the first word of a line:"
    for match in search.matches:
        yield _line_of(match)


def _line_of(match: Match) -> str:
    facts = (match.received_at, match.source, match.type, match.message_id)
    return "  ".join([match.entry, *map(cell, facts)])


def show_story(story: Story) -> None:
    """Print a message's story."""
    say_value("message", story.message_id or "-")
    say_value("entry", story.entry)
    say_value("source", story.source or "-")
    say_value("type", story.type or "-")
    if story.key:
        say_value("ordering key", story.key)
    say_value("received", story.received_at or "-")
    if story.body_bytes is not None:
        say_value("body", f"{story.body_bytes:,} bytes")
    if story.headers:
        say_value("headers", story.headers.replace("\r\n", "\n") + "\n")
    for note in story.notes:
        say_value("note", note)
    if not story.groups:
        say("no group has been made yet")
    for group in story.groups:
        _show_group(group)


def _show_group(group: GroupStory) -> None:
    say("")
    say(f"group {cell(group.group)}")
    for place in group.places:
        say(f"  {_place(place)}")
    for number, tried in enumerate(group.attempts, 1):
        say(f"  {number}. {_tried(tried)}")
        if tried.error:
            say_value("     error", tried.error.rstrip("\n") + "\n")
    if group.duplicates:
        say(f"  duplicates dropped: {', '.join(map(cell, group.duplicates))}")
    for note in group.notes:
        say(f"  note: {note}")


def _place(place: Place) -> str:
    """Say in one line where a message is."""
    words: list[str] = [place.state]
    if place.handler:
        words.append(f"for {cell(place.handler)}")
    if place.state == "held":
        words.append(f"by {cell(place.worker)}, since {place.since} at the earliest")
    elif place.state == "delayed":
        words.append(f"until {place.until}, after {place.attempts} attempts")
    elif place.state == "parked":
        behind = place.behind + (f" ({cell(place.behind_id)})" if place.behind_id else "")
        words.append(f"behind {behind or 'nobody'}, {place.position} before it in the line")
    elif place.state == "duplicate":
        words.append(f"of {place.behind}")
    elif place.state == "dead":
        words.append(f"as {place.entry} since {place.since}")
    elif place.since:
        words.append(f"at {place.since}" if place.worker else f"since {place.since}")
    if place.reason:
        words.append(f"({cell(place.reason)})")
    return " ".join(words)


def _tried(tried: Tried) -> str:
    """Say in one line what became of an attempt."""
    facts = [tried.began_at or tried.settled_at or "-", tried.outcome.replace("_", " ")]
    if tried.handler:
        facts.append(f"{cell(tried.handler)} (attempt {tried.attempt})")
    if tried.worker:
        facts.append(f"{tried.seconds * 1000:,.1f} ms on {cell(tried.worker)}")
    if tried.reason:
        facts.append(cell(tried.reason))
    if tried.next_at:
        facts.append(f"next attempt {tried.next_at}")
    if tried.dead_letter:
        facts.append(f"dead letter {tried.dead_letter}")
    if tried.is_late:
        facts.append("too late, it counted for nothing")
    elif tried.may_be_late:
        facts.append("may have come too late")
    return "  ".join(facts)
