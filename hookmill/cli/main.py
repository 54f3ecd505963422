"""The command line. Each command reads the settings, then hands over to the room whose duty it is.

Imports stand inside the commands: `hookmill --help` need not load a server.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from hookmill.errors import HandlersError, HookmillError, SettingsError

if TYPE_CHECKING:
    from hookmill.admin.filters import Choice
    from hookmill.config.settings import Settings

T = TypeVar("T")

app = typer.Typer(
    help="Webhooks in, work done.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: to draw its boxes takes as long as all the rest
)


def main() -> None:
    """Run the command line; a fault of the user's ends in a few clear lines, not a traceback."""
    try:
        app()
    except SettingsError as error:
        for fault in error.faults:
            print(f"hookmill: {fault}", file=sys.stderr)  # noqa: T201 - this is its place
        sys.exit(2)
    except HookmillError as error:
        print(f"hookmill: {error}", file=sys.stderr)  # noqa: T201 - this is its place
        # 2, as for settings: starting it again would not help.
        sys.exit(2 if isinstance(error, HandlersError) else 1)


_Target = Annotated[
    str | None,
    typer.Argument(metavar="MODULE:ATTRIBUTE", help="The handlers; else HOOKMILL_HANDLERS."),
]
_Name = Annotated[str | None, typer.Option(help="Bound to every log line of this process.")]
_AsJSON = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
_Group = Annotated[str | None, typer.Option("--group", help="Consumer group.")]


@app.command()
def receiver(name: _Name = None) -> None:
    """Receive: verify deliveries and append them to the stream."""
    from hookmill.runtime.loading import load_program

    settings = _settings(name)
    load_program("receiver")(settings)


@app.command()
def worker(
    target: _Target = None,
    *,
    group: _Group = None,
    concurrency: Annotated[int | None, typer.Option(help="Messages at the same time.")] = None,
    name: _Name = None,
) -> None:
    """Work: take messages from the stream and run their handlers."""
    from hookmill.runtime.loading import load_handlers, load_program

    settings = _settings(name, group=group, concurrency=concurrency, handlers=target)
    settings.need_redis_url()
    if settings.handlers is None:
        raise SettingsError(
            ["no handlers: give MODULE:ATTRIBUTE, or set HOOKMILL_HANDLERS (app.main:handlers)"]
        )
    program = load_program("worker")
    program(settings, load_handlers(settings.handlers))


@app.command()
def dev(
    target: _Target = None,
    *,
    samples: Annotated[bool, typer.Option("--samples", help="Send signed samples.")] = False,
) -> None:
    """Run the whole line on this machine: embedded server, QStash's stand-in, receiver, workers."""
    from hookmill.dev import main as development

    qstash = development.development_environment()
    settings = _settings("dev", handlers=target)
    handlers = settings.handlers or "hookmill.dev.samples:handlers"
    development.run(handlers, samples=samples, qstash=qstash)


@app.command()
def qstash(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine.")] = 8081,
    time_scale: Annotated[
        float, typer.Option(min=0.0, max=1000.0, help="Multiplies delays and backoff: 0.01.")
    ] = 1.0,
    data: Annotated[
        Path | None, typer.Option(help="Folder for the state, where REDIS_URL is not set.")
    ] = None,
    name: _Name = None,
) -> None:
    """Run a stand-in for QStash: its API, on this machine. A tool for development."""
    from hookmill.emulator import main as standin

    standin.run(standin.options_of(_settings(name), port=port, scale=time_scale, data=data))


_SourceName = Annotated[
    str, typer.Option("--source", metavar="NAME", help="A configured source, or any known sender.")
]


@app.command()
def send(
    *,
    source: _SourceName = "qstash",
    url: Annotated[str | None, typer.Option(help="Where to; default: this machine.")] = None,
    body: Annotated[str | None, typer.Option(help="The body; else one that fits.")] = None,
    body_file: Annotated[
        Path | None, typer.Option(help="A file with the body; - for standard input.")
    ] = None,
    message_id: Annotated[
        str | None,
        typer.Option("--id", help="Message ID; else fresh. A body that is given keeps its own."),
    ] = None,
    event_type: Annotated[
        str | None, typer.Option("--type", help="Event type. A body that is given keeps its own.")
    ] = None,
    forged: Annotated[bool, typer.Option("--forged", help="Change it after signing.")] = False,
) -> None:
    """Sign and post one delivery exactly as the sender would. Exit 0 when it is accepted."""
    from hookmill.debug import simulate, targets

    settings = _settings(None)
    url = url or targets.default_url(source, settings)
    imitated = targets.sender_for(source, url, settings)
    raw = None if body is None else body.encode("utf-8", "surrogateescape")
    answer = _run(
        simulate.deliver(
            imitated.preset, imitated.scheme, url, _read(body_file) if body_file else raw,
            message_id=message_id or simulate.fresh_message_id(), event_type=event_type or "",
            signed_url=imitated.url, forged=forged,
        )
    )  # fmt: skip
    typer.echo(f"{answer.status} {answer.text}".rstrip())
    raise typer.Exit(0 if 200 <= answer.status < 300 else 1)


