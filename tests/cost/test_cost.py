"""No step of a message costs more than is written, and features that are off cost nothing.

What is counted does not depend on how busy the machine is. See `bounds.py` for what to do when one
of these tests fails, and `make cost` for the whole table.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hookmill.printable import printable
from tests.conftest import BINARIES
from tests.cost import bounds
from tests.cost.bounds import FILE, broken_bounds, read_bounds, write_bounds
from tests.cost.cases import WATCHED, WITH_FEATURE, Case
from tests.cost.counting import Count, counted

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="without uvloop, the event loop's own code is counted as well"
)

FEATURES = {
    "receiver": (
        "hookmill/runtime/admin_server", "hookmill/runtime/metrics_page", "hookmill/runtime/spool",
        "hookmill/stream/certificate_urls", "hookmill/stream/durability", "receiver/certificate",
        "receiver/disk_reserve", "receiver/drain", "receiver/pinning", "receiver/spool",
        "hookmill/instrumentation/trac", "receiver/traces",
    ),
    "worker": (
        "hookmill/runtime/admin_server", "hookmill/runtime/metrics_page",
        "hookmill/stream/dead_letters", "hookmill/stream/releases", "hookmill/stream/upkeep",
        "worker/dead", "worker/delayed", "worker/error_memory", "worker/metrics",
        "worker/stuck_threads", "worker/unknown_types", "worker/unmatched", "worker/waiting",
        "hookmill/instrumentation/trac", "worker/traces",
    ),
}  # fmt: skip
"""What the modules of features begin with that are off, or have nothing to do."""

PLAIN = {"receiver": "receiver, Marble, 32 at once", "worker": "worker, 200 at once"}
"""The cases without a feature, to compare with."""

IDLE = {
    "receiver, spool": 3.0,  # the results of its partitions are put together
    "receiver, traces": 3.5,  # a random number, and a look whether to log the ID of a trace
    "worker, dead letter bounds": 0.5,
    "worker, on_dead": 0.5,
    "worker, retention": 0.5,
    "worker, traces": 1.2,  # the variable of OpenTelemetry is passed over in its log line
}
"""Features that have nothing to do with a message that is handled while Redis is there, and how
many calls a message each may add.
"""

METRICS = {"receiver, admin port": 6.0, "worker, admin port": 4.0}
"""How many calls a message each may add where somebody can ask for metrics, so that each message is
measured.
"""

A_BATCH = 2
"""Calls in a module that a batch of any size may make, to see that its feature is off."""


def counts(*arguments: str) -> dict[str, Case]:
    """Count in a process of its own, in which nothing else runs."""
    command = [sys.executable, "-m", "tests.cost", "--json", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return msgspec.json.decode(done.stdout, type=dict[str, Case])


class Counting:
    """The counts with one server."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._cases = counts("--server", server)

    def faults(self, judge: Callable[[dict[str, Case]], list[str]]) -> list[str]:
        """Return what `judge` finds wrong with the counts, and with new ones as well: on a busy
        machine a turn takes so long that regular duties of a program run in it.
        """
        found = judge(self._cases)
        for _ in range(2):
            if found:
                self._cases = counts("--server", self._server)
                found = judge(self._cases)
        return found

    def lasting(self, judge: Callable[[dict[str, Case]], list[str]]) -> set[str]:
        """Return what `judge` finds wrong with each of several counts, as texts that begin with the
        name of a case. Regular duties are in one count or another, and never the same ones in all.
        """
        found, cases = set(judge(self._cases)), self._cases
        for _ in range(3):
            if found:  # only these again: all would take minutes on a busy machine
                names = [name for name in cases if any(f.startswith(f"{name}: ") for f in found)]
                words = [word for name in names for word in ("--case", name)]
                cases = cases | counts("--server", self._server, *words)
                found &= set(judge(cases))
        return found


@pytest.fixture(scope="module", params=list(BINARIES))
def counting(request: pytest.FixtureRequest) -> Counting:
    return Counting(request.param)


