"""`Handlers`: which functions run for which event, and how often they may try.

A table and its look-up, no I/O. The worker takes a handler from here and runs it; what a
handler may raise to steer its message (`Retry`, `Discard`) stands here too.
"""

from __future__ import annotations

import functools
import inspect
import random
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar, overload

import msgspec

from hookmill.errors import HandlersError
from hookmill.events import Event, EventMeta, check_fields, check_tag
from hookmill.message import Message

E_co = TypeVar("E_co", covariant=True)
R = TypeVar("R")
_Event = TypeVar("_Event", bound=Event)


class Delivery(Generic[E_co]):
    """One attempt at a message, as a handler sees it."""

    __slots__ = ("attempt", "event", "message")

    def __init__(self, event: E_co, message: Message, attempt: int) -> None:
        self.event = event
        """The typed event; for a handler of a name or pattern, the raw message."""
        self.message = message
        """The message at rest: `source`, `type`, `body` (bytes), `headers`, `received_at`."""
        self.attempt = attempt
        """1 for the first attempt. Waiting asked for by `Retry` does not count as one."""

    @property
    def id(self) -> str:
        """The message ID: hand it on as the idempotency key of what the handler does."""
        return self.message.id

    def __repr__(self) -> str:
        return f"<Delivery {self.id} {self.message.type} attempt {self.attempt}>"


class Retry(Exception):  # noqa: N818 - a control word, not an error
    """Raise in a handler to be run again `after` seconds. It does not count as a failure."""

    def __init__(self, after: float | timedelta = 30.0, reason: str = "") -> None:
        seconds = after.total_seconds() if isinstance(after, timedelta) else float(after)
        if not 0 <= seconds <= MAX_DELAY:
            raise ValueError(f"Retry(after={after!r}): give 0 to {MAX_DELAY} seconds")
        self.after = seconds
        self.reason = reason
        super().__init__(reason or f"asked to wait {seconds:g} s")


