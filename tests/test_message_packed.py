"""Which messages are packed into one field, and how their bodies are found again."""

from __future__ import annotations

import msgspec
import pytest

from hookmill.message import LARGEST_PACKED, PACKED_VERSION, SAFE_VERSION, body_of
from tests.support import message

MESSAGE = message(b'{"a": 1}')


def test_a_large_body_is_not_copied_so_its_message_is_written_in_version_2() -> None:
    largest = msgspec.structs.replace(MESSAGE, body=bytes(LARGEST_PACKED))
    larger = msgspec.structs.replace(MESSAGE, body=bytes(LARGEST_PACKED + 1))
    assert b"v3" in largest.to_fields(PACKED_VERSION)
    assert larger.to_fields(PACKED_VERSION)[b"body"] is larger.body


@pytest.mark.parametrize("version", [SAFE_VERSION, PACKED_VERSION])
def test_the_body_of_an_entry_is_found_in_every_version_that_is_written(version: int) -> None:
    assert body_of(MESSAGE.to_fields(version)) == MESSAGE.body
