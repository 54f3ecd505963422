"""What `hookmill replay` prints, asks and records."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hookmill.admin import replays
from hookmill.admin.audit import listed
from hookmill.admin.replay_filter import ReplayFilter
from hookmill.cli.replay import replay_all
from hookmill.config.settings import Settings
from hookmill.errors import GroupLostError
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Settlement
from hookmill.stream.facts import Heartbeat
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from tests.cli.running import NO_REDIS, hookmill
from tests.given_up import OpenGroup
from tests.stream.ordering import run_all
from tests.support import message


@pytest.fixture
async def group(stream: Producer, open_group: OpenGroup) -> Consumer:
    """A group that has handled three messages."""
    opened = await open_group()
    beats = Heartbeats(stream.client, "main")
    about: dict[str, Any] = {"handlers": {"h": ("a\x1b",)}, "can": ("replay",)}
    await beats.write(Heartbeat(name=opened.consumer, lease=60, **about))
    await stream.append([message(id=f"m{n}", type="a\x1b") for n in range(3)])
    await run_all(opened)
    return opened


async def test_a_dry_run_shows_the_first_ones_and_changes_nothing(
    settings: Callable[..., Settings], group: Consumer, capsys: pytest.CaptureFixture[str]
) -> None:
    await replay_all(settings(), replays.opened(settings()), dry_run=True)
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == "would replay 3"
    assert [line.split("  ")[2:] for line in lines] == [
        ["qstash", r"a\x1b", "-", f"m{n}"] for n in range(3)
    ]

    await replay_all(settings(), replays.opened(settings()), dry_run=True, as_json=True)
    *rows, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [row["message_id"] for row in rows] == ["m0", "m1", "m2"]
    left_out = {"forgotten": 0, "duplicates": 0, "unfinished": 0, "gone": 0}
    assert last == {"would_replay": 3, **left_out}
    assert await run_all(group) == []


async def test_where_nothing_is_kept_a_dry_run_says_which_setting_keeps_it(
    settings: Callable[..., Settings], group: Consumer, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = ReplayFilter(since_ms=4_102_444_800_000)  # the year 2100
    await replay_all(settings(), replays.opened(settings(), nothing), dry_run=True)
    printed = capsys.readouterr()
    assert printed.out == "would replay 0\n"
    assert "HOOKMILL_RETENTION is 0" in printed.err


async def test_before_the_first_message_there_is_nothing_to_replay(
    settings: Callable[..., Settings], stream: Producer, capsys: pytest.CaptureFixture[str]
) -> None:
    await replay_all(settings(), replays.opened(settings()), dry_run=True)
    assert capsys.readouterr().out == "would replay 0\n"


async def test_before_the_first_worker_it_says_that_there_is_no_group(
    settings: Callable[..., Settings], stream: Producer
) -> None:
    await stream.append([message()])
    with pytest.raises(GroupLostError, match="no such group yet: its first worker makes it"):
        await replay_all(settings(), replays.opened(settings()), dry_run=True)


async def test_it_asks_first_says_what_was_done_and_records_it(
    settings: Callable[..., Settings],
    stream: Producer,
    group: Consumer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []

    def confirm(question: str) -> bool:
        asked.append(question)
        return len(asked) > 1

    ours = settings(operator="ann")
    for _ in range(2):
        opened = replays.opened(ours, ReplayFilter(handler="h"))
        await replay_all(ours, opened, confirm=confirm, why="a bug")
    assert asked == ["run 3 handled messages of group main again, with handler h?"] * 2
    assert capsys.readouterr().out == "replayed none\nreplayed 3\n"
    assert await run_all(group) == ["m0", "m1", "m2"]
    (action,) = [one async for one in listed(ours)]
    assert (action.action, action.who, action.why) == ("replay", "ann", "a bug")
    assert action.result["replayed"] == 3
    await stream.append([message(id="m0"), message(id="new")])
    (entry,) = (await group.take(10)).entries
    await replay_all(ours, replays.opened(ours), confirm=lambda _: False)
    assert capsys.readouterr().out == "replayed none\n"
    await replay_all(ours, replays.opened(ours), confirm=lambda _: True)
    said = "replayed 3; left out: 1 unfinished, 1 duplicates of others\n"
    assert capsys.readouterr().out == said
    assert len(await run_all(group)) == 3
    await group.settle([Settlement(entry.ref)])


async def test_where_it_breaks_off_it_says_how_to_go_on(
    settings: Callable[..., Settings],
    group: Consumer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replays, "_STEP", 1)
    original = replays.Replay._step

    async def step(self: replays.Replay, *args: object, **kwargs: object) -> object:
        if self._total.replayed == 2:
            raise KeyboardInterrupt
        return await original(self, *args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(replays.Replay, "_step", step)
        with pytest.raises(KeyboardInterrupt):
            await replay_all(settings(), replays.opened(settings()))
    out, err = capsys.readouterr()
    assert out == "replayed 2\n"
    name = err.split()[-1].strip("`")
    assert err == f"hookmill: not done: go on with `hookmill replay --resume {name}`\n"

    await replay_all(settings(), replays.resumed(settings(), name))
    assert capsys.readouterr().out == "replayed 3\n"
    assert await run_all(group) == ["m0", "m1", "m2"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give filters, or --all, or --resume NAME alone"),
        (["--all", "--type", "a"], "give filters, or --all"),
        (["--resume", "x", "--to", "h"], "--resume NAME alone"),
        (["--where", "a.=1"], "give a path in the body and a value"),
        (["--since", "soon"], "--since soon: give a time such as"),
    ],
)
@pytest.mark.one_server
def test_options_that_say_nothing_clear_end_with_2(options: list[str], said: str) -> None:
    ended = hookmill("replay", *options, env=NO_REDIS)
    assert ended.returncode == 2
    assert said in ended.stderr