class Discard(Exception):  # noqa: N818 - a control word, not an error
    """Raise in a handler to finish the message without success. It is logged, not kept."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


MAX_DELAY = 366 * 86_400
"""The longest a message may be asked to wait, in seconds."""


class Backoff(msgspec.Struct, frozen=True):
    """Exponential waiting with full jitter; all in seconds.

    Before attempt n + 1 a message waits between 0 and `first * factor ** (n - 1)`, at most
    `ceiling`. The defaults give up to 2 s, 6 s, 18 s, 54 s, 2.7 min, 8 min, 24 min, 1 h, 1 h ...
    """

    first: float = 2.0
    factor: float = 3.0
    ceiling: float = 3600.0

    def __post_init__(self) -> None:
        if not (self.first >= 0 and self.factor >= 1 and 0 <= self.ceiling <= MAX_DELAY):
            raise HandlersError(
                f"{self}: give first from 0, factor from 1, and ceiling up to {MAX_DELAY} (seconds)"
            )

    def bound(self, failures: int) -> float:
        """Return the longest wait after this many failures (1 or more)."""
        try:
            return min(self.ceiling, self.first * float(self.factor) ** (failures - 1))
        except OverflowError:
            return self.ceiling if self.first else 0.0

    def wait(self, failures: int) -> float:
        """Draw the wait after this many failures."""
        # Jitter spreads load; it protects no secret.
        return random.uniform(0, self.bound(failures))  # noqa: S311 - as above


class Handler(NamedTuple):
    """One registered function with its options."""

    name: str
    patterns: tuple[str, ...]
    event: type[Event] | None
    function: Callable[..., Any]
    takes_resources: bool
    is_async: bool
    attempts: int
    timeout: float
    backoff: Backoff

    def receives(self, event_type: str) -> bool:
        """Say whether messages of this event type are for this handler."""
        return any(matches_pattern(pattern, event_type) for pattern in self.patterns)

    def read(self, message: Message) -> Event | Message:
        """Return what the delivery carries: the typed event, or the message where none is declared.

        Raises `DecodeError` when the body does not fit the event.
        """
        return message if self.event is None else self.event.from_message(message)


Next: TypeAlias = Callable[[Delivery[Any]], Awaitable[None]]
Middleware: TypeAlias = Callable[[Delivery[Any], Next], Awaitable[None]]
Lifespan: TypeAlias = Callable[[], AbstractAsyncContextManager[R]]

_Returned = TypeVar("_Returned")


class _Register(Generic[E_co, R]):
    """The decorator `on` returns: adds a function to the table and gives it back unchanged.

    To a type checker the function keeps its parameters' types and what it returns, but not their
    names: a bound that depends on the event cannot be put on the function's own type.
    """

    def __init__(self, add: Callable[[Callable[..., Any]], None]) -> None:
        self._add = add

    @overload
    def __call__(
        self, function: Callable[[Delivery[E_co]], _Returned], /
    ) -> Callable[[Delivery[E_co]], _Returned]: ...
    @overload
    def __call__(
        self, function: Callable[[Delivery[E_co], R], _Returned], /
    ) -> Callable[[Delivery[E_co], R], _Returned]: ...
    def __call__(self, function: Callable[..., Any], /) -> Callable[..., Any]:
        self._add(function)
        return function


class Handlers(Generic[R]):
    """The table of handlers that a worker runs.

    `lifespan` is a function that returns an async context manager; what it yields (a database
    pool, say) is given to every handler that takes a second parameter.
    """

    @overload
    def __init__(self: Handlers[None]) -> None: ...
    @overload
    def __init__(self, lifespan: Lifespan[R]) -> None: ...
    def __init__(self, lifespan: Lifespan[R] | None = None) -> None:
        if inspect.isasyncgenfunction(lifespan):
            raise HandlersError(
                f"the lifespan {lifespan.__name__!r} is a bare generator: "
                "decorate it with contextlib.asynccontextmanager"
            )
        self.lifespan = lifespan
        self.middlewares: list[Middleware] = []
        self._by_name: dict[str, Handler] = {}
        self._ignored: list[str] = []
        # Types come from outside, so the cache is bounded.
        self.matching = functools.lru_cache(maxsize=4096)(self._matching)

    @overload
    def on(
        self,
        event: type[_Event],
        /,
        *,
        name: str | None = None,
        attempts: int = 8,
        timeout: float = 30.0,
        backoff: Backoff = ...,
    ) -> _Register[_Event, R]: ...
    @overload
    def on(
        self,
        event: str,
        /,
        *,
        name: str | None = None,
        attempts: int = 8,
        timeout: float = 30.0,
        backoff: Backoff = ...,
    ) -> _Register[Message, R]: ...
    def on(
        self,
        event: type[Event] | str,
        /,
        *,
        name: str | None = None,
        attempts: int = 8,
        timeout: float = 30.0,
        backoff: Backoff = Backoff(),  # noqa: B008 - it is frozen
    ) -> _Register[Any, R]:
        """Register the decorated function for an event class, or for a name or pattern.

        For a class it receives what has the class's name on the wire, or one of its aliases. In a
        pattern `*` stands for any text, dots included: `"post.*"`, `"*"`. A function for a
        class gets `Delivery[Class]`, one for a pattern `Delivery[Message]`. An `async def` runs
        on the event loop, a plain `def` in a thread. `attempts` is how often it may fail before
        the message goes to the dead letters; `timeout` is in seconds an attempt. `name` is the
        handler's stable name in stored retries; it defaults to the function's own.

        Every handler that matches runs, and each one succeeds and retries for itself. To use one
        function for several events, register it once for each: `handlers.on(A, name="a")(f)`.
        """
        if not isinstance(event, str | EventMeta):
            raise HandlersError(f"on({event!r}): give an event class, or a name or pattern")
        pattern = event if isinstance(event, str) else check_tag(event)
        patterns = (event,) if isinstance(event, str) else event.names
        if attempts < 1:
            raise HandlersError(f"attempts={attempts} for {pattern!r}: give at least 1")
        if not 0 < timeout <= MAX_DELAY:
            raise HandlersError(f"timeout={timeout} for {pattern!r}: give seconds above 0")

        def add(function: Callable[..., Any]) -> None:
            self._add(
                Handler(
                    name=name or _name_of(function),
                    patterns=patterns,
                    event=None if isinstance(event, str) else event,
                    function=function,
                    takes_resources=_takes_resources(function),
                    is_async=_is_async(function),
                    attempts=attempts,
                    timeout=timeout,
                    backoff=backoff,
                )
            )

        return _Register(add)

    def ignore(self, *patterns: str) -> None:
        """Name event types that need no handler: their messages are acknowledged and counted."""
        self._ignored.extend(patterns)
        self.matching.cache_clear()

    def middleware(self, function: Middleware) -> Middleware:
        """Wrap every handler: `async def timing(delivery, call_next): await call_next(delivery)`.

        The first one registered is the outermost.
        """
        self.middlewares.append(function)
        return function

    def named(self, name: str) -> Handler | None:
        """Return the handler of this name, if there is one."""
        return self._by_name.get(name)

    def ignores(self, event_type: str) -> bool:
        """Say whether this event type was named in `ignore`."""
        return any(matches_pattern(pattern, event_type) for pattern in self._ignored)

    def check(self) -> None:
        """Raise `HandlersError` for what shows only once everything has been declared.

        `hookmill worker` asks before it takes a message: such a fault would fail every one.
        """
        for handler in self._by_name.values():
            if handler.event is not None:
                check_fields(handler.event)
            if handler.takes_resources and self.lifespan is None:
                raise HandlersError(
                    f"handler {handler.name!r} takes a second parameter, but there is no lifespan "
                    "to yield it: Handlers(lifespan)"
                )

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._by_name.values())

    def _matching(self, event_type: str) -> tuple[Handler, ...]:
        # By handler, so that each is found once, whichever of its names and however many match.
        return tuple(handler for handler in self._by_name.values() if handler.receives(event_type))

    def _add(self, handler: Handler) -> None:
        if handler.name in self._by_name:
            raise HandlersError(
                f"two handlers are named {handler.name!r}: rename one, or give it "
                "on(..., name=...) (retries find their handler by its name)"
            )
        self._by_name[handler.name] = handler
        self.matching.cache_clear()


def matches_pattern(pattern: str, text: str) -> bool:
    """Return whether the whole text fits the pattern, in which `*` stands for any text."""
    if "*" not in pattern:
        return pattern == text
    parts = map(re.escape, pattern.split("*"))
    return re.fullmatch(".*".join(parts), text, re.DOTALL) is not None


def _name_of(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise HandlersError(
            f"{function!r} has no name of its own: give it on(..., name=...) "
            "(retries find their handler by its name)"
        )
    return name


def _is_async(function: Callable[..., Any]) -> bool:
    """Say whether calling it gives something to await.

    Any layer of a chain of decorators may be what makes it so. Taken for a plain function, its
    coroutine would be dropped unrun and the message counted as handled.
    """
    for layer in _layers(function):
        call = getattr(layer, "__call__", None)  # noqa: B004 - an object with an async __call__
        if inspect.iscoroutinefunction(layer) or inspect.iscoroutinefunction(call):
            return True
        if inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer):
            shown = getattr(layer, "__name__", layer)
            raise HandlersError(f"{shown!r} is a generator: its body would never run")
    return False


def _layers(function: Any) -> Iterator[Any]:
    """Give the function and what it wraps, from the outside in."""
    while function is not None:
        yield function
        is_partial = isinstance(function, functools.partial)
        function = function.func if is_partial else getattr(function, "__wrapped__", None)


def _takes_resources(function: Callable[..., Any]) -> bool:
    # A decorator that passes on whatever it is given says nothing; what it decorates does.
    signature = inspect.signature(function, follow_wrapped=False)
    if any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
        signature = inspect.signature(function)
    needed = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        and parameter.default is parameter.empty
    ]
    if len(needed) not in {1, 2} or any(p.kind is p.KEYWORD_ONLY for p in needed):
        raise HandlersError(
            f"{getattr(function, '__name__', function)!r} takes {signature}: a handler takes the "
            "delivery and, if it wants them, the lifespan's resources"
        )
    return len(needed) == 2
