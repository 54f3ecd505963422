"""Every metric of the reference page is scraped from running programs and moves as it should, and
so is all that the dashboard and the alert rules ask for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.reading import DEPLOY, ROOT
from tests.deploy.scraping import Story, tell
from tests.deploy.test_alerts import RULES, needs_promtool, promtool

DASHBOARD = json.loads((DEPLOY / "grafana" / "hookmill.json").read_text())

SUFFIXES = ("_bucket", "_count", "_sum")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return tell(tmp_path_factory.mktemp("monitoring"))


# --- the reference page ----------------------------------------------------------------------

WHILE_NOBODY_WORKS = "hookmill_group_oldest_runnable_timestamp_seconds"
"""What is shown only while nobody takes what waits. Then no worker tells it in this story."""

ROW = re.compile(r"\| `(hookmill_\w+)` \| (receiver|worker|both) \| (\w+) \| (.*?) \| ")

LISTED = ROW.findall((ROOT / "docs/reference/metrics.md").read_text())


def names_in(story: Story, program: str) -> dict[str, set[str]]:
    """The names of the samples of a program, each with the names of its labels."""
    pages = (story.worker,) if program == "worker" else story.pages[:-1]
    found: dict[str, set[str]] = {}
    for page in pages:
        for name, labels in page.samples:
            found.setdefault(name, set()).update(label for label, _ in labels)
    return found


IN_A_CLUSTER = "hookmill_worker_partition_away"
"""Shown only where several servers are at work: `tests/worker/test_lanes_cluster.py` scrapes it."""


def test_every_metric_of_the_reference_page_is_shown_with_its_labels(story: Story) -> None:
    missing = []
    for name, of, kind, listed in LISTED:
        labels = set(re.findall(r"\w+", listed))
        sample = f"{name}_count" if kind == "histogram" else name
        programs = {"both": ("receiver", "worker"), "worker": ("worker",)}.get(of, ("receiver",))
        missing += [
            (program, sample, labels)
            for program in programs
            if names_in(story, program).get(sample) != labels
            and (program, name) != ("worker", WHILE_NOBODY_WORKS)
            and name != IN_A_CLUSTER
        ]
    assert len(LISTED) > 40
    assert not missing


def test_nothing_is_shown_that_the_reference_page_does_not_list(story: Story) -> None:
    listed = {name for name, *_ in LISTED}
    shown = {name for program in ("receiver", "worker") for name in names_in(story, program)}
    families = {re.sub(rf"({'|'.join(SUFFIXES)})$", "", name) for name in shown}
    assert families <= listed


# --- the story -------------------------------------------------------------------------------

COUNTS: list[tuple[str, str, dict[str, str], float]] = [
    ("at_first", "deliveries_total", {"outcome": "accepted", "source": "qstash"}, 0),
    ("at_first", "unavailable_deliveries_total", {"source": "qstash"}, 0),
    ("at_first", "usable_secrets", {"source": "qstash"}, 2),
    ("at_first", "backlog_limit_messages", {}, 1000),
    ("at_first", "backlog_limit_bytes", {}, 1_000_000),
    ("at_first", "last_reload_successful", {}, 1),
    ("at_first", "spool_messages", {}, 0),
    ("at_first", "redis_up", {}, 1),
    ("waiting", "deliveries_total", {"outcome": "accepted", "source": "qstash"}, 6),
    ("waiting", "accepted_messages_total", {"source": "qstash"}, 6),
    ("waiting", "request_seconds_count", {"source": "qstash"}, 7),
    ("waiting", "append_seconds_count", {}, 6),
    ("waiting", "append_batch_messages_sum", {}, 6),
    ("worked", "group_workers", {"group": "main"}, 1),
    ("worked", "group_blocked_workers", {"group": "main"}, 0),
    ("worked", "group_messages", {"group": "main", "state": "held"}, 1),
    ("worked", "group_messages", {"group": "main", "state": "delayed"}, 1),
    ("worked", "group_messages", {"group": "main", "state": "dead"}, 1),
    ("worked", "group_dead_letters", {"group": "main", "reason": "asked for"}, 1),
    ("worked", "group_messages", {"group": "main", "state": "waiting"}, 0),
    ("worked", "group_messages", {"group": "main", "state": "again"}, 0),
    ("worked", "group_messages", {"group": "main", "state": "parked"}, 0),
    ("worked", "group_messages", {"group": "main", "state": "paused"}, 0),
    ("worked", "group_runnable_messages", {"group": "main"}, 1),
    ("worked", "group_backlog_messages", {"group": "main"}, 2),
    ("worker", "messages_total", {"outcome": "handled", "handler": "book"}, 2),
    ("worker", "messages_total", {"outcome": "handled", "type": "order.paid"}, 2),
    ("worker", "messages_total", {"outcome": "retried", "handler": "fail"}, 1),
    ("worker", "messages_total", {"outcome": "discarded", "source": "qstash"}, 1),
    ("worker", "finished_messages_total", {"handler": "book"}, 2),
    ("worker", "finished_messages_total", {"handler": "hold"}, 0),
    ("worker", "finished_messages_total", {"outcome": "dead"}, 1),
    ("worker", "dead_letters_total", {"handler": "give_up", "reason": "asked for"}, 1),
    ("worker", "dead_letters_total", {"handler": "book", "reason": "failed"}, 0),
    ("worker", "duplicates_total", {"group": "main"}, 1),
    ("worker", "message_running_seconds_count", {"handler": "fail"}, 1),
    ("worker", "message_waiting_seconds_count", {"handler": "book"}, 2),
    ("worker", "message_end_to_end_seconds_count", {"handler": "book"}, 2),
    ("worker", "message_end_to_end_seconds_count", {"handler": "fail"}, 0),
    ("worker", "worker_held_messages", {"group": "main"}, 1),
    ("worker", "worker_slots", {}, 100),
    ("worker", "worker_free_slots", {}, 99),
    ("worker", "worker_waiting_for_thread", {}, 0),
    ("worker", "late_outcomes_total", {}, 0),
    ("worker", "taken_over_total", {}, 0),
    ("worker", "recovered_total", {}, 0),
    ("worker", "suspects_total", {}, 0),
    ("worker", "lost_log_lines", {}, 0),
    ("stuck", "group_runnable_messages", {"group": "main"}, 2),
    ("away", "redis_up", {}, 0),
    ("away", "spool_messages", {}, 1),
]
"""What a page says at a point of the story."""


@pytest.mark.parametrize(("when", "name", "labels", "expected"), COUNTS)
def test_a_metric_says_what_has_happened(
    story: Story, when: str, name: str, labels: dict[str, str], expected: float
) -> None:
    assert getattr(story, when).value(name, **labels) == expected


RISEN = [
    ("redis_round_trips_total", "at_first", "worked"),
    ("redis_failures_total", "worked", "away"),
    ("redis_connects_total", "worked", "away"),
    ("event_loop_lag_seconds_count", "at_first", "worked"),
    ("groups_asked_timestamp_seconds", "at_first", "worked"),
    ("verified_total", "at_first", "waiting"),
    ("spool_bytes", "worked", "away"),
]


@pytest.mark.parametrize(("name", "before", "after"), RISEN)
def test_a_metric_rises(story: Story, name: str, before: str, after: str) -> None:
    was, is_now = getattr(story, before).value(name), getattr(story, after).value(name)
    assert is_now > was


def test_times_are_unix_times_and_absent_where_there_is_nothing(story: Story) -> None:
    now = story.worked.value("groups_asked_timestamp_seconds")
    assert now is not None
    dead = story.worked.value("group_oldest_dead_timestamp_seconds")
    assert dead is not None
    assert now - 120 < dead <= now + 1
    due = story.worked.value("group_next_due_timestamp_seconds")
    assert due is not None
    assert now - 1 < due < now + 3601
    oldest = story.away.value("spool_oldest_timestamp_seconds")
    assert oldest is not None
    assert now <= oldest < now + 120
    assert story.worked.value("spool_oldest_timestamp_seconds") is None
    assert story.worked.value("group_oldest_runnable_timestamp_seconds") is None
    assert story.away.value("group_messages") is None
    could_run = story.stuck.value("group_oldest_runnable_timestamp_seconds")
    assert could_run is not None
    assert now <= could_run < now + 120


def test_both_programs_say_the_same_of_a_group(story: Story) -> None:
    said = {
        key: value
        for key, value in story.worker.samples.items()
        if key[0] == "hookmill_group_messages"
    }
    assert said.keys() == {
        key for key in story.worked.samples if key[0] == "hookmill_group_messages"
    }


def test_the_page_is_open_metrics_for_whoever_asks_for_it(story: Story) -> None:
    assert story.open_metrics.endswith("# EOF\n")


@pytest.mark.external
@needs_promtool
def test_promtool_finds_nothing_wrong_with_the_pages(story: Story) -> None:
    for page in (story.worked, story.worker):
        done = promtool("check", "metrics", given=page.text)
        assert done.returncode == 0, done.stdout + done.stderr


# --- what the dashboard and the alerts ask for -------------------------------------------------


def panels() -> Iterator[dict[str, Any]]:
    yield from DASHBOARD["panels"]


QUERIES = [
    (panel["title"], target["expr"]) for panel in panels() for target in panel.get("targets", ())
]
QUERIES += [(rule["alert"], rule["expr"]) for rule in RULES]

SELECTOR = re.compile(r"(hookmill_\w+)(?:\{([^}]*)\})?")


@pytest.mark.parametrize(("where", "query"), QUERIES)
def test_what_a_query_asks_for_is_on_a_page(story: Story, where: str, query: str) -> None:
    shown = {**names_in(story, "receiver")}
    for name, labels in names_in(story, "worker").items():
        shown.setdefault(name, set()).update(labels)
    asked = SELECTOR.findall(query)
    assert asked
    shown[IN_A_CLUSTER] = {"group", "partition"}
    known: set[str] = {"le", "instance", "job"}
    for name, matchers in asked:
        assert name in shown, f"{where}: no page shows {name}"
        matched = set(re.findall(r"(\w+)\s*[=!]", matchers))
        assert matched <= shown[name], f"{where}: {name} has no label {matched - shown[name]}"
        known |= shown[name]
    for listed in re.findall(r"\b(?:by|on|ignoring)\s*\(([^)]*)\)", query):
        assert set(re.findall(r"\w+", listed)) <= known, f"{where}: {listed}"


@pytest.mark.external
@needs_promtool
def test_promtool_reads_every_query_of_the_dashboard(tmp_path_factory: Any) -> None:
    rules = [
        {"record": f"query:{number}", "expr": readable(query)}
        for number, (_, query) in enumerate(QUERIES)
    ]
    path = tmp_path_factory.mktemp("queries") / "queries.json"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    done = promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def readable(query: str) -> str:
    """A query as Prometheus gets it, with Grafana's variables replaced."""
    return re.sub(r"\$\w+", "main", query.replace("$__rate_interval", "5m"))


def test_every_metric_is_in_the_dashboard_or_an_alert() -> None:
    asked = {name for _, query in QUERIES for name, _ in SELECTOR.findall(query)}
    families = {re.sub(rf"({'|'.join(SUFFIXES)})$", "", name) for name in asked}
    left = {name for name, *_ in LISTED} - families
    assert left <= {
        "hookmill_groups_asked_timestamp_seconds",
        "hookmill_group_oldest_dead_timestamp_seconds",
    }


def test_panels_have_a_title_a_description_a_unit_and_a_place_of_their_own() -> None:
    places: set[tuple[int, int]] = set()
    for panel in panels():
        grid = panel["gridPos"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not cells & places, panel["title"]
        assert all(x < 24 for x, _ in cells)
        places |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    assert DASHBOARD["schemaVersion"] == 42
