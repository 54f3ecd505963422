"""`hookmill replay`: run handled messages again that the stream still has."""

from __future__ import annotations

import functools
from contextlib import AbstractAsyncContextManager, aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from hookmill.cli.options import AsJSON, Group, Who, Why, Yes
from hookmill.cli.output import is_confirmed, say, say_error, say_json
from hookmill.cli.progress import bar
from hookmill.cli.selecting import Key, Source, Type, Where, conditions, moment
from hookmill.cli.start import operator_of, read_settings, run
from hookmill.printable import cell

if TYPE_CHECKING:
    from collections.abc import Callable

    from hookmill.admin.replays import Replay, ReplayTally
    from hookmill.config.settings import Settings

_Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Received since then: 2026-11-21T09:30 (UTC), or 2h for 2 hours ago.",
    ),
]
_Before = Annotated[
    str | None, typer.Option(metavar="TIME", help="Received before then. As for --since.")
]


def replay(  # noqa: PLR0913 - an option each
    *,
    source: Source = None,
    event_type: Type = None,
    handler: Annotated[
        str | None,
        typer.Option(help="Only what this handler handles. It alone runs them, unless --to."),
    ] = None,
    key: Key = None,
    where: Where = None,
    since: _Since = None,
    before: _Before = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that the stream still has.")
    ] = False,
    to: Annotated[
        str | None,
        typer.Option(metavar="HANDLER", help="This handler alone runs them; else all that match."),
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.1, help="At most this many a second.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many it would be, and show the first.")
    ] = False,
    yes: Yes = False,
    resume: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Go on with a replay that was interrupted."),
    ] = None,
    group: Group = None,
    as_json: AsJSON = False,
    who: Who = None,
    why: Why = "",
) -> None:
    """Run handled messages again, of those that the stream still has (HOOKMILL_RETENTION).

    What is unfinished is left out: it is waiting, running, to be retried, or a dead letter. It
    rests while the backlog is above half of its limit.
    """
    # Long because: each option of the command is a parameter with its help.
    from hookmill.admin import replays
    from hookmill.admin.replay_filter import ReplayFilter

    wanted = ReplayFilter(
        source=source,
        type=event_type,
        handler=handler,
        key=key,
        where=conditions(where),
        since_ms=moment("--since", since),
        before_ms=moment("--before", before),
    )
    ways = [not wanted.is_everything, everything, resume is not None]
    if ways.count(True) != 1 or (resume is not None and (to or rate or dry_run)):
        raise typer.BadParameter("give filters, or --all, or --resume NAME alone")
    settings = read_settings(group=group, operator=who)
    if resume is None:
        opened = replays.opened(settings, wanted, to=to or "", rate=rate)
    else:
        opened = replays.resumed(settings, resume)

    run(
        replay_all(
            settings,
            opened,
            confirm=None if resume else functools.partial(is_confirmed, yes=yes),
            dry_run=dry_run,
            as_json=as_json,
            why=why,
        )
    )


async def replay_all(
    settings: Settings,
    opened: AbstractAsyncContextManager[Replay],
    *,
    confirm: Callable[[str], bool] | None = None,
    dry_run: bool = False,
    as_json: bool = False,
    why: str = "",
) -> None:
    """Replay what a replay is to do, and print how many. `confirm` gets a question, and decides."""
    from hookmill.admin.audit import acting

    async with opened as replay:
        await _look(replay, as_json=as_json)
        if confirm is not None or dry_run:
            counted = await _counted(replay, as_json=as_json)
            if dry_run:
                _say_would(replay, counted, as_json=as_json)
            elif not counted.progress.replayed:
                _say_result("replayed", counted, as_json=as_json)
            if not counted.looked_at and not settings.retention:
                say_error("HOOKMILL_RETENTION is 0: the stream keeps no handled messages")
            if dry_run or not counted.progress.replayed:
                return
            if confirm is not None and not confirm(_question(replay, counted, settings.group)):
                say("replayed none")
                return
        about = {"group": settings.group, "name": replay.name, "plan": replay.plan}
        async with acting(settings, "replay", about, operator_of(settings, why)) as act:
            await _follow(replay, act.result, as_json=as_json)


async def _look(replay: Replay, *, as_json: bool) -> None:
    with bar("looked at", None, hidden=as_json) as show:
        async with aclosing(replay.look()) as looking:
            async for read in looking:
                show(read, f"looked at {read:,} unfinished")


async def _counted(replay: Replay, *, as_json: bool) -> ReplayTally:
    from hookmill.admin.replays import NOTHING

    tally = NOTHING
    with bar("counted", None, hidden=as_json) as show:
        async with aclosing(replay.counting()) as counting:
            async for tally in counting:
                show(tally.looked_at, f"counted {tally.progress.replayed:,} so far")
    return tally


async def _follow(replay: Replay, note: Callable[..., None], *, as_json: bool) -> None:
    """Show the progress of a replay, and at its end what became of all. This is printed even when
    it breaks off, with how to go on.
    """
    from hookmill.admin.replays import NOTHING

    tally, is_done = NOTHING, False
    try:
        with bar("replayed", replay.plan.matched or None, hidden=as_json) as show:
            async with aclosing(replay.run()) as running:
                async for tally in running:
                    state = "" if tally.state == "working" else f", {tally.state}"
                    show(tally.matched, f"replayed {tally.progress.replayed:,}{state}")
        is_done = True
    finally:
        note(**describe_tally(tally), done=is_done)
        _say_result("replayed", tally, as_json=as_json)
        if not is_done:
            say_error(f"not done: go on with `hookmill replay --resume {replay.name}`")


def describe_tally(tally: ReplayTally) -> dict[str, int]:
    """Return the numbers of a tally by name."""
    _, *numbers = tally.progress
    return dict(zip(tally.progress._fields[1:], numbers, strict=True))


def _say_would(replay: Replay, counted: ReplayTally, *, as_json: bool) -> None:
    for one in replay.sample:
        if as_json:
            say_json(one)
        else:
            names = ("id", "received_at", "source", "type", "key", "message_id")
            say("  ".join(cell(one[name]) for name in names))
    _say_result("would replay", counted, as_json=as_json)


def _say_result(what: str, tally: ReplayTally, *, as_json: bool) -> None:
    numbers = describe_tally(tally)
    if as_json:
        say_json({what.replace(" ", "_"): numbers.pop("replayed"), **numbers})
        return
    said = {
        "unfinished": "unfinished",
        "duplicates": "duplicates of others",
        "gone": "no longer in the stream",
    }
    left_out = [f"{numbers[name]:,} {words}" for name, words in said.items() if numbers[name]]
    line = f"{what} {numbers['replayed']:,}"
    say(f"{line}; left out: {', '.join(left_out)}" if left_out else line)
    if numbers["forgotten"]:
        say_error(
            f"{numbers['forgotten']:,} of them have IDs that are no longer remembered "
            "(HOOKMILL_DEDUP_WINDOW, or dedup_window of the source): if the sender repeats one, it "
            "runs once more"
        )


def _question(replay: Replay, counted: ReplayTally, group: str) -> str:
    from hookmill.admin.units import count

    by = f"handler {cell(replay.plan.to)}" if replay.plan.to else "all handlers that match"
    messages = count(counted.progress.replayed, "handled message", "handled messages")
    return f"run {messages} of group {cell(group)} again, with {by}?"
