"""`hookmill health`: whether the program on this machine is healthy, for containers without HTTP
probes. Mostly `entry` answers it; here it is described, and asked where it takes the settings.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from hookmill.cli.entry import address_in_environment, text_of
from hookmill.cli.options import AsJSON
from hookmill.cli.output import say, say_error
from hookmill.errors import SettingsError


def health(
    program: Annotated[
        Literal["receiver", "worker"] | None,
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
    """
    from hookmill.admin.probe import probe

    host, port = address_in_environment() or _address_in_settings(program)
    found = probe(host, port, program=program, ready=ready)
    text = text_of(found, program, as_json=as_json)
    if found.ok or as_json:
        say(text)
    else:
        say_error(text)
    raise typer.Exit(0 if found.ok else 1)


def _address_in_settings(program: str | None) -> tuple[str, int]:
    from hookmill.cli.start import read_settings

    settings = read_settings()
    if settings.admin_port is not None:
        return settings.admin_host, settings.admin_port
    if program == "receiver":
        return settings.host, settings.port
    fault = (
        "HOOKMILL_ADMIN_PORT is not set, so the program answers nobody: set it for the program "
        "and for this command"
    )
    raise SettingsError([fault])
