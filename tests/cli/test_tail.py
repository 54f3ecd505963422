"""What `hookmill tail` and `hookmill forward` print."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Callable

import pytest

from hookmill.admin.forwarding import Sent
from hookmill.admin.tailing import TailEvent, Wanted
from hookmill.cli.forward import line_of, send_on
from hookmill.cli.tail import say_event, show
from hookmill.config.settings import Settings
from hookmill.errors import UsageError
from hookmill.stream.producer import Producer
from hookmill.stream.refused import RefusedDeliveries, RefusedDelivery
from tests.ports import free_port
from tests.support import Server, message

HOSTILE = "\x1b[2J evil"


async def test_a_line_ends_with_the_cursor_from_which_it_goes_on(
    settings: Callable[..., Settings], stream: Producer, capsys: pytest.CaptureFixture[str]
) -> None:
    await stream.append([message(id=HOSTILE, source="shop", type="a.b"), message(id="2")])
    kept = RefusedDeliveries(stream.client)
    refused = RefusedDelivery(source="shop", status=401, code="x", detail="d", hints=("it was y",))
    await kept.put(await kept.claim("shop", 9), refused)
    await show(settings(), Wanted(), 0, ends=True)
    first, second, third = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"2023-11-14T22:13:20.000\+00:00  in  shop  a\.b  \\x1b\[2J evil  \S+", first
    )
    assert "  refused  shop  401 x  it would match if it was y  " in third
    await show(settings(), Wanted(), cursor=first.rpartition("  ")[2], ends=True)
    assert capsys.readouterr().out.splitlines() == [second, third]


async def test_bodies_follow_their_line_and_programs_get_json(
    settings: Callable[..., Settings], stream: Producer, capsys: pytest.CaptureFixture[str]
) -> None:
    await stream.append([message(b"one\ntwo", id="1", header_block=b"A: b\r\nC: d")])
    await show(settings(), Wanted(), 0, body=True, ends=True)
    _, *lines = capsys.readouterr().out.splitlines()
    assert lines == ["headers:", "  A: b", "  C: d", "", "body:", "  one", "  two", ""]
    await show(settings(), Wanted(), 0, ends=True, as_json=True)
    seen = json.loads(capsys.readouterr().out)
    assert (seen["kind"], seen["message_id"], seen["cursor"]) == (
        "arrived",
        "1",
        f"{seen['entry']}/{seen['cursor'].partition('/')[2]}",
    )


def test_an_outcome_has_its_handler_and_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"at": "now", "source": "shop", "type": "a", "message_id": "1", "outcome": "retry"}
    facts |= {"handler": "book", "reason": "ValueError: no\n"}
    one = TailEvent("handled", "1-0/0-0", {**facts, "seconds": 0.0125, "is_late": True})
    say_event(one, as_json=False)
    assert capsys.readouterr().out == (
        "now  retry  shop  a  1  book 12 ms  too late  ValueError: no\\n  1-0/0-0\n"
    )


def test_what_was_missed_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    say_event(TailEvent("missed", "1-0/0-0", {"messages": 3}), as_json=False)
    assert capsys.readouterr().out.startswith("3 more came in and were dropped from Redis")


async def test_forward_has_a_line_for_each_delivery(
    settings: Callable[..., Settings], stream: Producer, capsys: pytest.CaptureFixture[str]
) -> None:
    await stream.append([message(id="1", source="shop", type=HOSTILE)])
    url = f"http://127.0.0.1:{free_port()}"
    await send_on(settings(), url, Wanted(), 0, ends=True)
    line = capsys.readouterr().out
    assert line.startswith("not sent  shop  \\x1b[2J evil  1  Cannot connect")
    await send_on(settings(), url, Wanted(), 0, ends=True, as_json=True)
    assert json.loads(capsys.readouterr().out)["status"] is None
    sent = Sent(at="", entry="1-0", source="shop", type="a", message_id="1", status=200, ms=7)
    assert line_of(sent) == "200  7 ms  shop  a  1"


@pytest.mark.one_server
async def test_a_bad_cursor_or_url_is_a_fault_of_usage(settings: Callable[..., Settings]) -> None:
    with pytest.raises(UsageError, match="is no cursor"):
        await show(settings(), Wanted(), cursor="zzz")
    with pytest.raises(UsageError, match="give an http or https URL"):
        await send_on(settings(), "ftp://localhost", Wanted())


@pytest.mark.one_server
async def test_ctrl_c_ends_both_commands_without_a_traceback(
    server: Server, prefix: str, stream: Producer
) -> None:
    await stream.append([message(id="1")])
    env = {"PATH": os.environ["PATH"], "REDIS_URL": server.url, "HOOKMILL_PREFIX": prefix}
    url = f"http://127.0.0.1:{free_port()}"
    # A day, because on a busy machine a command may begin minutes after the message came.
    for command in (["tail", "--since", "1d"], ["forward", url, "--since", "1d"]):
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hookmill", *command),
            env=env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert running.stdout is not None
        try:
            async with asyncio.timeout(50):
                assert b"  1  " in await running.stdout.readline()
                running.send_signal(signal.SIGINT)
                _, errors = await running.communicate()
        finally:
            if running.returncode is None:
                running.kill()
                await running.wait()
        assert (running.returncode, errors) == (0, b"")
