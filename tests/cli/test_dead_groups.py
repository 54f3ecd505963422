"""What `hookmill dead groups` prints."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from hookmill.admin import dead_letters as admin
from hookmill.admin.filters import DeadLetterFilter
from hookmill.cli.dead_groups import list_groups
from hookmill.config.settings import Settings
from tests.cli.running import hookmill
from tests.given_up import FINGERPRINT, GiveUp
from tests.support import message


async def test_groups_of_the_same_error_have_a_line_each(
    settings: Callable[..., Settings],
    give_up: GiveUp,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    *_, dead_id = await give_up(message(type="a\x1b"), message(type="a\x1b"))
    fingerprint = FINGERPRINT

    await list_groups(settings(), DeadLetterFilter(), as_json=False)
    died = "2026-11-21T09:30:00Z"
    line = f"{fingerprint}  2  {died}  {died}  send  a\\x1b  {dead_id}  failed: ValueError"
    assert capsys.readouterr().out == f"{line}: no such order\n"

    monkeypatch.setattr(admin, "MOST_LOOKED_AT", 1)
    await list_groups(settings(), DeadLetterFilter(), as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out)["count"] == 1
    assert err == (
        "hookmill: these are the errors of the newest 1 of 2 dead letters: --all looks at all of "
        "them\n"
    )
    await list_groups(settings(), DeadLetterFilter(reason="x"), as_json=False, everything=True)
    assert capsys.readouterr().out == "no dead letters\n"
    emptied()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (
            ["--error", "5\x1b"],
            r"--error 5\x1b: give a fingerprint, as `hookmill dead groups` shows it",
        ),
        (["--where", "x"], "--where 'x': give a path in the body and a value, such as"),
    ],
)
def test_an_option_that_cannot_be_read_ends_with_2(option: list[str], said: str) -> None:
    ended = hookmill("dead", "groups", *option)
    assert ended.returncode == 2
    assert said in ended.stderr
