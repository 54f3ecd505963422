"""A message is found in Redis without its headers and bodies, in steps that hold up nobody."""

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


async def test_a_step_of_a_search_ends_with_the_entry_that_is_beyond_its_bytes(
    stream: Producer,
) -> None:
    sizes = [1, 600_000, 600_000, 600_000]
    await stream.append([message(b"x" * size, id=f"m{n}") for n, size in enumerate(sizes)])
    one_step = Whereabouts(stream.client, most=1)
    found = await one_step.in_stream(0, "0-0", "m3")
    assert (found.looked_at, found.is_all) == (3, False)
