"""Makes a worker as one that does not know wire version 3: it says so, and cannot read it.

A test copies this file into the worker's folder, and the worker imports it as
`older_worker:handlers`. It takes the place of a worker of the release before.
"""

from collections.abc import Mapping

from ledger import handlers  # type: ignore[import-not-found] # it is beside this one there
from msgspec import structs

from hookmill import Message
from hookmill.errors import WireVersionError
from hookmill.stream.facts import Heartbeat
from hookmill.stream.heartbeats import Heartbeats

__all__ = ["handlers"]

_from_fields = Message.from_fields
_write = Heartbeats.write


def _from_older_fields(fields: Mapping[bytes, bytes]) -> Message:
    if b"version" not in fields:
        raise WireVersionError("wire version none; this release reads versions 1 and 2")
    return _from_fields(fields)


async def _write_older(self: Heartbeats, heartbeat: Heartbeat) -> None:
    await _write(self, structs.replace(heartbeat, wire_versions=(1, 2)))


# Nothing of the package `worker` is changed: in a copy of the tree it may be another one than ours,
# as the environment knows the tree itself, and handlers are to find a `worker` of their own.
Heartbeats.write = _write_older  # type: ignore[method-assign] # as the older one says
Message.from_fields = _from_older_fields  # type: ignore[method-assign] # as the older one reads
