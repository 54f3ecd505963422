"""The judgement on settings: what can be said without Redis."""

from __future__ import annotations

from typing import Any

import pytest

from hookmill.admin.settings_checks import judge_open_files, judge_partitions, judge_settings
from hookmill.config.settings import Settings
from tests.admin.facts import SET, levels
from tests.support import CURRENT_KEY


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        (
            {"qstash_current_signing_key": CURRENT_KEY},
            [("warning", "HOOKMILL_PUBLIC_URL is not set")],
        ),
        ({"dedup_window": 3600}, [("warning", "a message ID is remembered for 1 h only")]),
        ({"admin_port": 9000}, []),
        (
            {"admin_host": "::"},
            [("warning", "HOOKMILL_ADMIN_HOST is set, HOOKMILL_ADMIN_PORT is not")],
        ),
        ({"admin_port": 8080}, [("error", "HOOKMILL_ADMIN_PORT is 8080, and so is PORT")]),
        (
            {"admin_port": 9000, "admin_host": "0.0.0.0"},
            [("note", "health and metrics are answered at 0.0.0.0, port 9000, without a password")],
        ),
    ],
)
def test_what_was_set_is_judged(fields: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert levels(*judge_settings(Settings(**fields))) == expected


@pytest.mark.parametrize(
    ("files", "connections", "found"),
    [
        (20_000, None, []),
        (1192, None, []),
        (1191, None, [("warning", "a process may have 1,191 open files here")]),
        (692, 500, []),
        (691, 500, [("warning", "a process may have 691 open files here")]),
    ],
)
def test_too_few_open_files_for_the_connections_are_a_warning(
    files: int, connections: int | None, found: list[tuple[str, str]]
) -> None:
    findings = judge_open_files(files, Settings(connections=connections))
    assert [(one.level, one.what.partition(", so")[0]) for one in findings] == found


@pytest.mark.parametrize(
    ("agreed", "found"),
    [
        (None, []),
        (1, []),
        (4, [("error", "HOOKMILL_PARTITIONS is 1, but this stream was made with 4")]),
    ],
)
def test_another_number_of_partitions_than_that_of_the_stream_is_an_error(
    agreed: int | None, found: list[tuple[str, str]]
) -> None:
    assert levels(*judge_partitions(agreed, SET)) == found


def test_a_variable_that_nothing_reads_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKMILL_LAESE", "5")

    assert levels(*judge_settings(SET)) == [
        ("warning", "HOOKMILL_LAESE is set, and nothing reads it")
    ]


CALLBACKS: dict[str, Any] = {"sources": {"qstash-callbacks": {}}}


@pytest.mark.parametrize(
    ("fields", "warned"),
    [
        (CALLBACKS, True),
        ({"sources": {"outcomes": {"preset": "qstash-callbacks"}}}, True),
        (CALLBACKS | {"public_url": "https://app.example"}, False),
        ({"sources": {"github": {}}}, False),
    ],
)
def test_check_warns_where_a_callback_for_another_url_would_be_accepted(
    fields: dict[str, Any], warned: bool
) -> None:
    found = [one.what for one in judge_settings(Settings(**fields))]
    assert found == (["HOOKMILL_PUBLIC_URL is not set"] if warned else [])
