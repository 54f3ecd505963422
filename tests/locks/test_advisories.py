"""Which versions a published advisory concerns."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locks.advisories import concerns, found, packages_of
from locks.lockfile import Locked


def package(version: str, name: str = "aio-thing") -> Locked:
    return Locked(name, version, None, ("0" * 64,))


def record(*events: dict[str, str], **fields: Any) -> dict[str, Any]:
    about = {"ecosystem": "PyPI", "name": "Aio.Thing"}
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    affected = {"package": about, "ranges": ranges, "versions": fields.pop("versions", [])}
    return {"id": "PYSEC-1", "affected": [affected], **fields}


@pytest.mark.parametrize(
    ("events", "affected", "fine"),
    [
        ([{"introduced": "0"}], ["0.1", "99", "1.0rc1"], []),
        ([{"introduced": "0"}, {"fixed": "1.5"}], ["1.4", "1.5rc1"], ["1.5", "2"]),
        ([{"fixed": "1.5"}, {"introduced": "1.0"}], ["1.0", "1.4.9"], ["0.9", "1.5"]),
        ([{"introduced": "1"}, {"last_affected": "2"}], ["1.0", "2.0"], ["2.0.1", "0.9"]),
        (
            [{"introduced": "1"}, {"fixed": "2"}, {"introduced": "3"}, {"fixed": "4"}],
            ["1", "3.9"],
            ["2", "2.9", "4"],
        ),
        ([{"introduced": "1", "fixed": "2"}], ["1.5"], ["2"]),
        ([{"introduced": "0"}, {"limit": "1"}], ["5"], []),
    ],
)
def test_a_range_begins_and_ends_where_its_events_say(
    events: list[dict[str, str]], affected: list[str], fine: list[str]
) -> None:
    assert [one for one in affected + fine if concerns(record(*events), package(one))] == affected


def test_a_listed_version_is_affected_however_it_is_written() -> None:
    listed = record(versions=["1.0.0", "2004d", "v1.1"])
    assert concerns(listed, package("1.0"))
    assert concerns(listed, package("1.1"))
    assert not concerns(listed, package("1.2"))


def test_another_package_is_not_concerned() -> None:
    everything = record({"introduced": "0"})
    assert not concerns(everything, package("1", "aio"))
    assert set(packages_of(everything)) == {"aio-thing"}
    everything["affected"][0]["package"]["ecosystem"] = "npm"
    assert not concerns(everything, package("1"))
    assert set(packages_of(everything)) == set()


def test_what_is_found_says_what_mends_it_and_nothing_that_a_terminal_obeys() -> None:
    about = record(
        {"introduced": "0"},
        {"fixed": "1.5"},
        aliases=["CVE-2026-1"],
        summary="Smuggling \x1b[2J\u202e\nand more",
    )
    one = found(about, package("1.4"))
    assert one is not None
    assert (one.advisory, one.fixed) == ("PYSEC-1 CVE-2026-1", ("1.5",))
    assert one.summary == "Smuggling ?[2J?"


def test_a_withdrawn_advisory_is_not_reported() -> None:
    assert (
        found(record({"introduced": "0"}, withdrawn="2026-01-01T00:00:00Z"), package("1")) is None
    )


@given(st.lists(st.integers(0, 9), min_size=2, max_size=2, unique=True), st.integers(0, 9))
def test_a_range_has_the_versions_from_its_beginning_up_to_its_end(
    ends: list[int], version: int
) -> None:
    first, last = sorted(ends)
    about = record({"fixed": str(last)}, {"introduced": str(first)})
    assert concerns(about, package(str(version))) == (first <= version < last)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"affected": [{"package": {"ecosystem": "PyPI"}}]},
        record({"introduced": "not a version"}),
    ],
)
def test_what_is_no_record_is_never_fine(broken: dict[str, Any]) -> None:
    with pytest.raises((KeyError, ValueError)):
        concerns(broken, package("1"))
