"""`hookmill schema`: the events of handlers or of a module as JSON Schema or AsyncAPI."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from hookmill.cli.output import say_document
from hookmill.cli.start import read_settings
from hookmill.errors import HandlersError, SettingsError


def schema(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE[:ATTRIBUTE]",
            help="The handlers, or a module that declares events; else HOOKMILL_HANDLERS.",
        ),
    ] = None,
    *,
    asyncapi: Annotated[
        bool, typer.Option("--asyncapi", help="An AsyncAPI 3.0.0 document instead.")
    ] = False,
) -> None:
    """Write a JSON Schema of the events that are handled. Exit 2 if there is none."""
    from hookmill import schema as documents
    from hookmill.admin.declared_events import load_declared

    target = target or read_settings().handlers
    if target is None:
        what = "give MODULE:ATTRIBUTE of the handlers, or a module such as hookmill.catalog.marble"
        raise SettingsError([f"no events: {what}, or set HOOKMILL_HANDLERS"])
    try:
        # What the user's module prints must not mix with the document.
        with contextlib.redirect_stdout(sys.stderr):
            declared = load_declared(target)
    except HandlersError as error:
        _show_cause(error)
        raise
    document = documents.asyncapi if asyncapi else documents.json_schema
    say_document(documents.to_json(document(declared)))


def _show_cause(error: HandlersError) -> None:
    """Write the traceback of what the user's module raised."""
    import traceback

    if error.__cause__ is not None:
        traceback.print_exception(error.__cause__)
