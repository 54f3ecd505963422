"""`hookmill audit`: who did what, when and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hookmill.cli.options import AsJSON
from hookmill.cli.output import say, say_json
from hookmill.cli.selecting import moment
from hookmill.cli.start import read_settings, run
from hookmill.printable import cell

if TYPE_CHECKING:
    from hookmill.admin.audit import Action
    from hookmill.config.settings import Settings


def audit(
    *,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Only since then: 2026-11-21T09:30 (UTC), or 2h for 2 hours ago."
        ),
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(metavar="ACTION", help="Only these; * stands for any text: 'dead *'"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the newest.")] = 100,
    as_json: AsJSON = False,
) -> None:
    """Show what operators did with commands and the console, newest first.

    In each line: when, who, action, what came of it, and what it was about; then the reason. An
    action without a result is under way, or its program was killed. About 10,000 actions are kept.
    """
    run(show(read_settings(), moment("--since", since) or 0, action, limit, as_json=as_json))


async def show(
    settings: Settings, since_ms: int, action: str | None, limit: int, *, as_json: bool
) -> None:
    """Print a line for each action."""
    from hookmill.admin import audit

    found = False
    async for one in audit.listed(settings, since_ms=since_ms, action=action, limit=limit):
        found = True
        if as_json:
            say_json(audit.describe(one))
        else:
            say(line_of(one))
    if not found and not as_json:
        say("nothing is recorded")


def line_of(action: Action) -> str:
    """Lay an action out in a line."""
    from hookmill.admin.audit import describe

    when = describe(action)["at"].partition(".")[0] + "Z"
    came = {"open": "not ended", "done": _values(action.result) or "done"}.get(action.state)
    if came is None:
        came = " ".join(filter(None, [_values(action.result), f"failed: {action.error}"]))
    parts = [when, cell(action.who), cell(action.action), cell(came), cell(_values(action.details))]
    return "  ".join(parts + ([f"why: {cell(action.why)}"] if action.why else []))


def _values(values: dict[str, Any]) -> str:
    return " ".join(f"{name}={_word(value)}" for name, value in values.items())


def _word(value: Any) -> str:
    import msgspec

    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
