"""Makes a worker as one that does not know wire version 3: it says so, and cannot read it.

A test copies this file into the worker's folder, and the worker imports it as
`older_worker:handlers`. It takes the place of a worker of the release before.
"""

from collections.abc import Mapping

from ledger import handlers  # type: ignore[import-not-found] # it is beside this one there

import worker.heartbeat
from hookmill import Message
from hookmill.errors import WireVersionError

__all__ = ["handlers"]

_from_fields = Message.from_fields


def _from_older_fields(fields: Mapping[bytes, bytes]) -> Message:
    if b"version" not in fields:
        raise WireVersionError("wire version none; this release reads versions 1 and 2")
    return _from_fields(fields)


setattr(worker.heartbeat, "WIRE_VERSIONS", (1, 2))  # noqa: B010 - another value than its type says
Message.from_fields = _from_older_fields  # type: ignore[method-assign] # as the older one reads
