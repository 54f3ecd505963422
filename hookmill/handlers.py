"""`Handlers`: the table of functions that a worker runs for events, with their options. No I/O.

Here are also the objects that such a function meets: `Delivery`, and what it may raise to control
its message (`Retry`, `Discard`, `Dead`).
"""

# Long because: the overloads that type checkers need take 60 lines, and it is one import for users.

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar, overload

import msgspec

from hookmill.error_rules import RETRY_ALL, ErrorRules, Errors, error_rules
from hookmill.errors import HandlersError
from hookmill.events import Event, EventMeta, check_fields, check_tag
from hookmill.message import GivenUp, Message

E_co = TypeVar("E_co", covariant=True)
R = TypeVar("R")
_Event = TypeVar("_Event", bound=Event)


class Delivery(msgspec.Struct, Generic[E_co], eq=False):
    """One attempt to handle a message: what a handler is called with."""

    event: E_co
    """The typed event; for a handler of a name or a pattern, the message."""
    message: Message
    """The stored message: `source`, `type`, `body` (bytes), `headers`, `received_at`."""
    attempt: int
    """1 for the first attempt. An attempt that ended with `Retry` is not counted."""

    @property
    def id(self) -> str:
        """The message ID. Use it as the idempotency key of what the handler does."""
        return self.message.id

    def __repr__(self) -> str:
        return f"<Delivery {self.id} {self.message.type} attempt {self.attempt}>"


class Retry(Exception):  # noqa: N818 - a control word, not an error
    """Raise it in a handler to run again after `after` seconds. It does not count as a failure."""

    def __init__(self, after: float | timedelta = 30.0, reason: str = "") -> None:
        seconds = after.total_seconds() if isinstance(after, timedelta) else float(after)
        if not 0 <= seconds <= MAX_DELAY:
            raise ValueError(f"Retry(after={after!r}): give 0 to {MAX_DELAY} seconds")
        self.after = seconds
        self.reason = reason
        super().__init__(reason or f"asked to wait {seconds:g} s")


