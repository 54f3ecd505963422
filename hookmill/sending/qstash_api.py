"""QStash's API without HTTP: builds its requests and reads its replies. No I/O.

`qstash_options` checks the options before, and `qstash_client` makes the requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

import msgspec

from hookmill.sending.exchange import HttpRequest, HttpResponse
from hookmill.sending.outgoing import Published
from hookmill.sending.payload import DeliveryRequest
from hookmill.sending.urls import check_name

_T = TypeVar("_T")

API = "/v2"


# --- requests ---


def message_headers(delivery: DeliveryRequest, options: Mapping[str, str]) -> dict[str, str]:
    """Return all headers of a message: content type, options and forwarded headers."""
    found = {"Content-Type": delivery.headers["Content-Type"], **options}
    for name, value in delivery.headers.items():
        # QStash itself sets Upstash-Message-Id, so ours is not forwarded.
        if name.lower() not in {"content-type", "upstash-message-id"}:
            found[f"Upstash-Forward-{name}"] = value
    return found


def publish(
    delivery: DeliveryRequest, options: Mapping[str, str], queue: str | None = None
) -> HttpRequest:
    """Return the request that publishes a message, or puts it into a queue."""
    path = f"{API}/publish" if queue is None else f"{API}/enqueue/{check_name('queue', queue)}"
    headers = message_headers(delivery, options)
    return HttpRequest("POST", f"{path}/{delivery.url}", headers, delivery.body)


def batch_item(
    delivery: DeliveryRequest, options: Mapping[str, str], queue: str | None
) -> bytes | None:
    """Return a message as an item of a batch; None if its body is not UTF-8 text."""
    try:
        body = delivery.body.decode()
    except UnicodeDecodeError:
        return None
    item = {
        "destination": delivery.url,
        "headers": message_headers(delivery, options),
        "body": body,
        **({} if queue is None else {"queue": check_name("queue", queue)}),
    }
    return msgspec.json.encode(item)


def batch(items: Iterable[bytes]) -> HttpRequest:
    """Return the request that publishes several items."""
    body = b"[" + b",".join(items) + b"]"
    return HttpRequest("POST", f"{API}/batch", {"Content-Type": "application/json"}, body)


def schedule_path(schedule_id: str, action: str = "") -> str:
    """Return the path of a schedule, or of an action on it such as `/pause`."""
    return f"{API}/schedules/{check_name('schedule_id', schedule_id)}{action}"


# --- replies ---


class AcceptedMessage(msgspec.Struct, rename="camel"):
    """A message that QStash accepted: its ID, and its URL where a URL group was addressed."""

    message_id: str = ""
    deduplicated: bool = False
    url: str = ""
    error: str = ""
    """What was wrong with an item of a batch; then there is no ID."""


class RefusedItem(NamedTuple):
    """An item of a batch that QStash refused.

    `may_be_published`: an earlier attempt may have published it all the same.
    """

    reason: str
    may_be_published: bool = False


ItemReply = AcceptedMessage | RefusedItem | None
"""The reply for one item of a batch. None: it cannot be read."""


class _MessageList(msgspec.Struct):
    messages: list[AcceptedMessage]


_accepted = msgspec.json.Decoder(AcceptedMessage)
_group = msgspec.json.Decoder(list[AcceptedMessage] | _MessageList)
_items = msgspec.json.Decoder(list[msgspec.Raw])


def read_published(
    response: HttpResponse, url: str, deduplication_id: str | None
) -> Published | None:
    """Read the reply to one message. None: it cannot be read."""
    accepted = decode(_accepted, response.body)
    if accepted is None or not accepted.message_id:
        return None
    # QStash answers a duplicate with 202.
    is_duplicate = accepted.deduplicated or response.status == 202
    return Published(accepted.message_id, is_duplicate, deduplication_id, url)


def read_group(response: HttpResponse, deduplication_id: str | None) -> list[Published] | None:
    """Read the reply for a URL group, a message for each endpoint. None: it cannot be read."""
    found = decode(_group, response.body)
    accepted = found.messages if isinstance(found, _MessageList) else found
    if accepted is None or not all(one.message_id for one in accepted):
        return None
    return [
        Published(one.message_id, one.deduplicated, deduplication_id, one.url) for one in accepted
    ]


def read_batch(response: HttpResponse, count: int) -> list[ItemReply] | None:
    """Read the reply to a batch of `count` items. None: it cannot be read, or has another count."""
    raws = decode(_items, response.body)
    if raws is None or len(raws) != count:
        return None
    return [_item(bytes(raw), may_be_published=response.may_be_duplicate) for raw in raws]


def _item(raw: bytes, *, may_be_published: bool) -> ItemReply:
    accepted = decode(_accepted, raw)
    if accepted is None:
        return None
    if accepted.error or not accepted.message_id:
        return RefusedItem(accepted.error, may_be_published) if accepted.error else None
    return accepted


def decode(decoder: msgspec.json.Decoder[_T], raw: bytes) -> _T | None:
    """Decode JSON. None: it is not JSON, or not of the expected form."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
