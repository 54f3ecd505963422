"""`hookmill refused`: why deliveries were refused, for those that receivers have kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hookmill.admin.bodies import laid_out
from hookmill.cli.commands import Commands
from hookmill.cli.options import AsJSON
from hookmill.cli.output import say, say_json, say_value
from hookmill.cli.selecting import Source
from hookmill.cli.start import read_settings, run
from hookmill.printable import cell

if TYPE_CHECKING:
    from hookmill.config.settings import Settings

app = Commands(
    help="Refused deliveries that were kept for a look: list, show.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_NONE = (
    "none is kept. Receivers keep refused deliveries where HOOKMILL_KEEP_REFUSED is set, such as "
    "to 100: the first ones, one of a source each ten seconds, for an hour"
)


@app.command("list")
def refused_list(
    *,
    source: Source = None,
    as_json: AsJSON = False,
) -> None:
    """List the refused deliveries that were kept in the last hour, newest first.

    In each line: ID, time, source, status, code, and what would have made it match, or why it was
    refused. Receivers keep a few of them where HOOKMILL_KEEP_REFUSED is set.
    """
    run(list_all(read_settings(), source, as_json=as_json))


@app.command("show")
def refused_show(
    kept_id: Annotated[str, typer.Argument(metavar="ID", help="As `refused list` shows it.")],
    *,
    as_json: AsJSON = False,
) -> None:
    """Show one refused delivery: why it was refused, what would have changed that, its headers and
    its body. It holds no secret, no credential and no whole signature, and cannot be replayed.
    """
    run(show(read_settings(), kept_id, as_json=as_json))


async def list_all(settings: Settings, source: str | None, *, as_json: bool) -> None:
    """Print one line for each."""
    from hookmill.admin import refused

    async with refused.opened(settings) as refusals:
        found = await refusals.newest_first(source)
    for seen in found:
        if as_json:
            say_json(seen)
        else:
            say(summary(seen))
    if not found and not as_json:
        say(_NONE)


async def show(settings: Settings, kept_id: str, *, as_json: bool) -> None:
    """Print one whole."""
    from hookmill.admin import refused

    async with refused.opened(settings) as refusals:
        seen = await refusals.find(kept_id)
    if as_json:
        say_json(seen)
        return
    is_cut, number = seen.pop("is_cut"), seen["bytes"]
    seen["explanation"] = _lines(seen["explanation"])
    seen["would_match_if"] = _lines(seen["would_match_if"])
    seen["body"] = laid_out(seen["body"])
    for name, value in seen.items():
        if value != "":
            say_value(name, str(value))
    if is_cut:
        say(f"the body is cut: it had {number} bytes")


def summary(seen: dict[str, Any]) -> str:
    """Sum up a refused delivery in a line."""
    hints = seen["would_match_if"]
    why = f"it would match if {hints[0]}" if hints else seen["cause"] or seen["detail"]
    return "  ".join(
        [
            seen["id"],
            seen["at"],
            *map(cell, (seen["source"], f"{seen['status']} {seen['code']}", why)),
        ]
    )


def _lines(lines: list[str]) -> str:
    """Return lines as one value, which is shown as a block where it has several."""
    return "\n".join(lines)