@app.command()
def verify(  # noqa: PLR0913 - an option each
    *,
    source: _SourceName,
    body_file: Annotated[
        Path, typer.Option(help="The body, byte for byte as it came; - for standard input.")
    ],
    header: Annotated[
        list[str] | None, typer.Option(metavar="'NAME: VALUE'", help="A header, as it came.")
    ] = None,
    secret: Annotated[
        list[str] | None, typer.Option(help="A secret; a shell remembers it.")
    ] = None,
    secret_file: Annotated[
        list[Path] | None, typer.Option(help="A file with secrets, one a line.")
    ] = None,
    secret_env: Annotated[
        list[str] | None, typer.Option(metavar="VARIABLE", help="A variable with a secret.")
    ] = None,
    now: Annotated[
        float | None, typer.Option(metavar="UNIX", help="When it came; default: now.")
    ] = None,
    method: Annotated[str, typer.Option(help="The request's method.")] = "POST",
    url: Annotated[
        str | None, typer.Option(help="The URL that the sender was given, with the query.")
    ] = None,
    as_json: _AsJSON = False,
) -> None:
    """Judge a captured delivery, and say why. It asks nobody, and shows no secret.

    Without a secret it is judged by the source's own. Exit 0: valid, 1: refused, 2: it could not be
    judged.
    """
    from hookmill.debug import diagnose, targets

    if now is not None and not math.isfinite(now):
        raise typer.BadParameter("--now: give a Unix time in seconds, such as 1779460951")
    given = targets.secrets_given(secret or [], secret_file or [], secret_env or [])
    captured = targets.Captured(header or [], _read(body_file, status=2), method, url)
    case, identify = targets.case_for(source, captured, given, _settings(None))
    report = diagnose.verify(case, time.time() if now is None else now, identify)
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(report))
    else:
        typer.echo("\n".join(report.lines))
    raise typer.Exit(report.exit_status)


@app.command()
def status(
    *,
    watch: Annotated[
        float | None, typer.Option(min=0.1, metavar="SECONDS", help="Again, so often.")
    ] = None,
    as_json: _AsJSON = False,
) -> None:
    """Show how much of each group's work is in which state. It changes nothing."""
    from hookmill.admin import checkup

    with suppress(KeyboardInterrupt):
        _run(checkup.status(_settings(None), every=watch, as_json=as_json))


@app.command()
def check(
    *,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="MESSAGES_PER_SECOND", help="Say what it would cost."),
    ] = None,
    group: _Group = None,
    as_json: _AsJSON = False,
) -> None:
    """Judge the server and the settings. Exit 0: fine, 1: warnings, 2: messages would be lost, or
    none would get through.
    """
    from hookmill.admin import checkup

    try:
        settings = _settings(None, group=group)
    except SettingsError as error:
        raise typer.Exit(checkup.report(checkup.findings_of(error), as_json=as_json)) from None
    raise typer.Exit(_run(checkup.check(settings, rate=rate, as_json=as_json)))


@app.command()
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
    """Write a JSON Schema of the events that are handled. Exit 0; 2 for what has none."""
    from hookmill import schema as documents
    from hookmill.admin.declared_events import load_declared

    target = target or _settings(None).handlers
    if target is None:
        what = "give MODULE:ATTRIBUTE of the handlers, or a module such as hookmill.catalog.marble"
        raise SettingsError([f"no events: {what}, or set HOOKMILL_HANDLERS"])
    declared = load_declared(target)
    document = documents.asyncapi if asyncapi else documents.json_schema
    typer.echo(documents.to_json(document(declared)))


dead = typer.Typer(
    help="Dead letters: list, show, replay, drop.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(dead, name="dead")

_Source = Annotated[str | None, typer.Option(help="Only this source; * stands for any text.")]
_Type = Annotated[str | None, typer.Option("--type", help="Only this event type: post.*")]
_Handler = Annotated[str | None, typer.Option(help="Only those that this handler gave up.")]
_Reason = Annotated[str | None, typer.Option(help="Only those with this reason.")]
_After = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Died then or later: 2026-11-21T09:30 (UTC), or 2h ago: 2h."),
]
_Before = Annotated[str | None, typer.Option(metavar="TIME", help="Died earlier than that.")]
_Limit = Annotated[int | None, typer.Option(min=1, help="At most so many, the oldest.")]
_SomeIDs = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="As `dead list` shows them.")
]
_All = Annotated[bool, typer.Option("--all", help="All that are there now.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many.")]


