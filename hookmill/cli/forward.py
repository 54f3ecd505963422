"""`hookmill forward`: send what comes into a stream on to a program on this machine."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from hookmill.cli.options import AsJSON
from hookmill.cli.output import say, say_error, say_json
from hookmill.cli.selecting import Source, Type, moment
from hookmill.cli.start import read_settings, run
from hookmill.cli.tail import Since
from hookmill.printable import cell

if TYPE_CHECKING:
    from hookmill.admin.forwarding import Forwarder, Sent
    from hookmill.admin.tailing import Wanted
    from hookmill.config.settings import Settings


def forward(  # noqa: PLR0913 - an option each
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="Where to; without a path it gets the path of each source."
        ),
    ],
    *,
    source: Source = None,
    event_type: Type = None,
    since: Since = None,
    cursor: Annotated[
        str | None,
        typer.Option("--from", metavar="CURSOR", help="Go on behind a cursor, as --json shows it."),
    ] = None,
    sign: Annotated[
        bool,
        typer.Option("--sign", help="Sign each delivery anew, with your own development keys."),
    ] = False,
    anywhere: Annotated[
        bool, typer.Option("--anywhere", help="Also to a URL on another machine.")
    ] = False,
    no_follow: Annotated[
        bool, typer.Option("--no-follow", help="End where there is no more now.")
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """Send deliveries of a stream to a program on this machine, until Ctrl-C, each one once and in
    their order. Workers do not notice it.

    Body and stored headers are as they came; credentials and headers about the connection are not
    stored. In each line: the status of the answer, how long it took, source, event type, message
    ID. Nothing is tried again. Sources that redact fields are left out.
    """
    # Long because: each option of the command is a parameter with its help.
    from hookmill.admin.tailing import Wanted

    if cursor is not None and since is not None:
        raise typer.BadParameter("give --since or --from")
    begin = moment("--since", since)
    wanted = Wanted(source=source, type=event_type)
    settings = read_settings()
    with suppress(KeyboardInterrupt):
        run(
            send_on(
                settings, url, wanted, begin, cursor,
                sign=sign, anywhere=anywhere, ends=no_follow, as_json=as_json,
            )
        )  # fmt: skip


async def send_on(  # noqa: PLR0913 - what the options say
    settings: Settings,
    url: str,
    wanted: Wanted,
    since_ms: int | None = None,
    cursor: str | None = None,
    *,
    sign: bool = False,
    anywhere: bool = False,
    ends: bool = False,
    as_json: bool = False,
) -> None:
    """Print a line for each delivery."""
    from hookmill.admin.forwarding import Forwarder
    from hookmill.admin.opening import open_stream

    async with await open_stream(settings) as client:
        forwarder = Forwarder(client, settings, url, wanted, signs=sign, anywhere=anywhere)
        await forwarder.start(since_ms, cursor)
        try:
            if ends:
                await _send_all(forwarder, as_json=as_json)
            else:
                await _follow(forwarder, as_json=as_json)
        finally:
            await forwarder.close()


async def _follow(forwarder: Forwarder, *, as_json: bool) -> None:
    import asyncio

    from hookmill.admin.tailing import AWAY, POLL
    from hookmill.errors import StreamUnavailableError

    is_away = False
    while True:
        try:
            await _send_all(forwarder, as_json=as_json)
            is_away = False
        except StreamUnavailableError as error:
            if not is_away:
                say_error(f"{error}; it goes on at the same place when Redis is back")
            is_away = True
        await asyncio.sleep(AWAY if is_away else POLL)


async def _send_all(forwarder: Forwarder, *, as_json: bool) -> None:
    async for sent in forwarder.look():
        if as_json:
            say_json(sent)
        else:
            say(line_of(sent))


def line_of(sent: Sent) -> str:
    """Sum up what became of a delivery."""
    names = map(cell, (sent.source, sent.type, sent.message_id))
    if sent.status is None:
        return "  ".join(["not sent", *names, cell(sent.error)])
    return "  ".join([str(sent.status), f"{sent.ms} ms", *names])
