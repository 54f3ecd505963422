"""A duplicate window that is shorter than a delivery stays valid: nothing starts with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import worker.main
from hookmill import Handlers
from hookmill.config.settings import Settings
from hookmill.config.sources import check_source, sources_of, window_faults
from hookmill.config.windows import CERTIFIED_TOLERANCES, MOST_WINDOWS
from hookmill.errors import SettingsError
from hookmill.signatures import paypal, sns
from hookmill.stream.script_runner import script_text
from tests.cli.running import NO_REDIS, hookmill
from tests.support import CURRENT_KEY

LONG = "0123456789abcdef"
TOPIC = "arn:aws:sns:eu-central-1:123456789012:orders"


def with_sources(window: int, sources: dict[str, Any], **fields: Any) -> Settings:
    return Settings(dedup_window=window, sources=sources, **fields)


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STRIPE", "SHOP", "GITHUB"):
        monkeypatch.setenv(f"{name}_WEBHOOK_SECRET", LONG)


@pytest.mark.parametrize(
    ("name", "table", "longest"),
    [
        ("stripe", {}, 300),
        ("shop", {"preset": "stripe", "tolerance": 600}, 600),
        ("sns", {"topics": [TOPIC]}, 3900),
        ("paypal", {"webhook_ids": ["8PT597110X687430LKGECATA"]}, 259_200),
    ],
)
def test_a_window_as_long_as_a_delivery_stays_valid_is_enough(
    name: str, table: dict[str, Any], longest: int
) -> None:
    assert [one.name for one in sources_of(with_sources(longest, {name: table}))] == [name]

    short = with_sources(longest - 1, {name: table})
    with pytest.raises(
        SettingsError, match=rf"sources\.{name}: its deliveries are valid for {longest} s"
    ):
        sources_of(short)
    assert check_source(name, short).faults == tuple(window_faults(short))
    assert f"Set the window to {longest} or more" in window_faults(short)[0]


def test_a_worker_does_not_start_with_a_window_that_is_too_short() -> None:
    with pytest.raises(SettingsError, match="its deliveries are valid for 300 seconds"):
        worker.main.run(with_sources(299, {"stripe": {}}), Handlers())


def test_qstash_s_tokens_are_valid_for_five_minutes_and_what_its_clock_may_be_off() -> None:
    fields: dict[str, Any] = {"qstash_current_signing_key": CURRENT_KEY, "clock_tolerance": 10}
    assert window_faults(with_sources(310, {}, **fields)) == []
    assert len(window_faults(with_sources(309, {}, **fields))) == 1


def test_where_no_time_is_signed_any_window_will_do() -> None:
    assert [one.name for one in sources_of(with_sources(1, {"github": {}}))] == ["github"]


def test_the_times_of_senders_with_certificates_are_those_of_their_schemes() -> None:
    assert CERTIFIED_TOLERANCES == {"sns": sns.TOLERANCE, "paypal": paypal.TOLERANCE}


def test_neither_a_receiver_nor_a_worker_nor_check_accepts_it(tmp_path: Path) -> None:
    (tmp_path / "hookmill.toml").write_text(f'[sources.sns]\ntopics = ["{TOPIC}"]\n')
    (tmp_path / "app.py").write_text(
        "from hookmill import Handlers\nhandlers = Handlers()\nhandlers.on('*')(lambda d: None)\n"
    )
    env = {"HOOKMILL_DEDUP_WINDOW": "3600", **NO_REDIS}
    said = "hookmill: sources.sns: its deliveries are valid for 3900 seconds, but"

    for command in (["receiver"], ["worker", "app:handlers"]):
        done = hookmill(*command, env=env, folder=tmp_path)
        assert (done.returncode, done.stderr.startswith(said)) == (2, True), done.stderr
    found = hookmill("check", env=env, folder=tmp_path)
    assert found.returncode == 2
    assert "error: sources.sns: its deliveries are valid for 3900 seconds, but" in found.stdout


def test_a_sources_own_window_is_judged_by_its_own_deliveries() -> None:
    shop = {"preset": "stripe", "tolerance": 600}
    given = {"stripe": {"dedup_window": 300}, "shop": {**shop, "dedup_window": 600}, "github": {}}
    windows = {one.name: one.window for one in sources_of(with_sources(3600, given))}
    assert windows == {"stripe": 300, "shop": 600, "github": 0}
    short = with_sources(3600, {"shop": {**shop, "dedup_window": 599}})
    (fault,) = window_faults(short)
    assert fault.startswith("sources.shop: its deliveries are valid for 600 seconds, but its dedup")
    assert fault.endswith("Set it to 600 or more")


def test_the_window_of_all_is_the_longest() -> None:
    (fault,) = window_faults(with_sources(3600, {"github": {"dedup_window": 3601}}))
    assert fault.startswith("sources.github: dedup_window is 3601, but HOOKMILL_DEDUP_WINDOW is 36")
    assert "Set it to 3601 or more, for receivers and workers alike" in fault


def test_there_are_few_different_windows() -> None:
    tables = {f"s{n}": {"preset": "github", "dedup_window": 60 * n} for n in (1, 2, 3, 4)}
    tables |= {"same": {"preset": "github", "dedup_window": 240}, "all": {"preset": "github"}}
    tables["as all"] = {"preset": "github", "dedup_window": 3600}
    assert window_faults(with_sources(3600, tables)) == []
    more = {**tables, "s9": {"preset": "github", "dedup_window": 540}}
    (fault,) = window_faults(with_sources(3600, more))
    assert fault.startswith("sources.s9: dedup_window: the sources have 5 different windows")
    assert fault.endswith("use 4 at most, such as 240 here")


def test_scripts_take_as_many_windows_as_the_settings() -> None:
    assert f"local MOST_WINDOWS = {MOST_WINDOWS} " in script_text("windows")


@pytest.mark.parametrize("window", [0, -1, 366 * 86_400 + 1, 1.5, "soon"])
def test_a_window_is_a_number_of_seconds_up_to_a_year(window: Any) -> None:
    with pytest.raises(ValueError, match="dedup_window"):
        with_sources(3600, {"github": {"dedup_window": window}})
