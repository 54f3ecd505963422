"""Several messages in as few requests as possible: each is answered for by itself.

A batch is signed just before it goes out. What cannot stand in one goes alone.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from hookmill.errors import SendError
from hookmill.sending import qstash_api
from hookmill.sending.outgoing import Published
from hookmill.sending.prepare import Prepared
from hookmill.sending.qstash_api import Refusal, Taken
from hookmill.sending.retry_policy import Answer
from hookmill.sending.transport import BEGINNING, Errand, Service

MOST_BYTES = 100_000_000
MOST_ITEMS = 1000
"""What one batch may hold; more goes as several."""

Result = Published | SendError

_ENDS_ALL = {None, 401, 403, 429}
"""How a batch fails after which the next would fail as well; None: there was no answer."""


class Item(NamedTuple):
    """A message and how it stands in a batch; `raw` None: it goes alone."""

    prepared: Prepared
    raw: bytes | None


async def publish_all(
    service: Service,
    messages: Sequence[Prepared],
    alone: Callable[[Prepared], Awaitable[Published]],
) -> list[Result]:
    """Publish messages, and return what became of each, in their order. `alone` publishes one."""
    results: list[Result] = []
    for batch in batches(messages):
        if isinstance(batch, SendError):
            results.append(batch)
            continue
        try:
            results += await _publish(service, batch, alone)
        except SendError as error:
            results += [_shared(error, item.prepared) for item in batch]
            if _ends_all(error):
                break
    return results + [_not_tried(one) for one in messages[len(results) :]]


def batches(messages: Iterable[Prepared]) -> Iterator[list[Item] | SendError]:
    """Put messages into batches, one after another and in their order; what cannot be signed is an
    error of its own.
    """
    batch: list[Item] = []
    size = 2
    for prepared in messages:
        made = _item(prepared)
        length = 0 if isinstance(made, SendError) or made.raw is None else len(made.raw) + 1
        is_full = len(batch) >= MOST_ITEMS or size + length > MOST_BYTES
        if batch and (is_full or not length):
            yield batch
            batch, size = [], 2
        if isinstance(made, SendError):
            yield made
        elif not length:
            yield [made]
        else:
            batch.append(made)
            size += length
    if batch:
        yield batch


def _item(prepared: Prepared) -> Item | SendError:
    try:
        raw = prepared.item(time.time())
    except SendError as error:
        return error
    is_too_large = raw is not None and len(raw) + 2 > MOST_BYTES
    return Item(prepared, None if is_too_large else raw)


async def tried(send: Callable[[Prepared], Awaitable[Published]], prepared: Prepared) -> Result:
    """Send a message, and return the error where it could not be sent."""
    try:
        return await send(prepared)
    except SendError as error:
        return error


async def _publish(
    service: Service, batch: list[Item], alone: Callable[[Prepared], Awaitable[Published]]
) -> list[Result]:
    messages = [item.prepared for item in batch]
    if batch[0].raw is None:
        return [await alone(messages[0])]
    request = qstash_api.batch(item.raw for item in batch if item.raw is not None)

    def read(answer: Answer) -> list[Taken | Refusal | None] | None:
        return qstash_api.read_batch(answer, len(batch))

    secrets = tuple({one.secret for one in messages})
    errand = Errand(f"publishing a batch of {len(batch)}", secrets=secrets)
    answers = await service.ask(errand, lambda: request, read)
    return [_result(service, one, said) for one, said in zip(messages, answers, strict=True)]


def _result(service: Service, prepared: Prepared, said: Taken | Refusal | None) -> Result:
    url, deduplication_id = prepared.outgoing.url, prepared.deduplication_id
    if isinstance(said, Taken):
        return Published(said.message_id, said.deduplicated, deduplication_id, url)
    what = f"publishing to {qstash_api.shown(url)}, in a batch"
    if said is None:
        text = f"{what}: an answer that cannot be read; it may have been taken all the same"
        return SendError(text, deduplication_id=deduplication_id)
    reason = service.hidden(said.reason, prepared.secret)[:BEGINNING]
    known = "; it may have been taken before" if said.may_be_taken else ""
    return SendError(
        f"{what}: refused: {reason[:200]}{known}",
        body=reason,
        deduplication_id=deduplication_id,
        may_be_published=said.may_be_taken,
    )


def _shared(error: SendError, prepared: Prepared) -> SendError:
    """Return what became of a whole batch as an error of one message."""
    return SendError(
        str(error),
        status=error.status,
        body=error.body,
        deduplication_id=prepared.deduplication_id,
        may_be_published=error.may_be_published,
        resets_at=error.resets_at,
    )


def _ends_all(error: SendError) -> bool:
    return error.status in _ENDS_ALL or (error.status or 0) >= 500


def _not_tried(prepared: Prepared) -> SendError:
    return SendError(
        f"publishing to {qstash_api.shown(prepared.outgoing.url)}: not tried, for the batch before "
        "it failed",
        deduplication_id=prepared.deduplication_id,
        may_be_published=False,
    )
