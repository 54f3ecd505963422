"""`hookmill stacks`: where the threads and tasks of a worker are."""

from __future__ import annotations

from typing import Annotated

import typer

from hookmill.cli.options import AsJSON, Group, Who, Why
from hookmill.cli.output import say, say_json
from hookmill.cli.start import operator_of, read_settings, run


def stacks(
    worker: Annotated[
        str, typer.Argument(metavar="WORKER", help="The worker, as `hookmill status` names it.")
    ],
    *,
    group: Group = None,
    why: Why = "",
    who: Who = None,
    as_json: AsJSON = False,
) -> None:
    """Ask a worker where its threads and tasks are, with their messages and handlers.

    It answers within a third of its lease, also while its event loop is blocked. Exit 1: it does
    not answer.
    """
    from hookmill.admin import stacks as action
    from hookmill.admin.units import moment

    settings = read_settings(group=group, operator=who)
    said = run(action.ask_and_wait(settings, worker, operator_of(settings, why)))
    if as_json:
        say_json({"worker": worker, "at": moment(said.at_ms), "text": said.text})
    else:
        for line in said.text.rstrip("\n").split("\n"):
            say(line)
