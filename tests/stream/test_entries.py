"""Entries and what is taken, as plain values. No Redis here."""

from __future__ import annotations

import pytest

from hookmill.message import Fields
from hookmill.stream.entries import STREAM, Duplicate, Entry, EntryRef, Taken

REF = EntryRef(STREAM, "5-1")


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({}, b""),
        ({b"source": b"marble", b"key": b""}, b""),
        ({b"source": b"marble", b"key": b"7"}, b"marble:7"),
        ({b"key": b"7"}, b":7"),
    ],
)
def test_an_ordering_key_counts_for_its_source(fields: Fields, key: bytes) -> None:
    assert Entry(REF, fields).key == key


def test_an_entry_owns_its_id_itself_unless_another_one_is_named() -> None:
    assert Entry(REF, {}).owner == b"5-1"
    assert Entry(REF, {b"owner": b""}).owner == b"5-1"
    assert Entry(REF, {b"owner": b"4-0"}).owner == b"4-0"


def test_all_that_was_read_counts_whatever_became_of_it() -> None:
    taken = Taken([Entry(REF, {})], [Duplicate(REF, "m")], parked=3)
    assert (taken.read, taken.is_empty) == (5, False)
    assert Taken([], [], parked=1).is_empty is False
    assert Taken([], []).is_empty
