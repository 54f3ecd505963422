"""`hookmill spool`: what receivers could not read in their spool, and set aside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hookmill.cli.commands import Commands
from hookmill.cli.options import AsJSON, Who, Why, Yes
from hookmill.cli.output import is_confirmed, say, say_json, say_value
from hookmill.cli.start import operator_of, read_settings, run
from hookmill.printable import cell

if TYPE_CHECKING:
    from hookmill.config.settings import Settings

app = Commands(
    help="Spooled messages that were set aside: list, show, retry, drop.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_ID = Annotated[int, typer.Argument(metavar="ID", min=1, help="As `spool list` shows it.")]
_SomeIDs = Annotated[
    list[int] | None, typer.Argument(metavar="ID", min=1, help="IDs, as `spool list` shows them.")
]
_All = Annotated[bool, typer.Option("--all", help="All that are set aside now.")]


@app.command("list")
def spool_list(*, as_json: AsJSON = False) -> None:
    """List the messages that were set aside because they cannot be read, oldest first.

    In each line: ID, when it was set aside, bytes and reason. They count to HOOKMILL_SPOOL_LIMIT.
    """
    from hookmill.admin import spool

    with spool.opened(read_settings()) as file:
        found = [spool.describe(one) for one in file.all_set_aside()]
    for seen in found:
        if as_json:
            say_json(seen)
        else:
            line = f"{seen['id']}  {seen['since']}  {seen['bytes']} bytes  {cell(seen['reason'])}"
            say(line)
    if not found and not as_json:
        say("nothing is set aside")


@app.command("show")
def spool_show(row_id: _ID, *, as_json: AsJSON = False) -> None:
    """Show one message that was set aside: its reason, and as much as can be read of it."""
    import msgspec

    from hookmill.admin import redactions, spool

    settings = read_settings()
    with spool.opened(settings) as file:
        seen = spool.find(file, row_id, redactions.shown_without_redis(settings))
    if as_json:
        say_json(seen)
        return
    content = seen["content"]
    if not isinstance(content, str):
        seen["content"] = msgspec.json.format(msgspec.json.encode(content), indent=2).decode()
    for name, value in seen.items():
        say_value(name, str(value))


@app.command("retry")
def spool_retry(
    ids: _SomeIDs = None, *, everything: _All = False, who: Who = None, why: Why = ""
) -> None:
    """Put messages back into the spool, behind all others. A receiver then drains them, or sets
    them aside again.
    """
    from hookmill.admin import spool

    chosen = _chosen(ids, everything=everything)
    settings = read_settings(operator=who)
    with spool.opened(settings) as file:
        found = spool.positions(file, chosen)
        done = file.retry(found)
    _record(settings, "spool retry", found, {"put_back": done}, why)
    say(f"put back {done}")


@app.command("drop")
def spool_drop(
    ids: _SomeIDs = None,
    *,
    everything: _All = False,
    yes: Yes = False,
    who: Who = None,
    why: Why = "",
) -> None:
    """Delete messages for good. Their senders were told that these were accepted."""
    from hookmill.admin import spool
    from hookmill.admin.units import count

    chosen = _chosen(ids, everything=everything)
    settings = read_settings(operator=who)
    with spool.opened(settings) as file:
        found = spool.positions(file, chosen)
        question = f"drop {count(len(found), 'spooled message', 'spooled messages')} for good?"
        if found and not is_confirmed(question, yes=yes):
            say("dropped none")
            return
        done = file.drop(found)
    _record(settings, "spool drop", found, {"dropped": done}, why)
    say(f"dropped {done}")


def _record(
    settings: Settings, action: str, ids: list[int], result: dict[str, int], why: str
) -> None:
    """Record what was done to the file. It needs no Redis to be done."""
    from hookmill.admin.audit import record

    about = {"spool": str(settings.spool), "ids": ids}
    run(record(settings, action, about, operator_of(settings, why), result=result))


def _chosen(ids: list[int] | None, *, everything: bool) -> list[int] | None:
    """Require either IDs or --all, so that a slip retries or drops nothing. None stands for all."""
    if bool(ids) == everything:
        raise typer.BadParameter("give IDs, or --all")
    return ids or None
