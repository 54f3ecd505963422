"""Where a message is in Redis is found without its headers and bodies."""

from __future__ import annotations

from hookmill.message import PACKED_VERSION, about_of
from hookmill.stream.producer import Producer
from hookmill.stream.whereabouts import Whereabouts
from tests.support import message


async def test_some_entries_tell_their_sources_and_leave_the_bodies_in_redis(
    stream: Producer,
) -> None:
    small, large = b"y" * 20, b"z" * 40_000  # one is packed, and one is a field of its own
    both = [message(small, source="acme"), message(large, source="acme")]
    await stream.append(both, PACKED_VERSION)
    some = await Whereabouts(stream.client).some_of(0, "-", 10)
    assert [about_of(fields).source for fields in some] == ["acme", "acme"]
    values = [value for fields in some for value in fields.values()]
    assert not any(small in value or large in value for value in values)
