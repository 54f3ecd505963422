"""`hookmill health`: whether the program on this machine is healthy, for containers without HTTP
probes. Mostly `entry` answers it; here it is described, and asked where it takes the settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hookmill.cli.entry import address_in_environment, text_of
from hookmill.cli.options import AsJSON
from hookmill.cli.output import say, say_error
from hookmill.errors import SettingsError

if TYPE_CHECKING:
    from hookmill.admin.probe import Probed


def health(
    program: Annotated[
        Literal["receiver", "worker", "console"] | None,
        typer.Argument(help="Which program it has to be; default: any."),
    ] = None,
    *,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask whether it is ready, and not only healthy.")
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """Ask the program on this machine whether it is healthy. Exit 0: it is, 1: it is not.

    It is asked at its admin address (HOOKMILL_ADMIN_PORT); a receiver without one at its own port.
    A console has none: it is asked at its own port, also where no program is named and no admin
    address is set.
    """
    from hookmill.admin.probe import probe

    address = address_in_environment(program)
    if address is None:
        found = _ask_by_settings(program, ready=ready)
    else:
        found = probe(*address, program=program, ready=ready)
    text = text_of(found, program, as_json=as_json)
    if found.ok or as_json:
        say(text)
    else:
        say_error(text)
    raise typer.Exit(0 if found.ok else 1)


def _ask_by_settings(program: str | None, *, ready: bool) -> Probed:
    from hookmill.admin.probe import probe
    from hookmill.cli.start import read_settings

    settings = read_settings()
    console = settings.console_host, settings.console_port
    if program == "console":
        return probe(*console, program=program, ready=ready)
    if settings.admin_port is not None:
        return probe(settings.admin_host, settings.admin_port, program=program, ready=ready)
    if program == "receiver":
        return probe(settings.host, settings.port, program=program, ready=ready)
    if program is None and settings.console_port:
        found = probe(*console, ready=ready)
        if found.program == "console":
            return found
    fault = (
        "HOOKMILL_ADMIN_PORT is not set, so the program answers nobody: set it for the program "
        "and for this command"
    )
    raise SettingsError([fault])
