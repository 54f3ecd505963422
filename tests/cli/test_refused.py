"""What `hookmill refused` prints."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from hookmill.admin.refused import NoSuchRefusedError
from hookmill.cli.refused import list_all, show
from hookmill.config.settings import Settings
from hookmill.config.source_options import SourceOptions
from hookmill.stream.producer import Producer
from hookmill.stream.refused import RefusedDeliveries, RefusedDelivery

HOSTILE = "\x1b[2J\u202eevil"


async def keep(stream: Producer, source: str, **fields: object) -> str:
    kept = RefusedDeliveries(stream.client)
    place = await kept.claim(source, 100)
    given = {"status": 401, "code": "signature_mismatch", "detail": "it is not", **fields}
    await kept.put(place, RefusedDelivery(source=source, **given))  # type: ignore[arg-type] # fields of any type
    return place.id


async def test_the_list_says_first_what_would_have_matched(
    settings: Callable[..., Settings], stream: Producer, capsys: pytest.CaptureFixture[str]
) -> None:
    await list_all(settings(), None, as_json=False)
    assert capsys.readouterr().out.startswith("none is kept. Receivers keep refused deliveries")

    first = await keep(stream, "shop", hints=("the body had a newline",), cause="a", size=3)
    second = await keep(stream, "bank", detail=HOSTILE)
    await list_all(settings(), None, as_json=False)
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], *line[2:]) for line in lines] == [
        (second, "bank", "401 signature_mismatch", "\\x1b[2J\\u202eevil"),
        (first, "shop", "401 signature_mismatch", "it would match if the body had a newline"),
    ]
    await list_all(settings(), "sh*", as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    seen = json.loads(line)
    assert seen.pop("at")
    assert seen == {
        "id": first,
        "source": "shop",
        "status": 401,
        "code": "signature_mismatch",
        "detail": "it is not",
        "cause": "a",
        "bytes": 3,
        "would_match_if": ["the body had a newline"],
    }


async def test_one_is_shown_whole_without_what_is_redacted(
    settings: Callable[..., Settings], stream: Producer, capsys: pytest.CaptureFixture[str]
) -> None:
    kept_id = await keep(
        stream,
        "shop",
        body=b'{"email":"ada","a":1}',
        size=21,
        header_block=b"X-A: \x1b[2J\r\nX-Customer: ada",
        explanation=("one", "two"),
        hints=("the body was empty",),
    )
    redacting = settings(sources={"shop": SourceOptions(redact=("email", "header:x-customer"))})
    await show(redacting, kept_id, as_json=False)
    shown = capsys.readouterr().out
    assert "ada" not in shown
    assert 'body: {"email": "[redacted]", "a": 1}\n' in shown
    assert "headers:\n  X-A: \\x1b[2J\n  X-Customer: [redacted]\n" in shown
    assert "explanation:\n  one\n  two\n" in shown
    assert "would_match_if: the body was empty\n" in shown
    assert "cut" not in shown

    await show(settings(), kept_id, as_json=True)
    seen = json.loads(capsys.readouterr().out)
    assert (seen["body"], seen["is_cut"]) == ('{"email":"ada","a":1}', False)


async def test_a_cut_body_is_said_to_be_one(
    settings: Callable[..., Settings], stream: Producer, capsys: pytest.CaptureFixture[str]
) -> None:
    kept_id = await keep(stream, "shop", body=b"abc", size=9)
    await show(settings(), kept_id, as_json=False)
    assert capsys.readouterr().out.endswith("the body is cut: it had 9 bytes\n")


async def test_what_is_not_kept_is_named(
    settings: Callable[..., Settings], stream: Producer
) -> None:
    for wrong in ("1-0", "", "*", HOSTILE):
        with pytest.raises(NoSuchRefusedError, match="`hookmill refused list` shows"):
            await show(settings(), wrong, as_json=False)
