"""A duplicate window that is shorter than a delivery stays valid: nothing starts with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import worker.main
from hookmill import Handlers
from hookmill.config.settings import Settings
from hookmill.config.sources import check_source, sources_of, window_faults
from hookmill.config.windows import CERTIFIED_TOLERANCES
from hookmill.errors import SettingsError
from hookmill.signatures import paypal, sns
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
