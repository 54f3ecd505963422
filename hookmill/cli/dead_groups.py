"""`hookmill dead groups`: dead letters in groups of the same error."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from hookmill.cli.options import AsJSON, Group
from hookmill.cli.output import end_if_incomplete, say, say_error, say_json
from hookmill.cli.progress import bar
from hookmill.cli.selecting import dead_letter_filter, with_options
from hookmill.cli.start import read_settings, run
from hookmill.printable import cell

if TYPE_CHECKING:
    from hookmill.admin.dead_groups import ErrorGroup, GroupsSoFar
    from hookmill.admin.filters import DeadLetterFilter
    from hookmill.config.settings import Settings


@with_options(wanted=dead_letter_filter)
def dead_groups(
    *,
    wanted: DeadLetterFilter,
    everything: Annotated[
        bool, typer.Option("--all", help="Look at all dead letters, not only at the newest 10,000.")
    ] = False,
    group: Group = None,
    as_json: AsJSON = False,
) -> None:
    """List the errors of which messages died, the newest error first.

    In each line: fingerprint (for --error), how many, first and last death, handler, event type of
    the newest, its ID, reason and error. Numbers, IDs and quoted texts of the error are left out.
    """
    run(list_groups(read_settings(group=group), wanted, everything=everything, as_json=as_json))


async def list_groups(
    settings: Settings, wanted: DeadLetterFilter, *, everything: bool = False, as_json: bool
) -> None:
    """Print one line for each group, and how many dead letters were looked at if not at all."""
    from hookmill.admin import dead_groups as admin
    from hookmill.admin import dead_letters

    found = admin.GroupsSoFar([], is_complete=True)
    most = None if everything else dead_letters.MOST_LOOKED_AT
    async with dead_letters.opened(settings) as letters:
        there = await letters.count()
        with bar("looked at", there if most is None else min(there, most), hidden=as_json) as show:
            async with aclosing(admin.groups(letters, wanted, most=most)) as walk:
                async for found in walk:
                    show(found.looked_at, f"looked at {found.looked_at:,}")
    for one in found.groups:
        if as_json:
            say_json(admin.describe_group(one))
        else:
            say(_line(one))
    _say_rest(found, there, as_json=as_json)
    end_if_incomplete(letters.client.unseen)


def _say_rest(found: GroupsSoFar, there: int, *, as_json: bool) -> None:
    if found.others:
        say_error(f"{found.others:,} more dead letters are of further errors")
    if not found.is_complete:
        say_error(
            f"these are the errors of the newest {found.looked_at:,} of {there:,} dead letters: "
            "--all looks at all of them"
        )
    elif not found.groups and not as_json:
        say("no dead letters")


def _line(group: ErrorGroup) -> str:
    from hookmill.admin.units import moment
    from hookmill.cli.letters import short

    example = group.example
    why = ": ".join(map(cell, filter(None, [example["reason"], group.kind.line])))
    return "  ".join(
        [
            group.fingerprint,
            f"{group.count:,}",
            short(moment(group.oldest_died_ms)),
            short(example["died_at"]),
            *(cell(example[name]) for name in ("handler", "type", "id")),
            why + (f" in {cell(group.kind.frame)}" if group.kind.frame else ""),
        ]
    )
