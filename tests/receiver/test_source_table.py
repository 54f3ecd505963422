"""The sources of a running receiver: what a change of a file or a table does to each of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hookmill.config.settings import load_settings
from hookmill.config.sources import sources_of
from receiver.file_looks import FileLooks
from receiver.reloader import files_of
from receiver.source_table import Served, SourceTable

OURS, OTHER = "the secret of ours", "the secret of other"
TABLE = '[sources.{0}]\npreset = "github"\nsecrets = "file:{0}"\n'
TOML = TABLE.format("ours") + TABLE.format("other")


class Running:
    """The table of a receiver that runs with the files of this folder."""

    def __init__(self) -> None:
        self.settings = load_settings()
        self.table = SourceTable(self.settings, sources_of(self.settings))
        self.looks = FileLooks(files_of(self.settings))

    def reload(self, *, is_asked: bool = False) -> Served:
        """Look twice at the files, load, and look again for what a new table names."""
        for _ in range(2):
            files = files_of(self.table.settings)
            self.look_twice(files)
            reloaded = self.table.load(self.looks, remake=is_asked)
            self.look_twice(files | reloaded.files)
            self.table.take(self.table.load(self.looks, remake=is_asked), is_asked=is_asked)
        return self.served()

    def look_twice(self, files: set[Path]) -> None:
        self.looks.look(files)
        self.looks.look(files)

    def served(self) -> Served:
        return self.table.served_at(time.time())


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.chdir(tmp_path)
    Path("ours").write_text(OURS)
    Path("other").write_text(OTHER)
    Path("hookmill.toml").write_text(TOML)
    return Running()


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


def secrets(served: Served) -> dict[str, list[str]]:
    return {one.name: [secret.text for secret in one.secrets] for one in served.sources}


def test_a_secret_that_was_withdrawn_is_no_longer_served(running: Running) -> None:
    Path("ours").unlink()
    served = running.reload()
    assert secrets(served) == {"other": [OTHER]}
    assert served.without_secret == {"/ours": "ours"}
    assert served.usable == {"ours": 0, "other": 1}


def test_a_source_that_is_switched_off_keeps_no_table_from_changing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The duplicate window is too short for QStash, which no key switches on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOKMILL_DEDUP_WINDOW", "60")
    Path("ours").write_text(OURS)
    Path("other").write_text(OTHER)
    Path("hookmill.toml").write_text(TABLE.format("ours"))
    running = Running()
    Path("hookmill.toml").write_text(TOML)
    assert secrets(running.reload()) == {"ours": [OURS], "other": [OTHER]}


def test_what_has_not_changed_is_the_same_source(running: Running) -> None:
    before = {one.name: one for one in running.served().sources}
    Path("ours").write_text("another secret of ours")
    after = {one.name: one for one in running.reload().sources}
    assert after["other"] is before["other"]
    assert after["ours"] is not before["ours"]
    anew = {one.name: one for one in running.reload(is_asked=True).sources}
    assert anew["other"] is not before["other"]


def test_a_secret_that_is_no_longer_in_its_file_is_withdrawn_beside_a_weak_one(
    running: Running, logs: list[Any]
) -> None:
    Path("ours").write_text("weak\na good secret\n# a comment\n")
    served = running.reload()
    assert secrets(served)["ours"] == ["a good secret"]
    (line,) = [line for line in logs if line["event"] == "a source has a fault"]
    assert "has fewer than 8 bytes" in line["error"]
    assert "line 3: it begins with #" in line["error"]
    assert "weak" not in line["error"]
    assert [line["secret"] for line in logs if line["event"] == "secret withdrawn"] == ["file:ours"]


@pytest.mark.parametrize(
    "word",
    ["tolerance = -1", "no_such_word = 1", 'handshake = "meta"', "signature = 'x'", "id = 1"],
)
def test_a_fault_in_one_table_touches_only_that_source(running: Running, word: str) -> None:
    Path("hookmill.toml").write_text(f"{TOML}{word}\n[sources.added]\npreset = 'github'\n")
    Path("ours").write_text("a new secret of ours")
    served = running.reload()
    assert secrets(served) == {"ours": ["a new secret of ours"], "other": [OTHER]}
    assert served.without_secret == {"/added": "added"}


def test_a_faulty_table_does_not_keep_a_secret_that_was_withdrawn(running: Running) -> None:
    Path("hookmill.toml").write_text(f"{TOML}tolerance = -1\n")
    Path("other").write_text("")
    assert running.reload().without_secret == {"/other": "other"}


@pytest.mark.parametrize(
    "toml",
    ["[", "", "queue_bytes = 1\nbody_limit = 2\n" + TOML, "sources = 1\n", "port = 'x'\n" + TOML],
)
def test_without_a_settings_file_that_can_be_used_all_tables_stay(
    running: Running, logs: list[Any], toml: str
) -> None:
    Path("hookmill.toml").write_text(toml)
    assert secrets(running.reload()) == {"ours": [OURS], "other": [OTHER]}
    events = [line["event"] for line in logs]
    assert events.count("sources not reloaded, the old ones stay in use") == 1
    Path("other").unlink()
    assert running.reload().without_secret == {"/other": "other"}


def test_another_window_counts_from_the_reload_on_and_one_that_is_too_long_does_not(
    running: Running,
) -> None:
    def windows(words: str) -> dict[str, int]:
        Path("hookmill.toml").write_text(TABLE.format("ours") + words + TABLE.format("other"))
        return {one.name: one.window for one in running.reload().sources}

    assert windows("dedup_window = 3600\n") == {"ours": 3600, "other": 0}
    assert windows("dedup_window = 600\n") == {"ours": 600, "other": 0}
    assert windows("dedup_window = 9999999\n") == {"ours": 600, "other": 0}
    assert windows("") == {"ours": 0, "other": 0}


def test_a_path_stays_with_the_source_that_has_it(running: Running, logs: list[Any]) -> None:
    Path("hookmill.toml").write_text(
        TOML + 'path = "/ours"\n[sources.third]\npreset = "github"\npath = "/other"\n'
    )
    served = running.reload()
    assert {one.name: one.path for one in served.sources} == {"ours": "/ours", "other": "/other"}
    assert {line["source"] for line in logs if "fault" in line["event"]} == {"other", "third"}


def test_two_sources_can_exchange_their_paths(running: Running) -> None:
    swapped = TABLE.format("ours") + 'path = "/other"\n' + TABLE.format("other") + 'path = "/ours"'
    Path("hookmill.toml").write_text(swapped)
    served = running.reload()
    assert {one.name: one.path for one in served.sources} == {"ours": "/other", "other": "/ours"}


def test_a_source_is_not_served_without_the_file_that_its_new_table_names(
    running: Running,
) -> None:
    Path("new").write_text("a secret in a new file")
    Path("hookmill.toml").write_text(TOML.replace("file:ours", "file:new"))
    running.look_twice(files_of(running.table.settings))
    reloaded = running.table.load(running.looks)
    running.table.take(reloaded)
    assert reloaded.files == {Path("new")}
    assert secrets(running.served())["ours"] == [OURS]  # nobody has looked at the new file
    assert secrets(running.reload())["ours"] == ["a secret in a new file"]


def test_a_secret_whose_time_is_over_leaves_its_source_without_one(
    running: Running, logs: list[Any]
) -> None:
    Path("hookmill.toml").write_text(
        TABLE.format("other") + '[sources.ours]\npreset = "github"\n'
        'secrets = [{ file = "ours", from = 2100-01-01, until = 2100-01-02 }]\n'
    )
    assert running.reload().without_secret == {"/ours": "ours"}
    inside = running.table.served_at(4_102_444_800.0)  # 2100-01-01
    assert inside.without_secret == {}
    assert running.table.served_at(4_102_444_800.0 + 86_400).without_secret == {"/ours": "ours"}
    assert [line["event"] for line in logs if line.get("source") == "ours"] == [
        "no usable secret, deliveries get 503",
        "a usable secret again",
        "no usable secret, deliveries get 503",
    ]


def test_a_public_url_that_is_gone_leaves_the_sources_that_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("square").write_text("a secret of square")
    table = '[sources.square]\nsecrets = "file:square"\n'
    Path("hookmill.toml").write_text(f'public_url = "https://app.example"\n{table}')
    running = Running()
    Path("hookmill.toml").write_text(table)
    (square,) = running.reload().sources
    assert square.url == "https://app.example/square"


PIECES = st.lists(
    st.sampled_from(
        [
            TABLE.format("ours"), TABLE.format("other"), TABLE.format("third"),
            "[sources.ours]\n", "path = '/other'\n", "tolerance = 'x'\n", "id = 5\n", "port = 1\n",
            "no_such = 1\n", "[[sources.other]]\n", "sources.ours = 3\n", "[", "\udcff",
            "secrets = [{file = 'other', until = 2000-01-01}]\n", "public_url = 'x'\n",
        ]
    )
    | st.text(max_size=5),
    max_size=5,
).map("".join)  # fmt: skip


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PIECES, st.sampled_from([OURS, "", "weak", None]))
def test_whatever_the_settings_file_holds_only_what_is_in_the_files_verifies(
    running: Running, toml: str, ours: str | None
) -> None:
    Path("hookmill.toml").write_text(TOML)
    Path("ours").write_text(OURS)
    table = Running()
    Path("hookmill.toml").write_text(toml, "utf-8", "surrogateescape")
    if ours is None:
        Path("ours").unlink()
    else:
        Path("ours").write_text(ours)
    found = secrets(table.reload())
    assert {text for texts in found.values() for text in texts} <= {OURS, OTHER} & {ours, OTHER}
    assert found or table.served().without_secret