@dead.command("list")
def dead_list(  # noqa: PLR0913 - an option each
    *,
    source: _Source = None,
    event_type: _Type = None,
    handler: _Handler = None,
    reason: _Reason = None,
    after: _After = None,
    before: _Before = None,
    limit: _Limit = None,
    group: _Group = None,
    as_json: _AsJSON = False,
) -> None:
    """List dead letters, oldest first.

    In each line: ID, first failure, last failure, source, event type, message ID, handler,
    attempts, reason and the last line of the error.
    """
    from hookmill.admin import dead_letters

    choice = _choice(source, event_type, handler, reason, after, before, limit)
    _run(dead_letters.list_all(_settings(None, group=group), choice, as_json=as_json))


@dead.command("show")
def dead_show(dead_id: str, *, group: _Group = None, as_json: _AsJSON = False) -> None:
    """Show one dead letter whole: its reason, the error, the headers and the body."""
    from hookmill.admin import dead_letters

    _run(dead_letters.show(_settings(None, group=group), dead_id, as_json=as_json))


@dead.command("replay")
def dead_replay(  # noqa: PLR0913 - an option each
    ids: _SomeIDs = None,
    *,
    everything: _All = False,
    source: _Source = None,
    event_type: _Type = None,
    handler: _Handler = None,
    reason: _Reason = None,
    after: _After = None,
    before: _Before = None,
    limit: _Limit = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="At most so many a second.")] = None,
    dry_run: _DryRun = False,
    group: _Group = None,
) -> None:
    """Have dead letters run again, with a fresh count of attempts."""
    from hookmill.admin import dead_letters

    choice = _choice(source, event_type, handler, reason, after, before, limit)
    which = _which(ids, choice, everything=everything)
    settings = _settings(None, group=group)
    _run(dead_letters.replay(settings, which, rate=rate, dry_run=dry_run))


@dead.command("drop")
def dead_drop(  # noqa: PLR0913 - an option each
    ids: _SomeIDs = None,
    *,
    everything: _All = False,
    source: _Source = None,
    event_type: _Type = None,
    handler: _Handler = None,
    reason: _Reason = None,
    after: _After = None,
    before: _Before = None,
    limit: _Limit = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: _DryRun = False,
    group: _Group = None,
) -> None:
    """Delete dead letters for good. Their senders may then deliver the same message IDs again."""
    from hookmill.admin import dead_letters

    choice = _choice(source, event_type, handler, reason, after, before, limit)
    which = _which(ids, choice, everything=everything)
    settings = _settings(None, group=group)

    def confirm(number: int) -> bool:
        asked = f"drop {number} dead letters of group {settings.group} for good?"
        if not yes and not sys.stdin.isatty():
            _fail(f"{asked} There is nobody to ask: give --yes")
        return yes or typer.confirm(asked)

    _run(dead_letters.drop(settings, which, confirm=confirm, dry_run=dry_run))


def _choice(
    source: str | None,
    event_type: str | None,
    handler: str | None,
    reason: str | None,
    after: str | None,
    before: str | None,
    limit: int | None,
) -> Choice:
    from hookmill.admin.filters import Choice

    return Choice(
        source=source,
        type=event_type,
        handler=handler,
        reason=reason,
        after_ms=_moment("--after", after),
        before_ms=_moment("--before", before),
        limit=limit,
    )


def _which(ids: list[str] | None, choice: Choice, *, everything: bool) -> list[str] | Choice:
    """Have the user say it in one way: a slip must not replay or drop what was not meant."""
    chosen = not choice.is_everything
    if [bool(ids), everything, chosen].count(True) != 1 or (ids and choice.limit):
        raise typer.BadParameter("give IDs, or filters, or --all")
    return ids or choice


def _moment(option: str, text: str | None) -> int | None:
    from hookmill.admin.filters import moment_ms

    try:
        return None if text is None else moment_ms(text, time.time())
    except ValueError:
        raise typer.BadParameter(
            f"{option} {text}: give a time such as 2026-11-21T09:30, or how long ago: 30m, 2h, 7d"
        ) from None


def _settings(name: str | None, **overrides: Any) -> Settings:
    """Read the settings and set up logging as they say."""
    with _without("rich"):  # structlog would load it, 3 MB, for tracebacks that are plain here
        from hookmill.runtime.logs import configure_logs
    from hookmill.config.settings import load_settings

    settings = load_settings(**overrides)
    bound = {"program": name} if name else {}
    configure_logs(settings.log_format, settings.log_level, **bound)
    return settings


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Have a module count as missing while another is imported that does without it, too."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # Python's own way to say so
    try:
        yield
    finally:
        del sys.modules[module]


def _run(main: Coroutine[Any, Any, T]) -> T:
    import asyncio

    return asyncio.run(main)


def _read(path: Path, status: int = 1) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        _fail(f"{path}: {error.strerror}", status)


def _fail(text: str, status: int = 1) -> NoReturn:
    typer.echo(f"hookmill: {text}", err=True)
    raise typer.Exit(status)
