"""`hookmill check` and `hookmill status` as a person and a program read them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import msgspec
import pytest
import redis
from pydantic import SecretStr

from hookmill.admin import checkup
from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Settlement
from hookmill.stream.facts import ConsumerFacts, GroupFacts, Overview
from hookmill.stream.producer import Producer
from tests.support import CURRENT_KEY, Server, eventually, message

OpenGroup = Callable[..., Awaitable[Consumer]]

SEEN = Overview(
    now_ms=1_700_000_200_000,
    partitions=1,
    length=1234,
    bytes=567_000,
    used_memory=20_000_000,
    maxmemory=100_000_000,
    groups=(
        GroupFacts(
            name="main",
            waiting=1200,
            held=30,
            delayed=4,
            again=0,
            parked=5,
            dead=2,
            oldest_ms=1_700_000_000_000,
            remembered=50_000,
            duplicates=77,
            late=1,
            consumers=(
                ConsumerFacts(name="host-1", pending=30, idle_ms=400),
                ConsumerFacts(name="host-2", pending=0, idle_ms=90_000),
            ),
        ),
        GroupFacts(
            name="search",
            waiting=None,
            held=0,
            delayed=0,
            again=0,
            parked=0,
            dead=0,
            oldest_ms=None,
            remembered=0,
            duplicates=0,
            late=0,
            consumers=(),
        ),
    ),
)


def test_the_status_is_a_table_and_a_group_that_nobody_runs_is_marked() -> None:
    assert checkup.table(SEEN, 60.0) == [
        "stream: 1,234 entries, 567 kB; Redis uses 20 MB of 100 MB",
        "group   waiting  held  delayed  again  parked  dead  oldest     IDs  duplicates  workers",
        "main      1,200    30        4      0       5     2     3 m  50,000          77        1",
        "search  unknown     0        0      0       0     0       -       0           0        0",
        "main: host-1 holds 30, heard of 0 s ago",
        "main: host-2 holds 0, heard of 90 s ago",
        "nobody runs group search",
    ]


def test_the_status_for_programs_gives_ages_instead_of_times() -> None:
    seen = checkup.describe(SEEN, 60.0)

    assert seen["stream"] == {"partitions": 1, "length": 1234, "bytes": 567_000}
    assert (seen["used_memory"], seen["maxmemory"]) == (20_000_000, 100_000_000)
    main, search = seen["groups"]
    assert main == {
        "name": "main",
        "waiting": 1200,
        "held": 30,
        "delayed": 4,
        "again": 0,
        "parked": 5,
        "dead": 2,
        "oldest_age": 200.0,
        "remembered": 50_000,
        "duplicates": 77,
        "late": 1,
        "workers": 1,
        "consumers": [
            {"name": "host-1", "pending": 30, "idle_ms": 400},
            {"name": "host-2", "pending": 0, "idle_ms": 90_000},
        ],
    }
    assert (search["waiting"], search["oldest_age"], search["workers"]) == (None, None, 0)


def test_what_is_not_known_or_not_there_is_said_so() -> None:
    bare = msgspec.structs.replace(SEEN, bytes=None, maxmemory=0, groups=())

    assert checkup.table(bare, 60.0) == [
        "stream: 1,234 entries, size unknown; Redis uses 20 MB",
        "no group: no worker has run yet",
    ]
    assert checkup.describe(bare, 60.0)["maxmemory"] is None


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

    await checkup.status(settings(), as_json=as_json)

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


async def test_who_watches_sees_redis_go_and_come_back(
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

    watching = asyncio.create_task(checkup.status(settings, every=0.05, as_json=True))
    await eventually(lambda: said().count('"stream"') >= 2)
    server.kill()
    await eventually(lambda: said() and "".join(err).startswith("hookmill: "))
    before = said().count('"stream"')
    server.start()
    await eventually(lambda: said().count('"stream"') > before)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_without_watching_a_redis_that_is_away_is_an_error_of_ours() -> None:
    with pytest.raises(StreamUnavailableError):
        await checkup.status(Settings(redis_url="redis://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("options", "status", "worst"),
    [
        (("--appendonly", "no"), 2, "error: appendonly is off"),
        (("--appendonly", "yes"), 1, "warning: appendfsync is everysec"),
        (("--appendonly", "yes", "--appendfsync", "always"), 0, "note: "),
    ],
)
async def test_the_exit_status_follows_the_worst_finding_which_comes_first(
    own_server: Callable[..., Server],
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    status: int,
    worst: str,
) -> None:
    settings = Settings(
        redis_url=own_server("--save", "", *options).url,
        qstash_current_signing_key=SecretStr(CURRENT_KEY),
        public_url="https://app.example",
    )

    assert await checkup.check(settings, rate=10) == status

    printed = capsys.readouterr().out
    assert printed.startswith(worst)
    assert "2,592,000 to 5,184,000 message IDs are remembered" in printed


async def test_the_findings_for_programs_are_one_json_object_a_line(
    settings: Callable[..., Settings],
    capsys: pytest.CaptureFixture[str],
    redis_client: redis.Redis,
) -> None:
    assert await checkup.check(settings(), as_json=True) == 2

    rows = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert all(row.keys() == {"level", "what", "why", "do"} for row in rows)
    assert [row["what"] for row in rows if row["level"] == "error"] == ["appendonly is off"]


async def test_a_redis_that_is_away_is_a_finding_and_the_settings_are_judged_all_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    away = Settings(redis_url="redis://:hunter2@127.0.0.1:1")

    assert await checkup.check(away) == 2

    printed = capsys.readouterr().out
    assert printed.startswith("error: Redis cannot be used: Error ")
    assert "note: no source is configured" in printed
    assert "hunter2" not in printed


async def test_a_group_without_workers_is_found_as_long_as_messages_wait_for_it(
    settings: Callable[..., Settings], stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await stream.append([message()])
    alarm = "nobody runs group main, and messages wait for it"

    assert alarm in [finding.what for finding in await checkup.find(settings(), None)]

    (entry,) = (await group.take(1)).entries
    assert alarm not in [finding.what for finding in await checkup.find(settings(), None)]
    await group.settle([Settlement(entry.ref)])