class Discard(Exception):  # noqa: N818 - a control word, not an error
    """Raise it in a handler to finish the message without success. It is logged, but not kept."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Dead(Exception):  # noqa: N818 - a control word, not an error
    """Raise it in a handler to give up now: the message becomes a dead letter with this reason.

    The reason is one line of at most 300 characters. `hookmill dead list --reason` finds it.
    """

    def __init__(self, reason: str) -> None:
        self.reason = " ".join(str(reason).split())[:MAX_REASON] or "given_up"
        super().__init__(self.reason)


MAX_REASON = 300
"""Characters of the reason of `Dead` that are kept. It is short, because lists show it."""

MAX_DELAY = 366 * 86_400
"""The longest time that a message can be made to wait, in seconds."""


class Backoff(msgspec.Struct, frozen=True):
    """Exponential backoff with full jitter; all times in seconds.

    Before attempt n + 1 a message waits a random time, from 0 to `first * factor ** (n - 1)` but
    at most `ceiling`. The defaults wait up to 2 s, 6 s, 18 s, 54 s, 2.7 min, 8 min, 24 min, 1 h ...
    """

    first: float = 2.0
    factor: float = 3.0
    ceiling: float = 3600.0

    def __post_init__(self) -> None:
        if not (self.first >= 0 and self.factor >= 1 and 0 <= self.ceiling <= MAX_DELAY):
            raise HandlersError(
                f"{self}: give first of 0 or more, factor of 1 or more, and ceiling from 0 to "
                f"{MAX_DELAY} (seconds)"
            )

    def bound(self, failures: int) -> float:
        """Return the longest wait after this many failures (1 or more)."""
        try:
            return min(self.ceiling, self.first * float(self.factor) ** (failures - 1))
        except OverflowError:
            return self.ceiling if self.first else 0.0

    def wait(self, failures: int) -> float:
        """Return a random wait after this many failures."""
        return random.uniform(0, self.bound(failures))  # noqa: S311 - it spreads load, no secret


class Handler(NamedTuple):
    """A registered function with its options."""

    name: str
    patterns: tuple[str, ...]
    event: type[Event] | None
    function: Callable[..., Any]
    takes_resources: bool
    is_async: bool
    attempts: int = 8
    timeout: float = 30.0
    backoff: Backoff = Backoff()
    aliases: tuple[str, ...] = ()
    errors: ErrorRules = RETRY_ALL

    def receives(self, event_type: str) -> bool:
        """Return whether messages of this event type are for this handler."""
        return any(matches_pattern(pattern, event_type) for pattern in self.patterns)

    def read(self, message: Message) -> Event | Message:
        """Return the typed event of a message, or the message itself if no event class is declared.

        Raises `DecodeError` if the body does not fit the event.
        """
        return message if self.event is None else self.event.from_message(message)


class DeadWatcher(NamedTuple):
    """A function that is called for each dead letter."""

    name: str
    function: Callable[..., Any]
    takes_resources: bool
    is_async: bool


Next: TypeAlias = Callable[[Delivery[Any]], Awaitable[None]]
Middleware: TypeAlias = Callable[[Delivery[Any], Next], Awaitable[None]]
Lifespan: TypeAlias = Callable[[], AbstractAsyncContextManager[R]]

_Returned = TypeVar("_Returned")


class _Register(Generic[E_co, R]):
    """The decorator that `on` returns: it adds a function to the table and returns it unchanged.

    A type checker keeps the types of the function's parameters and of its result, but not the names
    of the parameters, because a bound that depends on the event needs a type of our own.
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

    `lifespan` is a function that returns an async context manager. What that yields, such as a
    database pool, is the second argument of every handler that takes two parameters.
    """

    @overload
    def __init__(self: Handlers[None]) -> None: ...
    @overload
    def __init__(self, lifespan: Lifespan[R]) -> None: ...
    def __init__(self, lifespan: Lifespan[R] | None = None) -> None:
        if inspect.isasyncgenfunction(lifespan):
            raise HandlersError(
                f"the lifespan {lifespan.__name__!r} is a plain generator: "
                "decorate it with contextlib.asynccontextmanager"
            )
        self.lifespan = lifespan
        self.middlewares: list[Middleware] = []
        self.dead_watchers: list[DeadWatcher] = []
        self._by_name: dict[str, Handler] = {}
        self._by_alias: dict[str, Handler] = {}
        self._ignored: list[str] = []
        # The cache is bounded, because senders choose the event types.
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
        aliases: tuple[str, ...] = (),
        retry_on: tuple[type[BaseException], ...] = (),
        dead_on: tuple[type[BaseException], ...] = (),
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
        aliases: tuple[str, ...] = (),
        retry_on: tuple[type[BaseException], ...] = (),
        dead_on: tuple[type[BaseException], ...] = (),
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
        aliases: tuple[str, ...] = (),
        retry_on: Errors = (),
        dead_on: Errors = (),
    ) -> _Register[Any, R]:
        """Register the decorated function for an event class, or for a name or pattern.

        For a class, it gets the messages with the class's name on the wire or one of its aliases,
        as `Delivery[Class]`. For a pattern, it gets `Delivery[Message]`; `*` stands for any text,
        dots included: `"post.*"`. An `async def` runs on the event loop, a plain `def` in a thread.
        After `attempts` failures the message becomes a dead letter. `timeout` is the time of one
        attempt, in seconds. Stored retries find the handler by `name`, by default the function's,
        and by `aliases`, its earlier names.

        Errors of the classes `dead_on` make the message a dead letter at once. With `retry_on` only
        errors of those classes are retried, and all others make it a dead letter at once. The most
        specific class decides. An exception group is judged by the errors in it.

        Every matching handler runs, and succeeds or retries independently of the others. To use one
        function for several events, register it once for each: `handlers.on(A, name="a")(f)`.
        """
        _check_event(event)
        _check_limits(event, attempts, timeout)
        _check_aliases(event, aliases)
        errors = error_rules(_shown(event), retry_on, dead_on, (Retry, Discard, Dead))

        def add(function: Callable[..., Any]) -> None:
            handler = _handler(function, event, name)
            handler = handler._replace(attempts=attempts, timeout=timeout, backoff=backoff)
            self._add(handler._replace(aliases=aliases, errors=errors))

        return _Register(add)

    def ignore(self, *patterns: str) -> None:
        """Name event types or patterns that need no handler: they are acknowledged and counted."""
        self._ignored.extend(patterns)
        self.matching.cache_clear()

    def middleware(self, function: Middleware) -> Middleware:
        """Wrap every handler: `async def timing(delivery, call_next): await call_next(delivery)`.

        The one that is registered first is the outermost.
        """
        self.middlewares.append(function)
        return function

    @overload
    def on_dead(
        self, function: Callable[[GivenUp], _Returned], /
    ) -> Callable[[GivenUp], _Returned]: ...
    @overload
    def on_dead(
        self, function: Callable[[GivenUp, R], _Returned], /
    ) -> Callable[[GivenUp, R], _Returned]: ...
    def on_dead(self, function: Callable[..., Any], /) -> Callable[..., Any]:
        """Call this function for each message that has become a dead letter, to tell somebody.

        It is called after the dead letter is stored, at most once: a worker that dies in between
        does not call it. Its own failure is only logged. It may be `async def` or `def`, and take
        what the lifespan yields as its second parameter. It has 30 seconds.
        """
        self.dead_watchers.append(
            DeadWatcher(
                name=getattr(function, "__name__", repr(function)),
                function=function,
                takes_resources=_takes_resources(function),
                is_async=_is_async(function),
            )
        )
        return function

    def named(self, name: str) -> Handler | None:
        """Return the handler that has this name, or had it earlier; None if there is none."""
        return self._by_name.get(name) or self._by_alias.get(name)

    @property
    def ignored(self) -> tuple[str, ...]:
        """The event types and patterns that were named in `ignore`."""
        return tuple(self._ignored)

    def ignores(self, event_type: str) -> bool:
        """Return whether this event type was named in `ignore`."""
        return any(matches_pattern(pattern, event_type) for pattern in self._ignored)

    def check(self) -> None:
        """Raise `HandlersError` for a fault that shows only after all declarations.

        `hookmill worker` calls it before it takes a message, because every message would fail.
        """
        for handler in self._by_name.values():
            if handler.event is not None:
                check_fields(handler.event)
        functions: list[Handler | DeadWatcher] = [*self._by_name.values(), *self.dead_watchers]
        for one in functions:
            if one.takes_resources and self.lifespan is None:
                raise HandlersError(
                    f"handler {one.name!r} takes a second parameter, but there is no lifespan: "
                    "give one, Handlers(lifespan), or remove the parameter"
                )

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._by_name.values())

    def _matching(self, event_type: str) -> tuple[Handler, ...]:
        # Over handlers, so that each is found only once, even if several of its names match.
        return tuple(handler for handler in self._by_name.values() if handler.receives(event_type))

    def _add(self, handler: Handler) -> None:
        if handler.name in self._by_name:
            raise HandlersError(
                f"two handlers are named {handler.name!r}: rename one, or give it "
                "on(..., name=...) (retries find their handler by its name)"
            )
        for name in (handler.name, *handler.aliases):
            if (other := self.named(name)) is not None:
                raise HandlersError(
                    f"{name!r} is a name or an alias of two handlers, {handler.name!r} and "
                    f"{other.name!r}: stored retries would not know which of them is meant"
                )
        self._by_name[handler.name] = handler
        self._by_alias.update(dict.fromkeys(handler.aliases, handler))
        self.matching.cache_clear()


def matches_pattern(pattern: str, text: str) -> bool:
    """Return whether the whole text fits the pattern, in which `*` stands for any text.

    Each part between two stars is taken where it is found first. So the text is read once, however
    many stars there are: senders choose event types, and a regular expression would try every split
    of the text.
    """
    if "*" not in pattern:
        return pattern == text
    first, *middle, last = pattern.split("*")
    start, end = len(first), len(text) - len(last)
    if start > end or not text.startswith(first) or not text.endswith(last):
        return False
    for part in middle:
        start = text.find(part, start, end)
        if start < 0:
            return False
        start += len(part)
    return True


def _check_event(event: type[Event] | str) -> None:
    if isinstance(event, str):
        return
    if not isinstance(event, EventMeta):
        raise HandlersError(f"on({event!r}): give an event class, or a name or pattern")
    check_tag(event)


def _check_aliases(event: type[Event] | str, aliases: tuple[str, ...]) -> None:
    if not isinstance(aliases, tuple) or not all(isinstance(one, str) and one for one in aliases):
        raise HandlersError(
            f"aliases={aliases!r} for {_shown(event)!r}: give a tuple of earlier names of the "
            'handler, such as ("old_name",)'
        )


def _shown(event: type[Event] | str) -> str:
    return event if isinstance(event, str) else event.tag


def _check_limits(event: type[Event] | str, attempts: int, timeout: float) -> None:
    shown = _shown(event)
    if attempts < 1:
        raise HandlersError(f"attempts={attempts} for {shown!r}: give 1 or more")
    if not 0 < timeout <= MAX_DELAY:
        raise HandlersError(
            f"timeout={timeout} for {shown!r}: give more than 0 and at most {MAX_DELAY} seconds"
        )


def _handler(function: Callable[..., Any], event: type[Event] | str, name: str | None) -> Handler:
    return Handler(
        name=name or _name_of(function),
        patterns=(event,) if isinstance(event, str) else event.names,
        event=None if isinstance(event, str) else event,
        function=function,
        takes_resources=_takes_resources(function),
        is_async=_is_async(function),
    )


def _name_of(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise HandlersError(
            f"{function!r} has no name of its own: give it on(..., name=...) "
            "(retries find their handler by its name)"
        )
    return name


def _is_async(function: Callable[..., Any]) -> bool:
    """Return whether a call of the function returns something to await.

    Each function in a chain of decorators is looked at. A coroutine function that is not recognised
    would never be awaited, and its messages would still count as handled.
    """
    for layer in _layers(function):
        call = getattr(layer, "__call__", None)  # noqa: B004 - an object with an async __call__
        if inspect.iscoroutinefunction(layer) or inspect.iscoroutinefunction(call):
            return True
        if inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer):
            shown = getattr(layer, "__name__", layer)
            raise HandlersError(
                f"{shown!r} is a generator, so its body would never run: remove the yield"
            )
    return False


def _layers(function: Any) -> Iterator[Any]:
    """Yield the function and the functions that it wraps, the outermost first."""
    while function is not None:
        yield function
        is_partial = isinstance(function, functools.partial)
        function = function.func if is_partial else getattr(function, "__wrapped__", None)


def _takes_resources(function: Callable[..., Any]) -> bool:
    # A decorator with *args does not show what it needs; the function that it decorates does.
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
            f"{getattr(function, '__name__', function)!r} takes {signature}: give it one parameter "
            "for the delivery, or a second one for what the lifespan yields"
        )
    return len(needed) == 2
