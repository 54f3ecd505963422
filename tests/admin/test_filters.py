"""Which dead letters are meant: a table of what a person may say."""

from __future__ import annotations

import pytest

from hookmill.admin.filters import Choice, moment_ms
from hookmill.message import Fields
from tests.support import message, written_in_version_1

MESSAGE = message(source="qstash", type="post.published")
DIED: Fields = {b"handler": b"rebuild", b"reason": b"failed"}
LETTERS = {"now": MESSAGE.to_fields() | DIED, "before": written_in_version_1(MESSAGE) | DIED}
NOW = 1_795_253_400.5  # 2026-11-21T09:30:00.5Z


@pytest.mark.parametrize("written", LETTERS)
@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        (Choice(), True),
        (Choice(source="qstash", type="post.*", handler="rebuild", reason="failed"), True),
        (Choice(source="marble"), False),
        (Choice(source="qstash", handler="reindex"), False),
        (Choice(reason="exhausted"), False),
        (Choice(type="post.published"), True),
        (Choice(type="post"), False),
        (Choice(type="*"), True),
        (Choice(type="*.published"), True),
        (Choice(type="p*st*d"), True),
        (Choice(type="post.?ublished"), False),
        (Choice(type="post.[p]ublished"), False),
        (Choice(type="postXpublished"), False),
        (Choice(type=""), False),
        (Choice(handler="re*"), True),
    ],
)
def test_all_that_is_given_must_be_true_and_only_the_star_is_a_joker(
    choice: Choice, meant: bool, written: str
) -> None:
    assert choice.matches(LETTERS[written]) is meant


@pytest.mark.parametrize(
    ("fields", "choice", "meant"),
    [
        ({}, Choice(type=""), True),
        ({}, Choice(type="*"), True),
        ({}, Choice(type="a"), False),
        ({b"version": b"9", b"source": b"qstash"}, Choice(source="qstash"), True),
        ({**LETTERS["now"], b"version": b"9"}, Choice(source="qstash", type="post.*"), True),
        ({**LETTERS["now"], b"version": b"9"}, Choice(source="marble"), False),
        ({b"version": b"2", b"about": b"{"}, Choice(source="qstash"), False),
        ({b"version": b"2", b"about": b"{"}, Choice(source="", type="", reason=""), True),
        ({b"handler": b"\xff"}, Choice(handler="\ufffd"), True),
        ({b"type": b"a\nb"}, Choice(type="a*b"), True),
        ({b"type": b"\xff"}, Choice(type="\ufffd"), True),
    ],
)
def test_what_this_release_cannot_read_can_still_be_chosen(
    fields: dict[bytes, bytes], choice: Choice, meant: bool
) -> None:
    assert choice.matches(fields) is meant


@pytest.mark.parametrize(
    ("choice", "first", "last"),
    [
        (Choice(), "0-0", "2000-7"),
        (Choice(after_ms=1500), "1500-0", "2000-7"),
        (Choice(before_ms=1500), "0-0", "1499"),
        (Choice(before_ms=2000), "0-0", "1999"),
        (Choice(before_ms=2001), "0-0", "2000-7"),
        (Choice(before_ms=9999), "0-0", "2000-7"),
        (Choice(before_ms=0), "0-0", "0"),
    ],
)
def test_times_bound_the_ids_and_the_newest_at_the_start_does_too(
    choice: Choice, first: str, last: str
) -> None:
    assert (choice.first_id, choice.last_id("2000-7")) == (first, last)


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


def test_a_limit_alone_does_not_narrow_the_choice() -> None:
    assert Choice().is_everything
    assert Choice(limit=5).is_everything
    assert not Choice(type="*").is_everything
    assert not Choice(before_ms=1).is_everything
