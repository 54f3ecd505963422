"""`hookmill log-level` reaches receivers and workers that run, and is recorded."""

from __future__ import annotations

import json

import pytest

from tests.e2e.line import Line

pytestmark = pytest.mark.one_server


def test_running_programs_follow_and_go_back(line: Line) -> None:
    receiver, worker = line.receiver(), line.worker()
    said = json.loads(
        line.hookmill("log-level", "debug", "--for", "5m", "--why", "a look", "--json")
    )
    assert [one["level"] for one in said["levels"]] == ["debug"]
    assert len(said["workers"]) == 1
    for program in (receiver, worker):
        program.wait_for('"now":"debug","event":"log level changed"')
    assert "every program logs as its settings say" in line.hookmill("log-level", "default")
    for program in (receiver, worker):
        program.wait_for('"now":"info","event":"log level changed"')
        assert program.stop() == 0
    (first, second) = map(json.loads, line.hookmill("audit", "--json").splitlines())
    assert (second["action"], second["why"]) == ("log-level", "a look")
    assert second["details"] == {"level": "debug", "program": "*", "seconds": 300.0}
    assert first["details"] == {"program": "*"}
