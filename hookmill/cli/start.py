"""What a command does first: it reads the settings, sets up the logs and starts an event loop."""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from hookmill.admin.audit import Operator
    from hookmill.config.settings import Settings

T = TypeVar("T")


def read_settings(name: str | None = None, **overrides: Any) -> Settings:
    """Read the settings and set up logging as they say. Raises `SettingsError`.

    `name` is bound to every log line. `overrides` are the options of the command line; None leaves
    a setting as it is.
    """
    with _without("rich"):  # structlog would load it (3 MB) for tracebacks, which are plain here
        from hookmill.runtime.logs import configure_logs
    from hookmill.config.settings import load_settings
    from hookmill.runtime import process, supervised
    from hookmill.runtime.lossy_output import open_missing_files

    if supervised.is_supervised():
        supervised.begin(process.ask_to_stop, process.ask_to_stop_at_once)
    open_missing_files()
    settings = load_settings(**overrides)
    bound: dict[str, Any] = {"program": name} if name else {}
    if (supervisor := supervised.current()) is not None:
        bound["process"] = supervisor.number
    configure_logs(settings.log_format, settings.log_level, **bound)
    return settings


def supervise(settings: Settings, program: str, name: str | None) -> None:
    """Become the supervisor of several processes, if the settings ask for that and this is not yet
    one of them. Otherwise return.
    """
    from hookmill.runtime import supervised

    if settings.processes == 1 or supervised.current() is not None:
        return
    from hookmill.runtime.plan import ProcessPlan, become_supervisor, own_command

    plan = ProcessPlan(
        program,
        settings.processes,
        own_command(),
        settings.shutdown,
        settings.log_format,
        settings.log_level,
        name,
        host=settings.host if program == "receiver" else None,
        port=settings.port,
        admin_host=settings.admin_host,
        admin_port=settings.admin_port,
    )
    become_supervisor(plan)


def operator_of(settings: Settings, why: str) -> Operator:
    """Return who is recorded for a command that acts. What cannot be recorded is said on stderr."""
    from hookmill.admin.audit import Operator
    from hookmill.cli.output import say_error

    return Operator.of(settings, why, say_error)


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Make a module look missing while another is imported that can do without it."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # Python's own sign for a missing module
    try:
        yield
    finally:
        del sys.modules[module]


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end. Raises `KeyboardInterrupt` after a Ctrl-C."""
    import asyncio

    try:
        return asyncio.run(main)
    except asyncio.CancelledError:
        # asyncio forgets a Ctrl-C that comes just before its loop runs, and only cancels.
        raise KeyboardInterrupt from None
    finally:
        main.close()  # a Ctrl-C may come before it has begun, and Python would warn
