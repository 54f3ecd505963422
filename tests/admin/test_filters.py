"""Which dead letters are meant: a table of what a person may say."""

from __future__ import annotations

import pytest

from hookmill.admin.body_paths import condition_of
from hookmill.admin.filters import EVERYTHING, DeadLetterFilter, moment_ms
from hookmill.admin.fingerprints import kind_of
from hookmill.message import PACKED_VERSION, Fields
from tests.support import message, written_in_version_1

MESSAGE = message(b'{"a": 1}', source="qstash", type="post.published")
DIED: Fields = {b"handler": b"rebuild", b"reason": b"failed"}
LETTERS = {
    "now": MESSAGE.to_fields() | DIED,
    "packed": MESSAGE.to_fields(PACKED_VERSION) | DIED,
    "before": written_in_version_1(MESSAGE) | DIED,
}
NOW = 1_795_253_400.5  # 2026-11-21T09:30:00.5Z


@pytest.mark.parametrize("written", LETTERS)
@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        (DeadLetterFilter(), True),
        (
            DeadLetterFilter(source="qstash", type="post.*", handler="rebuild", reason="failed"),
            True,
        ),
        (DeadLetterFilter(source="marble"), False),
        (DeadLetterFilter(source="qstash", handler="reindex"), False),
        (DeadLetterFilter(reason="exhausted"), False),
        (DeadLetterFilter(type="post.published"), True),
        (DeadLetterFilter(type="post"), False),
        (DeadLetterFilter(type="*"), True),
        (DeadLetterFilter(type="*.published"), True),
        (DeadLetterFilter(type="p*st*d"), True),
        (DeadLetterFilter(type="post.?ublished"), False),
        (DeadLetterFilter(type="post.[p]ublished"), False),
        (DeadLetterFilter(type="postXpublished"), False),
        (DeadLetterFilter(type=""), False),
        (DeadLetterFilter(handler="re*"), True),
        (DeadLetterFilter(key="7"), False),
        (DeadLetterFilter(key=""), True),
        (DeadLetterFilter(error=kind_of("", "rebuild").fingerprint), True),
        (DeadLetterFilter(error=kind_of("", "other").fingerprint), False),
        (DeadLetterFilter(where=(condition_of("a=1"),)), True),
        (DeadLetterFilter(where=(condition_of("a=1"), condition_of("b=1"))), False),
    ],
)
def test_all_that_is_given_must_be_true_and_only_the_star_is_a_joker(
    wanted: DeadLetterFilter, meant: bool, written: str
) -> None:
    assert wanted.matches(LETTERS[written]) is meant


@pytest.mark.parametrize(
    ("fields", "wanted", "meant"),
    [
        ({}, DeadLetterFilter(type=""), True),
        ({}, DeadLetterFilter(type="*"), True),
        ({}, DeadLetterFilter(type="a"), False),
        ({b"version": b"9", b"source": b"qstash"}, DeadLetterFilter(source="qstash"), True),
        (
            {**LETTERS["now"], b"version": b"9"},
            DeadLetterFilter(source="qstash", type="post.*"),
            True,
        ),
        ({**LETTERS["now"], b"version": b"9"}, DeadLetterFilter(source="marble"), False),
        ({b"version": b"2", b"about": b"{"}, DeadLetterFilter(source="qstash"), False),
        ({b"version": b"2", b"about": b"{"}, DeadLetterFilter(source="", type="", reason=""), True),
        ({b"handler": b"\xff"}, DeadLetterFilter(handler="\ufffd"), True),
        ({b"type": b"a\nb"}, DeadLetterFilter(type="a*b"), True),
        ({b"type": b"\xff"}, DeadLetterFilter(type="\ufffd"), True),
    ],
)
def test_what_this_release_cannot_read_can_still_be_selected(
    fields: dict[bytes, bytes], wanted: DeadLetterFilter, meant: bool
) -> None:
    assert wanted.matches(fields) is meant


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        (DeadLetterFilter(), "0-0", "2000-7"),
        (DeadLetterFilter(after_ms=1500), "1500-0", "2000-7"),
        (DeadLetterFilter(before_ms=1500), "0-0", "1499"),
        (DeadLetterFilter(before_ms=2000), "0-0", "1999"),
        (DeadLetterFilter(before_ms=2001), "0-0", "2000-7"),
        (DeadLetterFilter(before_ms=9999), "0-0", "2000-7"),
        (DeadLetterFilter(before_ms=0), "0-0", "0"),
    ],
)
def test_times_bound_the_ids_and_the_newest_at_the_start_does_too(
    wanted: DeadLetterFilter, first: str, last: str
) -> None:
    assert (wanted.first_id, wanted.last_id("2000-7")) == (first, last)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-21T09:30", 1_795_253_400_000),
        ("2026-11-21T09:30:00.125Z", 1_795_253_400_125),
        ("2026-11-21 10:30+01:00", 1_795_253_400_000),
        ("2026-11-21", 1_795_219_200_000),
        ("90s", 1_795_253_310_500),
        ("30m", 1_795_251_600_500),
        ("2h", 1_795_246_200_500),
        ("7d", 1_794_648_600_500),
        ("0s", 1_795_253_400_500),
        ("999999999d", 0),
        ("1950-01-01", 0),
        ("9999-12-31", 253_402_214_400_000),
    ],
)
def test_a_time_is_iso_in_utc_or_how_long_ago(text: str, ms: int) -> None:
    assert moment_ms(text, NOW) == ms


@pytest.mark.parametrize(
    "text", ["", "yesterday", "5", "2w", "-2h", "2h30m", "25:00", "2026-13-01"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        moment_ms(text, NOW)


def test_a_filter_without_fields_matches_everything() -> None:
    assert DeadLetterFilter().is_everything
    assert EVERYTHING.filter.is_everything
    assert not DeadLetterFilter(type="*").is_everything
    assert not DeadLetterFilter(before_ms=1).is_everything
