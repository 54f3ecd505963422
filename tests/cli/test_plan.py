"""`hookmill plan`: it needs neither a server nor settings."""

from __future__ import annotations

import json

from tests.cli.running import hookmill


def test_a_plan_says_how_many_by_which_figures_and_what_limits_first() -> None:
    answer = hookmill("plan", "--rate", "50000", "--body", "2k", "--handler", "20ms", "--json")
    found = json.loads(answer.stdout)
    assert answer.returncode == 0
    assert found["plan"]["load"]["handler"] == 0.02
    receivers = found["plan"]["receivers"]["processes"]

    answer = hookmill("plan", "--rate", "50000", "--body", "2k", "--handler", "20ms")
    assert answer.returncode == 0
    assert answer.stdout.startswith("50,000 messages a second, bodies of 2 kB, handlers of 20 ms")
    assert f"\nreceivers  {receivers} processes, a core each" in answer.stdout
    assert "(end_to_end, bodies)" in answer.stdout
    assert "\nwhat limits first: memory of Redis at " in answer.stdout


def test_what_is_no_time_is_named_without_its_control_characters() -> None:
    answer = hookmill("plan", "--rate", "1", "--handler", "20\x1b[1m")
    assert answer.returncode == 2
    assert "--handler 20\\x1b[1m: give a time such as 20ms, 1.5s, 72h" in answer.stderr
