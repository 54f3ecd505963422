"""Reads requests that change a queue, a URL group or a flow-control key. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from hookmill.emulator.models import ApiError, Endpoint
from hookmill.emulator.parsing import (
    HIGHEST,
    check_url,
    json_of,
    name_of,
    period_of,
    whole_number,
)


class QueueChange(NamedTuple):
    """The new values of a queue. None: unchanged."""

    name: str
    parallelism: int | None
    is_paused: bool | None


class Pin(NamedTuple):
    """The values to pin a flow-control key to. None: not pinned by this request."""

    parallelism: int | None
    rate: int | None
    period: float | None


class _QueueBody(msgspec.Struct, rename="camel"):
    queue_name: str
    parallelism: int | None = None
    paused: bool | None = None


class _EndpointBody(msgspec.Struct):
    url: str = ""
    name: str | None = None


class _EndpointsBody(msgspec.Struct):
    endpoints: list[_EndpointBody]


def read_queue_change(body: bytes) -> QueueChange:
    """Read POST `/v2/queues`."""
    given = json_of(body, _QueueBody, "an object with queueName")
    parallelism = given.parallelism
    if parallelism is not None and not 1 <= parallelism <= HIGHEST:
        raise ApiError(400, f"parallelism: {parallelism} is not between 1 and {HIGHEST}")
    return QueueChange(name_of("queue", given.queue_name), parallelism, given.paused)


def read_endpoints(body: bytes, *, to_remove: bool = False) -> tuple[Endpoint, ...]:
    """Read the endpoints to add to a URL group. With `to_remove`, a name is enough."""
    given = json_of(body, _EndpointsBody, "an object with endpoints").endpoints
    if not given:
        raise ApiError(400, "endpoints is empty")
    for endpoint in given:
        if endpoint.url:
            check_url(endpoint.url, "url of an endpoint")
        elif not (to_remove and endpoint.name):
            raise ApiError(400, "an endpoint has no url" + (" and no name" * to_remove))
        if endpoint.name:
            name_of("endpoint", endpoint.name)
    return tuple(Endpoint(url=each.url, name=each.name or "") for each in given)


def read_pin(query: Iterable[tuple[str, str]]) -> Pin:
    """Read the values to pin a flow-control key to."""
    given = dict(query)
    numbers = {
        name: whole_number(given[name], name, lowest=1)
        for name in ("parallelism", "rate")
        if given.get(name)
    }
    if not numbers:
        raise ApiError(400, "give parallelism or rate to pin")
    period = period_of(given["period"], "period") if given.get("period") else None
    return Pin(numbers.get("parallelism"), numbers.get("rate"), period)
