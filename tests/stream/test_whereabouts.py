"""What has no index is looked through in steps that hold up nobody."""

from __future__ import annotations

import pytest

from hookmill.stream.producer import Producer
from hookmill.stream.whereabouts import Whereabouts
from tests.support import message

pytestmark = pytest.mark.one_server


async def test_a_step_of_a_search_ends_with_the_entry_that_is_beyond_its_bytes(
    stream: Producer,
) -> None:
    sizes = [1, 600_000, 600_000, 600_000]
    await stream.append([message(b"x" * size, id=f"m{n}") for n, size in enumerate(sizes)])
    one_step = Whereabouts(stream.client, most=1)
    found = await one_step.in_stream(0, "0-0", "m3")
    assert (found.looked_at, found.is_all) == (3, False)
