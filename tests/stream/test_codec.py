"""The arguments of the scripts that take and settle entries, and the reading of their replies."""

from __future__ import annotations

import pytest

from hookmill.stream.codec import directly_taken_of, settling_calls, taken_of, taking_keys
from hookmill.stream.entries import (
    AGAIN,
    STREAM,
    Duplicate,
    Entry,
    EntryRef,
    FollowUp,
    Settlement,
    Taken,
)
from hookmill.stream.keys import Keys

PARTITIONS = [Keys("p", number).of_group("main") for number in range(2)]


def test_entries_of_one_run_share_the_names_of_their_fields() -> None:
    names = [b"id", b"body"]
    runs = [
        [1, 0, names, [b"1-0", 3, b"a", b"{}", b"2-0", 4, b"b", b"[]"]],
        [2, 1, [b"id"], [b"9-0", 1, b"c"]],
    ]
    taken = taken_of({3: [runs, [], 0]})
    assert taken.entries == [
        Entry(EntryRef(STREAM, "1-0", 3), {b"id": b"a", b"body": b"{}"}, weight=3),
        Entry(EntryRef(STREAM, "2-0", 3), {b"id": b"b", b"body": b"[]"}, weight=4),
        Entry(EntryRef(AGAIN, "9-0", 3), {b"id": b"c"}, is_suspect=True, weight=1),
    ]


def test_an_entry_without_fields_is_read() -> None:
    taken = taken_of({0: [[[1, 0, [], [b"1-0", 0, b"2-0", 0]]], [], 0]})
    assert [entry.ref.id for entry in taken.entries] == ["1-0", "2-0"]


def test_what_the_partitions_reply_is_added_up() -> None:
    taken = taken_of({0: [[], [[1, b"1-0", b"m"]], 2, 50], 1: [[], [[2, b"7-1", b"\xff"]], 3, 60]})
    assert taken.duplicates == [
        Duplicate(EntryRef(STREAM, "1-0", 0), "m"),
        Duplicate(EntryRef(AGAIN, "7-1", 1), "\N{REPLACEMENT CHARACTER}"),
    ]
    assert (taken.entries, taken.parked) == ([], 5)


def test_successes_without_a_key_are_sent_as_bare_ids() -> None:
    refs = [EntryRef(STREAM, "1-0"), EntryRef(AGAIN, "5-0"), EntryRef(STREAM, "2-0")]
    settled = [Settlement(ref, weight=7) for ref in refs]
    ((call, others),) = settling_calls(PARTITIONS, ["main", "c1"], settled)
    assert (call.place, others) == (0, [])
    assert list(call.args) == ["main", "c1", 0, 0, 2, 14, "1-0", "2-0", 1, 7, "5-0"]


def test_each_partition_has_a_call_of_its_own() -> None:
    settlements = [Settlement(EntryRef(STREAM, f"{number}-0", number)) for number in (1, 0)]
    calls = settling_calls(PARTITIONS, ["main", "c1"], settlements)
    streams = {call.place: call.keys[0] for call, _ in calls}
    assert streams == {0: "p:{0}:stream", 1: "p:{1}:stream"}


def test_of_a_follow_up_only_what_changes_is_sent() -> None:
    follow_up = FollowUp("again", "1-0/h", {b"handler": b"h", b"attempts": b"1"}, delay_ms=500)
    fields = {b"id": b"m", b"body": b"{}"}
    settled = [
        Settlement(EntryRef(STREAM, "1-0"), (follow_up,), owner=b"1-0", weight=9, fields=fields),
        Settlement(EntryRef(AGAIN, "2-0"), key=b"s:7", owner=b"1-1"),
    ]
    ((call, others),) = settling_calls(PARTITIONS, ["main", "c1"], settled)
    assert others == settled
    assert list(call.args) == [
        *("main", "c1", 0, 0, 0, 0, 0, 0),
        *(1, "1-0", 9, b"", b"1-0", 0, 1),
        *("again", 500, "1-0/h", 4, b"handler", b"h", b"attempts", b"1"),
        *(2, "2-0", 0, b"s:7", b"1-1", 0, 0),
    ]


def test_the_fields_of_an_entry_are_sent_where_redis_does_not_have_them() -> None:
    follow_up = FollowUp("dead", "1-0/h", {b"reason": b"failed"})
    settled = [Settlement(EntryRef(STREAM, "1-0"), (follow_up,), fields={b"id": b"m"})]
    ((call, _),) = settling_calls(PARTITIONS, ["main", "c1"], settled, whole=True)
    assert list(call.args)[8:] == [
        *(1, "1-0", 0, b"", b"", 2, b"id", b"m", 1),
        *("dead", 0, "1-0/h", 2, b"reason", b"failed"),
    ]


def test_nothing_to_settle_is_no_call() -> None:
    assert settling_calls(PARTITIONS, ["main", "c1"], []) == []


def test_the_keys_are_given_in_the_order_in_which_the_scripts_state_them() -> None:
    keys = PARTITIONS[0]
    assert taking_keys(keys) == [
        *(keys.stream, keys.again, keys.owners, keys.busy, keys.parked, keys.counts)
    ]


def read_directly(*ids: bytes) -> list[list[object]]:
    """A reply of XREADGROUP."""
    return [[b"stream", [[one, [b"id", b"x", b"v3", b"yz"]] for one in ids]]]


def test_a_direct_read_gives_what_runs_and_leaves_out_what_the_script_holds_back() -> None:
    duplicates = [[1, b"5-1", b"x"]]
    ended = [
        duplicates,
        1,
        [b"5-1", b"6-0"],
        [[b"5-0", b"5-1", 2], [b"6-0", b"6-0", 1]],
        1,
        0,
        7,
        1,
    ]
    taken = directly_taken_of(3, read_directly(b"5-0", b"5-1", b"6-0"), ended)
    assert taken == Taken(
        [Entry(EntryRef(STREAM, "5-0", 3), {b"id": b"x", b"v3": b"yz"}, weight=3)],
        [Duplicate(EntryRef(STREAM, "5-1", 3), "x")],
        parked=1, weight=9, has_more=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "ended",
    [
        0,
        RuntimeError("an error of Redis"),
        [[], 0, [], [], 1, 0, 1],
        [[], 0, [], [[b"5-0", b"5-0", 1]], 1, 0, 1],
        [[], 0, [], [[b"5-0", b"5-2", 3]], 1, 0, 1],
        [[], 0, [], [[b"5-0", b"5-2", 2]], 1, 0, 1],
        [[], 0, [], [[b"4-0", b"5-1", 2]], 1, 0, 1],
        [[], 0, [], [[b"5-0", b"5-0", 1], [b"6-0", b"6-0", 1]], 1, 0, 7, 1],
    ],
)
def test_what_a_direct_read_has_brought_counts_only_if_the_script_names_all_of_it(
    ended: object,
) -> None:
    assert directly_taken_of(0, read_directly(b"5-0", b"5-1"), ended) is None
