"""What operators do is recorded: at the begin, at the end, and whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from hookmill.admin import audit
from hookmill.admin.audit import Operator, acting, describe, record
from hookmill.config.settings import Settings
from hookmill.stream import audit as records

pytestmark = pytest.mark.one_server  # it is one script, which only adds to a stream

MakeSettings = Callable[..., Settings]


async def listed(settings: Settings, **wanted: Any) -> list[dict[str, Any]]:
    return [describe(one) async for one in audit.listed(settings, **wanted)]


async def test_an_action_is_recorded_with_who_what_why_and_what_came_of_it(
    settings: MakeSettings,
) -> None:
    about = {"group": "main", "filter": {"source": "acme", "type": None}, "rate": None}
    ours = settings(operator="Ada")
    operator = Operator.of(ours, "endpoint is up again")
    async with acting(ours, "dead replay", about, operator) as act:
        (open_one,) = await listed(ours)
        act.result(replayed=2)
        act.result(of=3)
    (seen,) = await listed(ours)
    assert (open_one["state"], open_one["result"]) == ("open", {})
    assert seen["at"].endswith("+00:00")
    assert seen | {"id": "", "at": ""} == {
        "id": "",
        "at": "",
        "who": "Ada",
        "action": "dead replay",
        "details": {"group": "main", "filter": {"source": "acme"}},
        "why": "endpoint is up again",
        "state": "done",
        "result": {"replayed": 2, "of": 3},
        "error": "",
    }


@pytest.mark.parametrize("error", [ValueError("no such handler"), asyncio.CancelledError()])
async def test_a_failure_is_recorded_with_what_was_done_before_it(
    settings: MakeSettings, error: BaseException
) -> None:
    async def drop() -> None:
        async with acting(settings(), "dead drop", {}) as act:
            act.result(dropped=1)
            raise error

    with pytest.raises(type(error)):
        await drop()
    (seen,) = await listed(settings())
    assert (seen["state"], seen["result"]) == ("failed", {"dropped": 1})
    assert seen["error"] == (str(error) or "CancelledError")


async def test_an_action_is_done_where_it_cannot_be_recorded_and_that_is_said() -> None:
    away = Settings(redis_url="redis://127.0.0.1:1")
    with capture_logs() as logs:
        async with acting(away, "dead replay", {}) as act:
            act.result(replayed=1)
        await record(Settings(), "spool drop", {"ids": [1]})
    assert [line["event"] for line in logs] == ["not recorded"] * 2
    assert logs[1]["reason"].startswith("this action could not be recorded: REDIS_URL is not set")
    told: list[str] = []
    await record(away, "spool drop", {"ids": [1]}, Operator("Ada", tell=told.append))
    assert len(told) == 1


async def test_an_action_whose_begin_could_not_be_recorded_is_recorded_at_its_end(
    settings: MakeSettings, redis_client: redis.Redis, prefix: str
) -> None:
    key = f"{prefix}:{{0}}:audit"
    redis_client.set(key, "no stream")
    with capture_logs() as logs:
        async with acting(settings(), "group add", {"group": "cdn"}):
            redis_client.delete(key)
    assert len(logs) == 1
    (seen,) = await listed(settings())
    assert (seen["action"], seen["state"]) == ("group add", "done")
    assert seen["details"] == {"group": "cdn"}


async def test_the_newest_come_first_and_can_be_chosen(settings: MakeSettings) -> None:
    for number in range(3):
        await record(settings(), f"dead {number}", {})
    await record(settings(), "replay", {}, Operator("token of Bo"))
    every = await listed(settings())
    assert [one["action"] for one in every] == ["replay", "dead 2", "dead 1", "dead 0"]
    assert every[0]["who"] == "token of Bo"
    some = await listed(settings(), action="dead *", limit=2)
    assert [one["action"] for one in some] == ["dead 2", "dead 1"]
    assert await listed(settings(), since_ms=2**48 - 1) == []


async def test_only_so_many_are_kept(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis, prefix: str
) -> None:
    monkeypatch.setattr(records, "MOST_RECORDS", 100)
    for number in range(250):
        redis_client.xadd(f"{prefix}:{{0}}:audit", {"action": f"old {number}"})
    await record(settings(), "replay", {})
    seen = await listed(settings())
    assert 100 <= len(seen) < 250  # whole blocks of the stream are dropped
    assert seen[0]["action"] == "replay"


async def test_long_lists_and_texts_are_shortened(settings: MakeSettings) -> None:
    about = {"ids": [f"{number}-0" for number in range(1000)], "handler": "h" * 10_000}
    await record(settings(), "dead drop", about, Operator("Ada", "w" * 10_000))
    await record(settings(), "dead drop", {str(n): "x" * 500 for n in range(100)})
    many, one = await listed(settings())
    assert one["details"]["ids"][-2:] == ["19-0", "and 980 more"]
    assert (len(one["details"]["handler"]), len(one["why"])) == (500, 500)
    assert len(many["details"]["shortened"]) == 4000


@given(st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53) | st.lists(st.text())))
def test_whatever_the_details_are_they_become_json(values: dict[str, Any]) -> None:
    assert isinstance(msgspec.json.decode(audit._json(values)), dict)


async def test_what_somebody_else_wrote_there_is_shown(
    settings: MakeSettings, redis_client: redis.Redis, prefix: str
) -> None:
    key = f"{prefix}:{{0}}:audit"
    redis_client.xadd(key, {"action": b"\xff", "details": "[1]"})
    redis_client.xadd(key, {"of": "1-1", "result": "{}"})
    (seen,) = await listed(settings())
    assert (seen["action"], seen["state"]) == ("\ufffd", "open")
    assert seen["details"] == {"unreadable": "[1]"}


def test_who_acts_is_the_operator_of_the_settings_or_the_user_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Operator.of(Settings(operator="Ada")).name == "Ada"
    user, at, host = Operator.of(Settings()).name.partition("@")
    assert user
    assert at
    assert host

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert Operator.of(Settings()).name.startswith("uid ")
