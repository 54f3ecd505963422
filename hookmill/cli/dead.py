"""`hookmill dead`: list, show, replay and drop dead letters."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hookmill.cli.commands import Commands
from hookmill.cli.dead_groups import dead_groups
from hookmill.cli.letters import summary
from hookmill.cli.options import AsJSON, Group, Who, Why, Yes
from hookmill.cli.output import end_if_incomplete, is_confirmed, say, say_json, say_value
from hookmill.cli.progress import bar
from hookmill.cli.selecting import dead_letter_selection, with_options
from hookmill.cli.start import operator_of, read_settings, run

if TYPE_CHECKING:
    from hookmill.admin.audit import Act
    from hookmill.admin.dead_letters import SelectedDeadLetters, Tally
    from hookmill.admin.filters import Selection
    from hookmill.config.settings import Settings

app = Commands(
    help="Dead letters: list, group by error, show, replay, drop.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("groups")(dead_groups)

_SomeIDs = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="IDs, as `dead list` shows them.")
]
_All = Annotated[bool, typer.Option("--all", help="All dead letters that are there now.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many it would be.")]


@with_options(filtered=dead_letter_selection)
def _selected(ids: _SomeIDs = None, *, everything: _All = False, filtered: Selection) -> Selection:
    """Require exactly one of IDs, filters and --all, so that a slip replays or drops nothing."""
    from hookmill.admin.filters import Selection

    ways = [bool(ids), everything, not filtered.filter.is_everything]
    if ways.count(True) != 1 or (ids and filtered.limit):
        raise typer.BadParameter("give IDs, or filters, or --all")
    return Selection(ids=tuple(ids)) if ids else filtered


@app.command("list")
@with_options(selection=dead_letter_selection)
def dead_list(
    *,
    selection: Selection,
    group: Group = None,
    as_json: AsJSON = False,
) -> None:
    """List dead letters, oldest first; with --newest, newest first.

    In each line: ID, first failure, last failure, source, event type, message ID, handler,
    attempts, reason and the last line of the error.
    """
    run(list_all(read_settings(group=group), selection, as_json=as_json))


@app.command("show")
def dead_show(dead_id: str, *, group: Group = None, as_json: AsJSON = False) -> None:
    """Show one dead letter whole: its reason, the error, the headers and the body.

    With a message ID, show the message that is not dead, but waits for its next attempt: when that
    is, and the error of the last one.
    """
    run(show(read_settings(group=group), dead_id, as_json=as_json))


@app.command("replay")
@with_options(selection=_selected)
def dead_replay(
    *,
    selection: Selection,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="At most this many a second.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="HANDLER",
            help="Run them with this handler, instead of the one that failed or all that match.",
        ),
    ] = None,
    dry_run: _DryRun = False,
    group: Group = None,
    who: Who = None,
    why: Why = "",
) -> None:
    """Run dead letters again, with a fresh count of attempts."""
    _check_handler(to)
    settings = read_settings(group=group, operator=who)
    run(replay(settings, selection, rate=rate, to=to, dry_run=dry_run, why=why))


@app.command("drop")
@with_options(selection=_selected)
def dead_drop(
    *,
    selection: Selection,
    yes: Yes = False,
    dry_run: _DryRun = False,
    group: Group = None,
    who: Who = None,
    why: Why = "",
) -> None:
    """Delete dead letters for good. Their senders may then deliver the same message IDs again."""
    settings = read_settings(group=group, operator=who)

    def confirm(number: int) -> bool:
        from hookmill.admin.units import count

        letters = count(number, "dead letter", "dead letters")
        return is_confirmed(f"drop {letters} of group {settings.group} for good?", yes=yes)

    run(drop(settings, selection, confirm=confirm, dry_run=dry_run, why=why))


def _check_handler(name: str | None) -> None:
    """Refuse a name that no handler can have, because its dead letters could only die again."""
    if name is not None and (not name.strip() or not name.isprintable()):
        raise typer.BadParameter(f"--to {name!r}: give the name of a handler")


async def list_all(settings: Settings, selection: Selection, *, as_json: bool) -> None:
    """Print one line for each selected dead letter."""
    from hookmill.admin import dead_letters

    found = False
    async with dead_letters.opened(settings) as letters:
        selected = await dead_letters.select(letters, selection)
        async for letter in selected.listed():
            found = True
            seen = dead_letters.describe(letter)
            if as_json:
                say_json(seen)
            else:
                say(summary(seen))
    if not found and not as_json:
        say("no dead letters")
    end_if_incomplete(letters.client.unseen)


async def show(settings: Settings, dead_id: str, *, as_json: bool) -> None:
    """Print one dead letter whole, or what waits for a retry and has this message ID."""
    from hookmill.admin import dead_letters, redactions

    shown = await redactions.shown(settings)
    try:
        async with dead_letters.opened(settings) as letters:
            letter = await dead_letters.find(letters, dead_id, group=settings.group)
        _show_one(dead_letters.describe(letter, whole=True, shown=shown), as_json=as_json)
    except dead_letters.NoSuchDeadLetterError:
        if not (waiting := await dead_letters.find_waiting(settings, dead_id)):
            raise
        for one in waiting:  # one for each handler that has failed
            _show_one(dead_letters.describe_waiting(one, shown), as_json=as_json)


def _show_one(seen: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        say_json(seen)
        return
    if "body" in seen:
        from hookmill.admin.bodies import laid_out

        seen["body"] = laid_out(seen["body"])
    for name, value in seen.items():
        say_value(name, str(value))


async def replay(
    settings: Settings,
    selection: Selection,
    *,
    rate: float | None = None,
    to: str | None = None,
    dry_run: bool = False,
    why: str = "",
) -> None:
    """Run the selected dead letters again, with the handler `to` if given; print how many."""
    from hookmill.admin import dead_letters
    from hookmill.admin.audit import acting

    async with dead_letters.opened(settings) as letters:
        there = await letters.count()
        selected = await dead_letters.select(letters, selection)
        if dry_run:
            say(f"would replay {await _counted(selected, there)}")
            return
        about = {"group": settings.group, "selection": selection, "rate": rate, "to": to}
        async with acting(settings, "dead replay", about, operator_of(settings, why)) as act:
            await _follow("replayed", selected.replay(rate, to=to), there, act)
    if selection.ids is None:
        end_if_incomplete(letters.client.unseen)


async def drop(
    settings: Settings,
    selection: Selection,
    *,
    confirm: Callable[[int], bool] = lambda _: True,
    dry_run: bool = False,
    why: str = "",
) -> None:
    """Delete the selected dead letters, and print how many.

    Where no IDs were given, `confirm` gets their number first, and decides.
    """
    from hookmill.admin import dead_letters
    from hookmill.admin.audit import acting

    async with dead_letters.opened(settings) as letters:
        there = await letters.count()
        selected = await dead_letters.select(letters, selection)
        if dry_run:
            say(f"would drop {await _counted(selected, there)}")
            return
        if selection.ids is None:
            number = await _counted(selected, there)
            if number and not confirm(number):
                say("dropped none")
                return
        about = {"group": settings.group, "selection": selection}
        async with acting(settings, "dead drop", about, operator_of(settings, why)) as act:
            await _follow("dropped", selected.drop(), there, act)
    if selection.ids is None:
        end_if_incomplete(letters.client.unseen)


async def _counted(selected: SelectedDeadLetters, total: int) -> int:
    """Return how many are selected, and show meanwhile how many were found so far."""
    found = 0
    with bar("counted", total) as show:
        async for looked_at, found, _ in selected.counting():
            show(looked_at, f"counted {found:,} so far")
    return found


async def _follow(what: str, tallies: AsyncIterator[Tally], total: int, act: Act) -> None:
    """Show the progress of a replay or drop, and at its end how many were done and tried.

    These numbers are printed even when it breaks off, so that nobody has to guess them.
    """
    from hookmill.admin.dead_letters import Tally

    tally = Tally()
    try:
        with bar(what, total) as show:
            async for tally in tallies:
                show(tally.looked_at, f"{what} {tally.done:,}")
    finally:
        act.result(**{what: tally.done, "of": tally.tried})
        # Nothing to say if it failed before the first step.
        if tally.tried or not sys.exc_info()[0]:
            say(f"{what} {tally.done} of {tally.tried}")
