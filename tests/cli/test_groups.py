"""`hookmill group` as an operator runs it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import redis

from hookmill.cli.groups import table
from tests.cli.running import NO_REDIS, faults, give_up_in, hookmill
from tests.support import Server


async def test_groups_are_added_and_listed(own_server: Callable[..., Server]) -> None:
    server = own_server()
    env = {"REDIS_URL": server.url}

    def group(*command: str, status: int = 0) -> str:
        done = hookmill("group", *command, env=env)
        assert done.returncode == status, done
        return done.stdout or done.stderr

    assert group("list") == "there is no group\n"
    assert group("list", "--json") == ""
    await give_up_in(server, "order.paid")
    assert group("add", "search", "--from", "now") == "added group search, from now on\n"
    assert group("add", "cdn", "--from", "beginning") == "added group cdn, from the beginning\n"
    again = group("add", "search", "--from", "now", status=1)
    assert again == faults("there is a group search already")

    lines = group("list").splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["group", "backlog", "bytes", "oldest", "held", "delayed", "parked", "dead", "workers"],
        ["cdn", "1", "-", lines[1].split()[3], "s", "0", "0", "0", "0", "0"],
        ["main", "0", "-", "-", "0", "0", "0", "1", lines[2].split()[-1]],
        ["search", "0", "-", "-", "0", "0", "0", "0", "0"],
    ]
    assert lines[4:] == [
        "cdn: pins the stream; it has unfinished work, and no worker of it runs",
    ]
    seen = [json.loads(line) for line in group("list", "--json").splitlines()]
    assert [(one["name"], one["from"], one["pins"]) for one in seen] == [
        ("cdn", "beginning", True),
        ("main", "first", False),
        ("search", "now", False),
    ]


@pytest.mark.parametrize("name", ["a:b", "a b", "", "{a}", "a\x1b[1m"])
def test_a_name_that_cannot_be_part_of_a_key_is_refused(name: str) -> None:
    done = hookmill("group", "add", name, "--from", "now", env=NO_REDIS)
    assert done.returncode == 2
    assert repr(name) in " ".join(done.stderr.split())


def test_how_a_group_begins_has_to_be_said() -> None:
    assert hookmill("group", "add", "search", env=NO_REDIS).returncode == 2


def test_names_of_groups_that_others_made_are_shown_escaped(
    own_server: Callable[..., Server],
) -> None:
    server = own_server()
    with redis.Redis.from_url(server.url) as client:
        client.xgroup_create("hookmill:{0}:stream", "a\x1b[1m", "0", mkstream=True)
    for command in (("group", "list"), ("status",)):
        done = hookmill(*command, env={"REDIS_URL": server.url})
        assert "a\\x1b[1m" in done.stdout


@pytest.mark.parametrize(
    ("state", "remark"),
    [
        ("adding", "search: half made; finish `hookmill group add search --from now`"),
        ("dropping", "search: half dropped; finish `hookmill group drop search`"),
    ],
)
def test_a_group_that_is_half_made_or_dropped_says_how_to_finish_it(
    state: str, remark: str
) -> None:
    seen = dict.fromkeys(("backlog", "backlog_bytes", "oldest_age", "held", "delayed", "parked"))
    half = {
        **seen,
        "dead": None,
        "workers": None,
        "name": "search",
        "state": state,
        "from": "now",
        "pins": None,
    }
    assert table([half])[1:] == [
        "search  unknown      -       -     -        -       -     -        -",
        remark,
    ]
