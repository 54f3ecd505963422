"""`hookmill log-level`: lets running programs log more or less for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hookmill.cli.options import AsJSON, Who, Why
from hookmill.cli.output import say, say_json
from hookmill.cli.start import operator_of, read_settings, run
from hookmill.printable import printable

if TYPE_CHECKING:
    from hookmill.admin.log_levels import Reached


def log_level(
    level: Annotated[
        Literal["debug", "info", "warning", "error", "default"],
        typer.Argument(
            metavar="LEVEL", help="debug, info, warning or error; default: take it back."
        ),
    ],
    *,
    program: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Only the programs of this name: a --name, a host, a worker as `hookmill status` "
            "names it, `receiver` or `worker`. Default: all.",
        ),
    ] = "*",
    lasts: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long: 30s, 10m, 2h; at most 7d.")
    ] = "10m",
    why: Why = "",
    who: Who = None,
    as_json: AsJSON = False,
) -> None:
    """Have running programs log from this level on, within some seconds and for a while.

    It goes back by itself. Lines of libraries, below a warning, are never shown.
    """
    from hookmill.admin import log_levels

    settings = read_settings(operator=who)
    wanted = None if level == "default" else level
    operator = operator_of(settings, why)
    reached = run(log_levels.set_level(settings, wanted, program, _seconds(lasts), operator))
    if as_json:
        levels = [one._asdict() for one in reached.levels]
        say_json({"levels": levels, "workers": reached.workers})
    else:
        _show(reached)


def _show(reached: Reached) -> None:
    from hookmill.admin.units import age, count

    for one in reached.levels:
        name = "all programs" if one.program == "*" else f"programs named {one.program}"
        say(f"{name}: {one.level}, for {age(one.seconds)}")
    if not reached.levels:
        say("every program logs as its settings say")
    workers = count(len(reached.workers), "worker", "workers")
    say(f"{workers} with a heartbeat will follow; receivers too, but nobody knows how many run")


def _seconds(lasts: str) -> float:
    from hookmill.admin.log_levels import LONGEST
    from hookmill.admin.units import seconds_of

    seconds = seconds_of(lasts)
    if seconds is None or not 0 < seconds <= LONGEST:
        raise typer.BadParameter(f"--for {printable(lasts)}: give a time such as 30s, 10m, 2h, 7d")
    return seconds
