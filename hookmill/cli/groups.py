"""`hookmill group`: list, add and drop consumer groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hookmill.cli.commands import Commands
from hookmill.cli.options import AsJSON, Who, Why, Yes
from hookmill.cli.output import end_if_incomplete, fail, is_confirmed, say, say_json
from hookmill.cli.start import operator_of, read_settings, run
from hookmill.printable import cell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hookmill.stream.facts import GroupFacts

app = Commands(
    help="Consumer groups: list, add, drop.", no_args_is_help=True, rich_markup_mode=None
)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="The group's name.")]


@app.command("list")
def group_list(*, as_json: AsJSON = False) -> None:
    """List the consumer groups, with the unfinished work and the number of workers of each.

    A group pins the stream if it has unfinished work and no worker: the stream keeps all of that.
    """
    from hookmill.admin import groups

    settings = read_settings()
    overview, found = run(groups.list_all(settings))
    seen = [groups.describe(overview, group, settings.lease) for group in found]
    if as_json:
        for one in seen:
            say_json(one)
    else:
        for line in table(seen):
            say(line)
    end_if_incomplete(overview.unseen)


@app.command("add")
def group_add(
    name: _Name,
    *,
    start: Annotated[
        Literal["beginning", "now"],
        typer.Option(
            "--from",
            help="What it gets: all that the stream has, or what comes from now on.",
        ),
    ],
    who: Who = None,
    why: Why = "",
) -> None:
    """Make a consumer group, once. Then its workers can start.

    Only the group `main` needs no such command: its first worker makes it.
    """
    from hookmill.admin import groups

    settings = read_settings(operator=who)
    _check_name(name)
    run(groups.add(settings, name, start, operator_of(settings, why)))
    say(f"added group {name}, from {'the beginning' if start == 'beginning' else 'now on'}")


@app.command("drop")
def group_drop(
    name: _Name,
    *,
    yes: Yes = False,
    who: Who = None,
    why: Why = "",
) -> None:
    """Delete a consumer group for good, with all of its unfinished work and its dead letters.

    It is refused while a worker of the group runs. A worker that starts later ends with 2, until
    `hookmill group add` makes the group again. If it breaks off, run it again.
    """
    from hookmill.admin import groups
    from hookmill.admin.group_checks import unfinished

    shown = cell(name)

    def confirm(group: GroupFacts) -> bool:
        what = f"drop group {shown} for good, with its messages: {unfinished(group)}"
        if yes:
            say(what)
            return True
        return is_confirmed(f"{what}?")

    settings = read_settings(operator=who)
    if not run(groups.drop(settings, name, confirm, operator_of(settings, why))):
        fail("the group was not dropped")
    say(f"dropped group {shown}")


def _check_name(name: str) -> None:
    from hookmill.config.setting_values import check_key_part

    try:
        check_key_part(name)
        if not name.isprintable():
            raise ValueError("it holds a character that cannot be printed")
    except ValueError as error:
        raise typer.BadParameter(f"{name!r}: {error}") from None


def table(groups: list[dict[str, Any]]) -> list[str]:
    """Lay groups out for people, as `admin.groups.describe` gives them."""
    if not groups:
        return ["there is no group"]
    head = ["group", "backlog", "bytes", "oldest", "held", "delayed", "parked", "dead", "workers"]
    rows = [head, *(_row(group) for group in groups)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = []
    for row in rows:
        name, *cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([row[0].ljust(len(name)), *cells]))
    return [*lines, *(line for group in groups for line in _remarks(group))]


def _row(group: dict[str, Any]) -> list[str]:
    from hookmill.admin.units import age, size

    oldest, counts = group["oldest_age"], ("held", "delayed", "parked", "dead", "workers")
    return [
        cell(group["name"]),
        "unknown" if group["backlog"] is None else f"{group['backlog']:,}",
        "-" if group["backlog_bytes"] is None else size(group["backlog_bytes"]),
        "-" if oldest is None else age(oldest),
        *("-" if group[name] is None else f"{group[name]:,}" for name in counts),
    ]


def _remarks(group: dict[str, Any]) -> Iterator[str]:
    name, state = cell(group["name"]), group["state"]
    if state == "adding":
        yield f"{name}: half made; finish `hookmill group add {name} --from {group['from']}`"
    elif state == "dropping":
        yield f"{name}: half dropped; finish `hookmill group drop {name}`"
    elif group["pins"]:
        yield f"{name}: pins the stream; it has unfinished work, and no worker of it runs"
