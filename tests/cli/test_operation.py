"""`hookmill check` and `hookmill status` as a person and a program read them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from hookmill.admin.findings import Finding
from hookmill.cli import operation
from hookmill.config.settings import Settings
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Settlement
from hookmill.stream.facts import ConsumerFacts
from hookmill.stream.producer import Producer
from tests.admin.facts import BEATING, SEEN, WORKED, with_groups
from tests.cli.running import NO_REDIS, NO_REDIS_URL, faults, give_up_in, hookmill
from tests.support import Server, eventually, message

OpenGroup = Callable[..., Awaitable[Consumer]]


def test_the_status_is_a_table_and_a_group_without_workers_is_marked() -> None:
    assert operation.table(SEEN, 60.0) == [
        "stream: 1,234 entries, 567 kB; Redis uses 20 MB of 100 MB",
        "group   waiting  held  delayed  again  parked  dead  oldest     IDs  duplicates  workers",
        "main      1,200    30        4      0       5     2     3 m  50,000          77        1",
        "search  unknown     0        0      0       0     0       -       0           0        0",
        "main: host-1 holds 30, of an older release, seen 0 s ago",
        "main: host-2 holds 0, of an older release, seen 90 s ago",
        "search: no worker of this group runs",
    ]


def test_each_worker_is_shown_by_its_heartbeat_or_says_that_it_has_none() -> None:
    consumers = tuple(
        ConsumerFacts(name=name, pending=2, idle_ms=idle_ms, lease_number=7)
        for name, idle_ms in (("blocked", 20_000), ("c1", 90_000), ("killed", 45_000))
    )
    fresh = msgspec.structs.replace(BEATING, name="fresh", oldest_held=None, held=0)
    group = msgspec.structs.replace(WORKED, consumers=consumers, heartbeats=(BEATING, fresh))

    rest = "release 0.2.0 on web-1, up for 2 h, heartbeat 4 s ago"
    slots = "97 of 100 slots and 16 of 16 threads free"
    assert operation.table(with_groups(group), 60.0)[2:] == [
        "main         0     0        0      0       0     0       -    0           0        2",
        f"main: c1 holds 2, the oldest for 12 s; {slots}; {rest}",
        f"main: fresh holds 0; {slots}; {rest}",
        "main: blocked holds 2, no heartbeat, its event loop is blocked, seen 20 s ago",
        "main: killed holds 2, no heartbeat, seen 45 s ago",
        (
            "main: blocked is sick: its event loop is blocked: it renews the leases of 2 messages "
            "but writes no heartbeat. Find the handler that blocks the loop (its log and "
            "`/healthz` name it), and make it a plain `def`, which runs in a thread. If it does "
            "not end, stop the worker: others take over its messages"
        ),
        (
            "main: killed is sick: it writes no heartbeat and holds 2 messages: it was killed, or "
            "has lost its connection to Redis. Others take over what it holds within two leases. "
            "If it still runs, look why it does not reach Redis"
        ),
    ]


def test_dead_letters_are_told_by_reason_and_a_hostile_one_is_printed_harmless() -> None:
    reasons = {"failed": 1200, "no\x1b[31m such": 3} | {f"r{number}": 1 for number in range(9)}
    group = msgspec.structs.replace(WORKED, dead_reasons=reasons)

    _, _, _, line, *_ = operation.table(with_groups(group), 60.0)
    assert line.startswith(r"main: dead by reason: failed 1,200, no\x1b[31m such 3, r0 1, r1 1, ")
    assert line.endswith(", 3 other reasons 3")


def test_what_is_not_known_or_not_there_is_said_so() -> None:
    bare = msgspec.structs.replace(SEEN, bytes=None, maxmemory=0, groups=())

    assert operation.table(bare, 60.0) == [
        "stream: 1,234 entries, size unknown; Redis uses 20 MB",
        "there is no group",
    ]


@pytest.mark.parametrize("as_json", [False, True])
async def test_the_status_of_a_real_group_is_printed(
    settings: Callable[..., Settings],
    stream: Producer,
    open_group: OpenGroup,
    capsys: pytest.CaptureFixture[str],
    as_json: bool,
) -> None:
    group = await open_group()
    await stream.append([message(), message()])
    (held,) = (await group.take(1)).entries

    await operation.show_once(settings(), as_json=as_json)

    printed = capsys.readouterr().out
    if as_json:
        (row,) = json.loads(printed)["groups"]
        assert row["waiting"] in {1, None}  # Redis counts them from 7.0 on
        assert (row["name"], row["held"], row["workers"]) == ("main", 1, 1)
    else:
        row = printed.splitlines()[2].split()
        assert row[1] in {"1", "unknown"}
        assert (row[0], row[2]) == ("main", "1")
    rest = (await group.take(1)).entries
    await group.settle(Settlement(entry.ref) for entry in (held, *rest))


async def test_watching_shows_redis_going_away_and_coming_back(
    own_server: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    server = own_server()
    settings = Settings(redis_url=server.url)
    out: list[str] = []
    err: list[str] = []

    def said() -> str:
        printed = capsys.readouterr()
        out.append(printed.out)
        err.append(printed.err)
        return "".join(out)

    watching = asyncio.create_task(operation.show_again_and_again(settings, 0.05, as_json=True))
    await eventually(lambda: said().count('"stream"') >= 2)
    server.kill()
    await eventually(lambda: said() and "".join(err).startswith("hookmill: "))
    before = said().count('"stream"')
    server.start()
    await eventually(lambda: said().count('"stream"') > before)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


FOUND = [
    Finding(level="error", what="[red]a long one[/] :star: " + "x" * 100, why="why", do="do"),
    Finding(level="note", what="b", why="because", do="nothing"),
]


def test_findings_are_printed_as_they_stand_however_long_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    operation.show_findings(FOUND, as_json=False)

    assert capsys.readouterr().out == (
        f"error: {FOUND[0].what}\n  why\n  do\nnote: b\n  because\n  nothing\n"
    )


def test_where_nothing_is_found_that_is_said_to_people_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    operation.show_findings([], as_json=False)
    operation.show_findings([], as_json=True)

    assert capsys.readouterr().out == "nothing found\n"


def test_the_findings_for_programs_are_one_json_object_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    operation.show_findings(FOUND, as_json=True)

    rows = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert all(row.keys() == {"level", "what", "why", "do"} for row in rows)
    assert [row["level"] for row in rows] == ["error", "note"]


async def test_check_and_status_look_at_the_server(own_server: Callable[..., Server]) -> None:
    server = own_server()
    await give_up_in(server, "a")
    env = {"REDIS_URL": server.url}

    checked, status, as_json = await asyncio.gather(
        asyncio.to_thread(hookmill, "check", "--rate", "10", env=env),
        asyncio.to_thread(hookmill, "status", env=env),
        asyncio.to_thread(hookmill, "status", "--json", env=env),
    )

    assert (checked.returncode, checked.stderr) == (2, "")
    assert checked.stdout.startswith("error: appendonly is off\n  a restart of Redis loses ")
    assert "note: 1 dead letter lies in group main" in checked.stdout
    assert (status.returncode, status.stdout.splitlines()[2].split()[6]) == (0, "1")
    assert json.loads(as_json.stdout)["groups"][0]["dead"] == 1


def test_check_and_status_of_a_redis_that_is_away() -> None:
    checked, status = hookmill("check", env=NO_REDIS), hookmill("status", env=NO_REDIS)

    assert (checked.returncode, status.returncode) == (2, 1)
    assert checked.stdout.startswith("error: Redis cannot be used: Error 111 ")
    assert status.stderr.startswith("hookmill: Error 111 ")
    assert hookmill("check").stderr == faults(NO_REDIS_URL)


def test_check_reports_faults_of_tables_in_both_forms(tmp_path: Path) -> None:
    (tmp_path / "hookmill.toml").write_text('[sources.x]\npreset = "y"\n')
    plain, as_json = (
        hookmill("check", folder=tmp_path),
        hookmill("check", "--json", folder=tmp_path),
    )
    assert (plain.returncode, as_json.returncode) == (2, 2)
    (fault,) = [json.loads(line)["what"] for line in as_json.stdout.splitlines()]
    assert fault.startswith("sources.x.preset: there is no sender y; see https://")
    assert plain.stdout.startswith(f"error: {fault}\n")


def test_a_group_that_there_is_not_is_named_with_those_that_there_are(
    own_server: Callable[..., Server],
) -> None:
    env = {"REDIS_URL": own_server().url}
    added = hookmill("group", "add", "search", "--from", "now", env=env)
    assert added.returncode == 0
    for command in (("status",), ("dead", "list"), ("dead", "replay", "--all")):
        done = hookmill(*command, "--group", "typo", env=env)
        assert (done.returncode, done.stderr) == (
            1,
            faults("there is no group typo; there are: search"),
        )
    assert "search" in hookmill("status", "--group", "search", env=env).stdout


@pytest.mark.parametrize("command", ["status", "group list", "check"])
def test_a_closed_output_is_no_traceback(own_server: Callable[..., Server], command: str) -> None:
    script = f'"{sys.executable}" -m hookmill {command} >&-'
    env = {"PATH": os.environ["PATH"], "REDIS_URL": own_server().url}
    done = subprocess.run(
        ["sh", "-c", script], env=env, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == (2 if command == "check" else 0)


@pytest.mark.parametrize("command", ["status", "check"])
def test_a_full_disk_is_one_line_and_no_traceback(
    own_server: Callable[..., Server], command: str
) -> None:
    script = f'"{sys.executable}" -m hookmill {command} > /dev/full'
    env = {"PATH": os.environ["PATH"], "REDIS_URL": own_server().url}
    done = subprocess.run(
        ["sh", "-c", script], env=env, capture_output=True, text=True, check=False
    )
    said = faults("the output cannot be written: No space left on device")
    assert (done.returncode, done.stderr) == (1, said)


def test_a_name_with_a_line_break_forges_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    what = "group a\nerror: b"
    finding = Finding(level="warning", what=what, why="w\x1b[1m", do="d\n")
    operation.show_findings([finding], as_json=False)
    shown = "warning: group a\\nerror: b\n  w\\x1b[1m\n  d\\n\n"
    assert capsys.readouterr().out == shown
    group = msgspec.structs.replace(WORKED, name="a\nb")
    lines = operation.table(with_groups(group), 60.0)
    assert lines[2].startswith("a\\nb ")
    assert len(lines[1]) == len(lines[2])
