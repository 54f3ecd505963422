"""`hookmill pause` and `hookmill resume`: stop a part of the work for a while, then go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hookmill.cli.options import AsJSON, Group, Who, Why
from hookmill.cli.output import console, say, say_error, say_json
from hookmill.cli.start import operator_of, read_settings, run
from hookmill.printable import cell, printable

if TYPE_CHECKING:
    from hookmill.admin.audit import Operator
    from hookmill.config.settings import Settings
    from hookmill.stream.facts import Pause

_Handler = Annotated[
    str | None, typer.Option("--handler", metavar="NAME", help="A handler; earlier names count.")
]
_Source = Annotated[
    str | None, typer.Option("--source", metavar="NAME", help="All messages of a source.")
]
_Key = Annotated[
    tuple[str, str] | None,
    typer.Option("--key", metavar="SOURCE KEY", help="The messages with this ordering key."),
]
_All = Annotated[bool, typer.Option("--all", help="All that the group has.")]


def pause(  # noqa: PLR0913 - an option each
    *,
    handler: _Handler = None,
    source: _Source = None,
    key: _Key = None,
    everything: _All = False,
    until: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="It ends by itself then: 2026-11-21T09:30 (UTC), or 10m for in 10 minutes.",
        ),
    ] = "",
    shows_list: Annotated[bool, typer.Option("--list", help="Show what is paused.")] = False,
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway", help="Also where no worker knows the name, or one does not heed pauses."
        ),
    ] = False,
    group: Group = None,
    who: Who = None,
    why: Why = "",
    as_json: AsJSON = False,
) -> None:
    """Pause a handler, a source, an ordering key, or all that a group has.

    Within a second no worker begins such a message any more. What runs already runs on. Nothing is
    skipped, no attempt is counted, and the order of a key is kept. `hookmill resume` goes on.
    """
    settings = read_settings(group=group, operator=who)
    if shows_list:
        run(show_list(settings, as_json=as_json))
        return
    target = _target(handler, source, key, everything=everything)
    operator = operator_of(settings, why)
    run(_pause(settings, target, operator, until, anyway=anyway, as_json=as_json))


def resume(
    *,
    handler: _Handler = None,
    source: _Source = None,
    key: _Key = None,
    everything: Annotated[
        bool, typer.Option("--all", help="What `pause --all` has paused; other pauses stay.")
    ] = False,
    group: Group = None,
    who: Who = None,
    why: Why = "",
) -> None:
    """Go on with what was paused: what was held back is taken again, in its order.

    If it breaks off, a worker puts the rest back.
    """
    settings = read_settings(group=group, operator=who)
    target = _target(handler, source, key, everything=everything)
    run(_resume(settings, target, operator_of(settings, why)))


def _target(
    handler: str | None, source: str | None, key: tuple[str, str] | None, *, everything: bool
) -> Pause:
    from hookmill.admin import pauses

    given = [handler is not None, source is not None, key is not None, everything]
    if given.count(True) != 1:
        raise typer.BadParameter("give one of --handler, --source, --key and --all")
    if handler is not None:
        return pauses.of_handler(handler)
    if source is not None:
        return pauses.of_source(source)
    return pauses.everything() if key is None else pauses.of_key(*key)


async def _pause(
    settings: Settings,
    target: Pause,
    operator: Operator,
    until: str,
    *,
    anyway: bool,
    as_json: bool,
) -> None:
    from hookmill.admin import pauses

    noted = await pauses.pause(settings, target, operator, until=until, anyway=anyway)
    if as_json:
        say_json(pauses.describe(noted))
        return
    ends = pauses.describe(noted)["until"]
    say(
        f"paused {cell(pauses.words_of(noted))} of group {cell(settings.group)}"
        + (f", until {ends}" if ends else "")
    )


async def _resume(settings: Settings, target: Pause, operator: Operator) -> None:
    """End a pause, and show how far it is with what was held back."""
    from rich.progress import Progress

    from hookmill.admin import pauses

    screen, moved = console(stderr=True), 0
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("put back", total=None)
        async for step in pauses.resume(settings, target, operator):
            moved += step.moved
            bar.update(task, completed=moved, total=moved + step.left)
    say(
        f"resumed {cell(pauses.words_of(target))} of group {cell(settings.group)}: put back {moved}"
    )


async def show_list(settings: Settings, *, as_json: bool) -> None:
    """Print what is paused, a line each."""
    from hookmill.admin import pauses

    found = await pauses.listed(settings)
    for one in found.pauses:
        if as_json:
            say_json(pauses.describe(one) | {"heedless": found.heedless})
        else:
            say(line_of(one))
    if not found.pauses and not as_json:
        say("nothing is paused")
    for name in found.heedless:
        say_error(pauses.words_of_heedless(cell(name)))


def line_of(pause: Pause) -> str:
    """Say in a line what is paused, since when, by whom and why, and what it holds back."""
    from hookmill.admin.pauses import describe, words_of

    seen = describe(pause)
    parts = [
        cell(words_of(pause)),
        "is being resumed" if pause.is_ending else f"paused since {seen['since'] or 'unknown'}",
        *([f"until {seen['until']}"] if seen["until"] else []),
        f"by {cell(pause.who)}",
        f"holds back {pause.held_back:,}",
        *([f"why: {printable(pause.why)}"] if pause.why else []),
    ]
    return "  ".join(parts)