def test_no_step_of_a_message_costs_more_than_is_written(counting: Counting) -> None:
    written, texts = read_bounds(), dict[str, str]()

    def broken(cases: dict[str, Case]) -> list[str]:
        found = [text for name in WATCHED for text in broken_bounds(name, cases[name], written)]
        texts.update((text.partition(" has ")[0], text) for text in found)
        return [text.partition(" has ")[0] for text in found]

    lasting = [texts[step] for step in sorted(counting.lasting(broken))]
    assert not lasting, "\n".join(["what a message costs has grown:", *lasting])


@pytest.mark.parametrize("program", FEATURES)
def test_a_message_enters_no_module_of_a_feature_that_is_off(
    counting: Counting, program: str
) -> None:
    def entered(cases: dict[str, Case]) -> list[str]:
        return [
            f"{name}: {file}"
            for name in WATCHED
            if name.startswith(program)
            for file, count in cases[name].modules.items()
            if file.startswith(FEATURES[program]) and count.calls > A_BATCH
        ]

    assert not counting.lasting(entered)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_cost_a_message_few_calls(counting: Counting, name: str) -> None:
    def too_many(cases: dict[str, Case]) -> list[str]:
        more = calls_more(cases, name)
        return [] if more <= METRICS[name] else [f"{more} calls more"]

    assert not counting.faults(too_many)


@pytest.mark.parametrize("name", IDLE)
def test_a_feature_that_has_nothing_to_do_costs_a_message_next_to_nothing(
    counting: Counting, name: str
) -> None:
    def too_many(cases: dict[str, Case]) -> list[str]:
        more = calls_more(cases, name)
        return [] if more <= IDLE[name] else [f"{more} calls more"]

    assert not counting.faults(too_many)


@pytest.mark.parametrize("name", sorted(WITH_FEATURE.keys() - IDLE))
def test_a_feature_that_each_message_uses_is_seen_in_the_counts(
    counting: Counting, name: str
) -> None:
    def unseen(cases: dict[str, Case]) -> list[str]:
        more = calls_more(cases, name)
        return [] if more > 0.5 else [f"{more} calls more"]

    assert not counting.faults(unseen)


def calls_more(cases: dict[str, Case], name: str) -> float:
    """Return how many calls a message a feature adds."""
    plain = cases[PLAIN[name.partition(",")[0]]]
    found = cases[name]
    assert found.messages == plain.messages
    return (calls_of(found) - calls_of(plain)) / plain.messages


def calls_of(case: Case) -> int:
    return sum(count.calls for count in case.modules.values())


@pytest.mark.parametrize(
    ("function", "name", "step"),
    [
        ("receiver.appender:row_of", "receiver, Marble, 32 at once", "message"),
        ("worker.pool:settlement_of", "worker, 200 at once", "settle"),
    ],
)
def test_a_step_that_has_grown_breaks_its_bound_and_is_named(
    function: str, name: str, step: str
) -> None:
    case = counts("--case", name, "--twice", function)[name]
    broken = "\n".join(broken_bounds(name, case, read_bounds()))
    assert f"the step {step!r} has" in broken
    assert "the step 'log' has" not in broken


def test_a_step_without_a_bound_breaks_it() -> None:
    case = Case(1, modules={"receiver/new.py": Count(1, 10)})
    (text, _) = broken_bounds("receiver, QStash, 1 at once", case, read_bounds())
    assert "the step 'other' has 1 calls a message, and 0 are written" in text


def test_calls_of_python_and_of_c_and_instructions_are_counted() -> None:
    with counted():
        printable("x")  # Python 3.12 and newer do not count the first function that is traced
    with counted() as once:
        printable("x")
    with counted() as twice:
        printable("x")
        printable("x")
    name = "hookmill/printable.py"
    assert set(once) == {name}
    assert once[name].calls >= 2
    assert once[name].instructions > once[name].calls
    assert (twice[name].calls, twice[name].instructions) == (
        2 * once[name].calls,
        2 * once[name].instructions,
    )


def test_new_bounds_of_one_case_leave_those_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, name = read_bounds(), "Redis, 1 at once"
    monkeypatch.setattr(bounds, "FILE", tmp_path / "bounds.toml")
    bounds.FILE.write_text(FILE.read_text())
    write_bounds({name: Case(1, commands={"append": {"xadd": 5}})})
    assert read_bounds() == before | {name: {"append": [5.0]}}
