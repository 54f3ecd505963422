"""What a formatted error keeps in memory is freed at once, whatever the error is linked with."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from hookmill import Dead, Delivery, Discard, Handlers, Retry
from tests.worker.attempts import Paid, Try
from worker.error_memory import release_frames


class Body:
    """Stands for a large message."""


Fail = Callable[[Body], None]


def in_a_cycle(body: Body) -> None:
    error = ValueError("held by its own frame")
    raise error


def by_cause(body: Body) -> None:
    try:
        in_a_cycle(body)
    except ValueError as error:
        raise RuntimeError from error


def by_context(body: Body) -> None:
    try:
        in_a_cycle(body)
    finally:
        raise RuntimeError


def in_a_group(body: Body) -> None:
    try:
        in_a_cycle(body)
    except ValueError as error:
        raise BaseExceptionGroup("several", [error, KeyError()]) from None


@pytest.mark.parametrize("fail", [in_a_cycle, by_cause, by_context, in_a_group])
def test_what_an_errors_frames_hold_is_freed_without_the_garbage_collector(fail: Fail) -> None:
    body = Body()
    held = weakref.ref(body)
    gc.disable()
    try:
        try:
            fail(body)
        except BaseException as error:  # noqa: BLE001 - one of the errors is a group
            release_frames(error)
        del body
        assert held() is None
    finally:
        gc.enable()


def test_errors_that_are_linked_in_a_circle_are_released_as_well() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    release_frames(first)


@pytest.mark.parametrize(
    "raised", [Retry(after=1), Discard("no need"), Dead("never"), ValueError()]
)
async def test_what_a_handler_held_is_freed_whatever_it_raised(
    handlers: Handlers[Any], attempt: Try, raised: Exception
) -> None:
    bodies: list[weakref.ref[Body]] = []

    @handlers.on(Paid)
    async def book(delivery: Delivery[Paid]) -> None:
        body = Body()
        bodies.append(weakref.ref(body))
        in_its_own_frame = raised
        raise in_its_own_frame

    gc.disable()
    try:
        await attempt()
        assert [held() for held in bodies] == [None]
    finally:
        gc.enable()
