"""A topic of attempts: handlers that give up, that were renamed, and errors not worth a retry."""

from __future__ import annotations

from typing import Any

import pytest

from hookmill import Dead, Delivery, Handlers
from hookmill.message import Message, Progress
from tests.worker.attempts import NOW, OWNER, Paid, Try, entry
from worker.outcome import DeadLettered, Done, FannedOut, RetryLater

# --- giving up ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_handler_may_give_up_at_once_and_its_reason_is_kept(
    handlers: Handlers[Any], attempt: Try, kind: str
) -> None:
    @handlers.on("async", name="async")
    async def on_the_loop(delivery: Delivery[Message]) -> None:
        raise Dead("no such account")

    @handlers.on("plain", name="plain")
    def in_a_thread(delivery: Delivery[Message]) -> None:
        raise Dead("no such account")

    progress = Progress(owner=OWNER, handler=kind, attempts=1, failed_ms=int(NOW * 1000))
    assert await attempt(entry(event_type=kind)) == DeadLettered(progress, "no such account", "")


async def test_the_error_that_a_handler_had_caught_before_it_gave_up_is_kept_too(
    handlers: Handlers[Any], attempt: Try
) -> None:
    @handlers.on("order.*")
    async def book(delivery: Delivery[Message]) -> None:
        try:
            dict[str, str]()["o1"]
        except KeyError as error:
            if delivery.message.type == "order.shown":
                raise Dead("unknown_order") from error
            if delivery.message.type == "order.hidden":
                raise Dead("unknown_order") from None
            raise Dead("unknown_order")  # noqa: B904 - what the test is about

    for event_type in ("order.shown", "order.paid"):
        outcome = await attempt(entry(event_type=event_type))
        assert isinstance(outcome, DeadLettered)
        assert outcome.error.endswith("KeyError: 'o1'\n")
    outcome = await attempt(entry(event_type="order.hidden"))
    assert isinstance(outcome, DeadLettered)
    assert outcome.error == ""


# --- renamed handlers ------------------------------------------------------------------------


async def test_an_entry_for_the_old_name_runs_the_new_handler_and_its_retry_has_the_new_name(
    handlers: Handlers[Any], attempt: Try
) -> None:
    @handlers.on(Paid, aliases=("pay",))
    async def book(delivery: Delivery[Paid]) -> None:
        if delivery.attempt == 3:
            raise ValueError("not yet")

    first = await attempt(entry(progress=Progress(owner=OWNER, handler="pay", attempts=2)))
    assert isinstance(first, RetryLater)
    assert (first.progress.handler, first.progress.attempts) == ("book", 3)
    assert await attempt(entry(progress=first.progress)) == Done("book")


async def test_a_message_for_several_handlers_is_stored_under_their_new_names_only(
    handlers: Handlers[Any], attempt: Try
) -> None:
    @handlers.on(Paid, aliases=("pay",))
    async def book(delivery: Delivery[Paid]) -> None: ...

    @handlers.on("order.*", aliases=("mail_old",))
    async def mail(delivery: Delivery[Message]) -> None: ...

    assert await attempt() == FannedOut(Progress(owner=OWNER), ("book", "mail"))


# --- errors that are not worth a retry ------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_an_error_that_is_not_to_be_retried_makes_a_dead_letter_at_once(
    handlers: Handlers[Any], attempt: Try, kind: str
) -> None:
    @handlers.on("async", name="async", dead_on=(LookupError,))
    async def on_the_loop(delivery: Delivery[Message]) -> None:
        raise KeyError("o1")

    @handlers.on("plain", name="plain", retry_on=(OSError,))
    def in_a_thread(delivery: Delivery[Message]) -> None:
        raise KeyError("o1")

    outcome = await attempt(entry(event_type=kind))
    assert isinstance(outcome, DeadLettered)
    assert outcome.reason == "failed"
    assert outcome.progress == Progress(
        owner=OWNER, handler=kind, attempts=1, failed_ms=int(NOW * 1000)
    )
    assert outcome.error.endswith("KeyError: 'o1'\n")


async def test_an_error_that_may_be_retried_still_is_only_as_often_as_attempts_allow(
    handlers: Handlers[Any], attempt: Try
) -> None:
    @handlers.on(Paid, attempts=2, retry_on=(OSError,))
    async def book(delivery: Delivery[Paid]) -> None:
        raise TimeoutError

    first = await attempt()
    assert isinstance(first, RetryLater)
    assert isinstance(await attempt(entry(progress=first.progress)), DeadLettered)
