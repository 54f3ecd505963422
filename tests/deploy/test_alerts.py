"""Each alert rule fires on recorded series of what it is for, and not on those of a good day.

`promtool` is a program of Debian's package `prometheus`. It needs no network.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.reading import DEPLOY

ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
RULES: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
NAMES = [rule["alert"] for rule in RULES]

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")

Series = dict[str, str]

GOOD: Series = {
    'hookmill_unavailable_deliveries_total{source="github", instance="r1"}': "7+0x60",
    'hookmill_redis_up{instance="r1"}': "1+0x60",
    'hookmill_group_workers{group="main", instance="r1"}': "2+0x60",
    'hookmill_group_runnable_messages{group="main", instance="r1"}': "9+0x60",
    'hookmill_group_messages{group="main", state="held", instance="r1"}': "4+0x60",
    'hookmill_group_messages{group="main", state="dead", instance="r1"}': "3+0x60",
    'hookmill_worker_free_slots{group="main", instance="w1"}': "6+0x60",
    'hookmill_messages_total{group="main", outcome="handled", instance="w1"}': "0+600x60",
    'hookmill_group_oldest_runnable_timestamp_seconds{group="main", instance="r1"}': "0+60x60",
    'hookmill_group_backlog_messages{group="main", instance="r1"}': "400+0x60",
    'hookmill_group_backlog_bytes{group="main", instance="r1"}': "4000+0x60",
    'hookmill_backlog_limit_messages{instance="r1"}': "1000+0x60",
    'hookmill_backlog_limit_bytes{instance="r1"}': "10000+0x60",
    'hookmill_usable_secrets{source="github", instance="r1"}': "1+0x60",
    'hookmill_last_reload_successful{instance="r1"}': "1+0x60",
    'hookmill_spool_messages{instance="r1"}': "0+0x60",
    'hookmill_spool_bytes{instance="r1"}': "20+0x60",
    'hookmill_spool_limit_bytes{instance="r1"}': "1000+0x60",
    'hookmill_group_blocked_workers{group="main", instance="r1"}': "0+0x60",
    'hookmill_group_heedless_workers{group="main", instance="r1"}': "0+0x60",
    'hookmill_worker_healthy{group="main", instance="w1"}': "1+0x60",
    'hookmill_worker_stuck_threads{group="main", instance="w1"}': "0+0x60",
    'hookmill_late_outcomes_total{group="main", instance="w1"}': "2+0x60",
    'hookmill_lost_log_lines{instance="r1"}': "0+0x60",
}
"""A good day, a value a minute."""


def changed(metric: str, values: str) -> Series:
    """The good day with other values of one metric."""
    (name,) = (name for name in GOOD if name.startswith(f"{metric}{{"))
    return {**GOOD, name: values}


def without(series: Series, *metrics: str) -> Series:
    return {name: each for name, each in series.items() if not name.startswith(metrics)}


DEAD = 'hookmill_group_messages{group="main", state="dead", instance="r1"}'
STILL = changed("hookmill_messages_total", "100+0x60")

BAD: dict[str, list[Series]] = {
    "HookmillRefusesDeliveries": [changed("hookmill_unavailable_deliveries_total", "0+1x60")],
    "HookmillRedisAway": [changed("hookmill_redis_up", "1 1 1 0+0x57")],
    "HookmillNoWorker": [changed("hookmill_group_workers", "0+0x60")],
    "HookmillNothingTaken": [
        STILL,
        without(STILL, "hookmill_messages_total"),  # nothing has ever ended
    ],
    "HookmillWorkWaitsLong": [
        changed("hookmill_group_oldest_runnable_timestamp_seconds", "60+0x60")
    ],
    "HookmillBacklogHalfFull": [
        changed("hookmill_group_backlog_messages", "501+0x60"),
        changed("hookmill_group_backlog_bytes", "5001+0x60"),
    ],
    "HookmillDeadLetters": [{**GOOD, DEAD: "3+0x50 4+0x9"}],
    "HookmillSourceWithoutSecret": [changed("hookmill_usable_secrets", "0+0x60")],
    "HookmillReloadFailed": [changed("hookmill_last_reload_successful", "0+0x60")],
    "HookmillSpoolInUse": [changed("hookmill_spool_messages", "5+0x60")],
    "HookmillSpoolFills": [changed("hookmill_spool_bytes", "0+10x60")],
    "HookmillWorkerUnhealthy": [changed("hookmill_worker_healthy", "0+0x60")],
    "HookmillThreadsStuck": [changed("hookmill_worker_stuck_threads", "2+0x60")],
    "HookmillWorkersBlocked": [changed("hookmill_group_blocked_workers", "1+0x60")],
    "HookmillPauseNotHeeded": [changed("hookmill_group_heedless_workers", "1+0x60")],
    "HookmillPartitionsUnseen": [{**GOOD, 'hookmill_partitions_unseen{instance="r1"}': "1+0x60"}],
    "HookmillPartitionAway": [
        {
            **GOOD,
            'hookmill_worker_partition_away{group="main", partition="2", instance="w1"}': "1+0x60",
        }
    ],
    "HookmillLateOutcomes": [changed("hookmill_late_outcomes_total", "2+0x50 3+0x9")],
    "HookmillLogLost": [changed("hookmill_lost_log_lines", "3+0x60")],
}
"""What each alert is for."""

QUIET: list[Series] = [
    GOOD,
    # all hands are full: the handlers are slow, and other alerts say so
    {**STILL, 'hookmill_worker_free_slots{group="main", instance="w1"}': "0+0x60"},
    # nothing is there to run, and nobody works
    {
        **without(STILL, "hookmill_group_runnable", "hookmill_group_oldest", "hookmill_worker"),
        'hookmill_group_runnable_messages{group="main", instance="r1"}': "0+0x60",
        'hookmill_group_workers{group="main", instance="r1"}': "0+0x60",
    },
    # there is no limit, no spool, and Redis was away for a moment
    {
        **without(GOOD, "hookmill_backlog_limit", "hookmill_spool"),
        'hookmill_redis_up{instance="r1"}': "1+0x50 0 1+0x8",
    },
    # dead letters go, and one worker was restarted
    {**GOOD, DEAD: "9+0x50 2+0x9"},
    changed("hookmill_messages_total", "0+600x50 0+600x9"),
]
"""When none of them fires."""


def a_test(series: Series, expected: list[str]) -> dict[str, Any]:
    """A test of promtool: these alerts fire after an hour, and no others."""
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in expected]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": each} for name, each in series.items()],
        "promql_expr_test": [{"expr": firing, "eval_time": "59m", "exp_samples": samples}],
    }


def promtool(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run(
        [PROMTOOL, *words], input=given, capture_output=True, text=True, timeout=60, check=False
    )


def test_every_rule_has_a_bad_day() -> None:
    assert sorted(BAD) == sorted(NAMES)


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_a_rule_says_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert 10 < len(rule["annotations"]["summary"]) < 100
    assert len(rule["annotations"]["description"]) > 60
    by = re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"]))
    assert set(by) <= {"group", "source", "instance", "partition"}


@pytest.mark.external
@needs_promtool
def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    done = promtool("check", "rules", "--lint-fatal", str(ALERTS))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.external
@needs_promtool
def test_each_rule_fires_on_its_bad_day_alone_and_none_on_a_good_one(tmp_path: Path) -> None:
    tests = [a_test(series, [name]) for name, bad in BAD.items() for series in bad]
    tests += [a_test(series, []) for series in QUIET]
    path = tmp_path / "alerts.json"  # JSON is YAML
    path.write_text(
        json.dumps(
            {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}, indent=1
        )
    )
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
