"""The judgement on memory: what there is, and what message IDs and retained messages take."""

from __future__ import annotations

import msgspec
import pytest

from hookmill.admin.id_rates import SourceRate
from hookmill.admin.memory_checks import judge_bound, judge_needs
from tests.admin.facts import GB, SET, SOUND, WORKED, levels, with_groups


@pytest.mark.parametrize(
    ("policy", "used", "limit", "expected"),
    [
        ("allkeys-lru", GB, 4 * GB, [("error", "maxmemory-policy is allkeys-lru")]),
        (
            "volatile-ttl",
            GB,
            0,
            [
                ("warning", "maxmemory-policy is volatile-ttl"),
                ("note", "maxmemory is not set"),
            ],
        ),
        (
            "noeviction",
            4 * GB,
            4 * GB,
            [("error", "100% of maxmemory is in use (4 GB of 4 GB)")],
        ),
        (
            "noeviction",
            round(3.4 * GB),
            4 * GB,
            [("warning", "85% of maxmemory is in use (3.4 GB of 4 GB)")],
        ),
        ("noeviction", 3 * GB, 4 * GB, []),
        ("noeviction", GB // 2, GB, [("warning", "HOOKMILL_BACKLOG_BYTES is not below maxmemory")]),
    ],
)
def test_the_room_that_is_left_is_judged(
    policy: str, used: int, limit: int, expected: list[tuple[str, str]]
) -> None:
    server = msgspec.structs.replace(SOUND, policy=policy)
    overview = with_groups(WORKED, used_memory=used, maxmemory=limit)

    found = levels(*judge_bound(server, overview, SET), *judge_needs(overview, SET, None))

    assert found[:-1] == expected  # the last is what the window costs


@pytest.mark.parametrize(
    ("rate", "groups", "window", "level", "what"),
    [
        (
            None,
            [1_000_000],
            259_200,
            "note",
            "1,000,000 message IDs are remembered: about 37 MB",
        ),
        (
            10.0,
            [0],
            259_200,
            "note",
            (
                "at 10 messages a second, 2,592,000 to 5,184,000 message IDs are remembered: "
                "96 MB to 192 MB"
            ),
        ),
        (
            10.0,
            [0, 0],
            3600 * 24,
            "note",
            (
                "at 10 messages a second, 864,000 to 1,728,000 message IDs are remembered, "
                "in each of 2 groups: 64 MB to 128 MB"
            ),
        ),
        (
            200.0,
            [0],
            259_200,
            "warning",
            (
                "at 200 messages a second, 51,840,000 to 103,680,000 message IDs are remembered: "
                "1.9 GB to 3.8 GB"
            ),
        ),
        (
            0.5,
            [],
            259_200,
            "note",
            (
                "at 0.5 messages a second, 129,600 to 259,200 message IDs are remembered: "
                "4.8 MB to 9.6 MB"
            ),
        ),
    ],
)
def test_what_the_dedup_window_costs_is_said_for_one_to_two_windows(
    rate: float | None, groups: list[int], window: int, level: str, what: str
) -> None:
    overview = with_groups(*(msgspec.structs.replace(WORKED, remembered=n) for n in groups))
    settings = SET.model_copy(update={"dedup_window": window})

    (found,) = judge_needs(overview, settings, rate)

    assert levels(found) == [(level, what)]


@pytest.mark.parametrize(
    ("rate", "retention", "level", "what"),
    [
        (None, 3600.0, "note", "handled messages stay for 1 h: 1,000 entries, 500 kB now"),
        (
            100.0,
            3600.0,
            "note",
            "handled messages stay for 1 h: 360,000 entries, 180 MB, at 100 a second",
        ),
        (
            100.0,
            86_400.0,
            "warning",
            "handled messages stay for 24 h: 8,640,000 entries, 4.3 GB, at 100 a second",
        ),
    ],
)
def test_what_the_retention_costs_is_said(
    rate: float | None, retention: float, level: str, what: str
) -> None:
    overview = with_groups(WORKED, length=1000, bytes=500_000)
    settings = SET.model_copy(update={"retention": retention})

    *_, found = judge_needs(overview, settings, rate)

    assert levels(found) == [(level, what)]


def test_what_each_source_costs_is_said_the_largest_first() -> None:
    overview = with_groups(msgspec.structs.replace(WORKED, remembered=0), maxmemory=4 * GB)
    shop = SourceRate("shop", 1000.0, 3600)
    hub = SourceRate("hub", 100.0, 259_200, is_share=True)

    first, *found = judge_needs(overview, SET, 1100.0, [shop, hub])

    assert levels(first, *found) == [
        (
            "note",
            (
                "at 1100 messages a second, 29,520,000 to 59,040,000 message IDs are remembered: "
                "1.1 GB to 2.2 GB"
            ),
        ),
        ("note", "of these, source hub has 25,920,000 to 51,840,000: 959 MB to 1.9 GB"),
        ("note", "of these, source shop has 3,600,000 to 7,200,000: 133 MB to 266 MB"),
    ]
    assert first.why == "each for one to two windows of its source (1 h, 72 h), at 37 B"
    assert [one.why for one in found] == [
        "100 messages a second, its share of the last day, each for 72 h to 144 h",
        "1,000 messages a second, each for 1 h to 2 h",
    ]


def test_too_much_names_the_source_that_needs_most() -> None:
    overview = with_groups(msgspec.structs.replace(WORKED, remembered=0), maxmemory=GB)
    rates = [SourceRate("shop", 1000.0, 3600), SourceRate("hub", 100.0, 259_200)]
    first, *_ = (
        one for one in judge_needs(overview, SET, 1100.0, rates) if "remembered" in one.what
    )
    assert (first.level, first.do) == ("warning", "raise maxmemory, or shorten dedup_window of hub")
