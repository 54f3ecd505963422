"""Publishes several messages in as few requests as possible; each has its own result.

A batch is signed just before it is sent. A message that cannot be part of a batch is sent alone.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from hookmill.errors import SendError
from hookmill.printable import printable
from hookmill.sending import qstash_api
from hookmill.sending.exchange import HttpResponse
from hookmill.sending.outgoing import Published
from hookmill.sending.prepare import PreparedMessage
from hookmill.sending.qstash_api import AcceptedMessage, ItemReply
from hookmill.sending.qstash_client import QStashClient
from hookmill.sending.send_errors import SHOWN_CHARACTERS, RequestInfo
from hookmill.sending.urls import shown

MAX_BYTES = 100_000_000
MAX_ITEMS = 1000
"""Limits of one batch. More messages are sent as several batches."""

SendResult = Published | SendError

_STOPPING_STATUSES = {None, 401, 403, 429}
"""After a batch failed with one of these, the next would fail as well. None: no response."""


class BatchItem(NamedTuple):
    """A message and its item in a batch. `raw` None: the message is sent alone."""

    prepared: PreparedMessage
    raw: bytes | None


async def publish_all(
    client: QStashClient,
    messages: Sequence[PreparedMessage],
    publish_one: Callable[[PreparedMessage], Awaitable[Published]],
) -> list[SendResult]:
    """Publish messages and return their results, in their order."""
    results: list[SendResult] = []
    for batch in batches(messages):
        if isinstance(batch, SendError):
            results.append(batch)
            continue
        try:
            results += await _publish(client, batch, publish_one)
        except SendError as error:
            results += [_for_one_message(error, item.prepared) for item in batch]
            if _stops_all(error):
                break
    return results + [_not_tried(one) for one in messages[len(results) :]]


def batches(messages: Iterable[PreparedMessage]) -> Iterator[list[BatchItem] | SendError]:
    """Group messages into batches, in their order. A message that cannot be signed is an error."""
    batch: list[BatchItem] = []
    size = 2
    for prepared in messages:
        made = _item(prepared)
        length = 0 if isinstance(made, SendError) or made.raw is None else len(made.raw) + 1
        is_full = len(batch) >= MAX_ITEMS or size + length > MAX_BYTES
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


def _item(prepared: PreparedMessage) -> BatchItem | SendError:
    try:
        raw = prepared.batch_item(time.time())
    except SendError as error:
        return error
    is_too_large = raw is not None and len(raw) + 2 > MAX_BYTES
    return BatchItem(prepared, None if is_too_large else raw)


async def result_of(
    send: Callable[[PreparedMessage], Awaitable[Published]], prepared: PreparedMessage
) -> SendResult:
    """Send a message; return the error instead of raising it."""
    try:
        return await send(prepared)
    except SendError as error:
        return error


async def _publish(
    client: QStashClient,
    batch: list[BatchItem],
    publish_one: Callable[[PreparedMessage], Awaitable[Published]],
) -> list[SendResult]:
    messages = [item.prepared for item in batch]
    if batch[0].raw is None:
        return [await publish_one(messages[0])]
    request = qstash_api.batch(item.raw for item in batch if item.raw is not None)

    def read(response: HttpResponse) -> list[ItemReply] | None:
        return qstash_api.read_batch(response, len(batch))

    secrets = tuple({one.secret for one in messages})
    info = RequestInfo(f"publishing a batch of {len(batch)}", secrets=secrets)
    replies = await client.request(info, lambda: request, read)
    return [_result(client, one, reply) for one, reply in zip(messages, replies, strict=True)]


def _result(client: QStashClient, prepared: PreparedMessage, reply: ItemReply) -> SendResult:
    url, deduplication_id = prepared.outgoing.url, prepared.deduplication_id
    if isinstance(reply, AcceptedMessage):
        return Published(reply.message_id, reply.deduplicated, deduplication_id, url)
    purpose = f"publishing to {shown(url)}, in a batch"
    if reply is None:
        text = f"{purpose}: the response cannot be read; it may have been accepted"
        return SendError(text, deduplication_id=deduplication_id)
    reason = client.without_secrets(reply.reason, prepared.secret)[:SHOWN_CHARACTERS]
    known = "; an earlier attempt may have published it" if reply.may_be_published else ""
    return SendError(
        f"{purpose}: refused: {printable(reason[:200])}{known}",
        body=reason,
        deduplication_id=deduplication_id,
        may_be_published=reply.may_be_published,
    )


def _for_one_message(error: SendError, prepared: PreparedMessage) -> SendError:
    """Return the error of a whole batch as the error of one of its messages."""
    return SendError(
        str(error),
        status=error.status,
        body=error.body,
        deduplication_id=prepared.deduplication_id,
        may_be_published=error.may_be_published,
        resets_at=error.resets_at,
    )


def _stops_all(error: SendError) -> bool:
    return error.status in _STOPPING_STATUSES or (error.status or 0) >= 500


def _not_tried(prepared: PreparedMessage) -> SendError:
    return SendError(
        f"publishing to {shown(prepared.outgoing.url)}: not tried, because the batch before it "
        "failed",
        deduplication_id=prepared.deduplication_id,
        may_be_published=False,
    )
