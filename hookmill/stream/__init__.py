"""The only room that speaks Redis: the stream, its consumer groups, and the scripts.

Every step that decides something is one Lua script under `scripts/`; each states its keys,
arguments and reply. All keys of a partition share a hash tag, so that every script stays in one
cluster slot. Redis' errors leave here as `StreamUnavailableError` or `GroupLostError`.
"""

from hookmill.stream.dead import DeadLetters
from hookmill.stream.group import Group
from hookmill.stream.leases import BlockingLeases
from hookmill.stream.stream import Backlog, Stream

__all__ = ["Backlog", "BlockingLeases", "DeadLetters", "Group", "Stream"]
