"""Deliveries that a whole receiver refuses: nothing is stored, no secret is shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from hookmill.config.sources import Source
from tests.receiver.serving import (
    HELLO,
    LIMIT,
    SECRETS,
    Connect,
    Make,
    StartReceiver,
    Stored,
    chunked,
    delivery,
    forged,
    request_bytes,
    tracebacks,
)
from tests.support import (
    CURRENT_KEY,
    signed_headers,
)

pytestmark = pytest.mark.usefixtures("lines")


def _resigned(source: Source, change: Callable[[str], str]) -> bytes:
    ((name, value),) = signed_headers(source.scheme, HELLO, source.path).items()
    return request_bytes(headers={name: change(value)}, target=source.path)


def _with_header(source: Source, row: bytes) -> bytes:
    return request_bytes(target=source.path, extra=(row,))


REFUSALS: dict[str, tuple[Make, int, str]] = {
    "qstash: no signature": (lambda _: request_bytes(), 401, "header_missing"),
    "qstash: another body": (lambda s: forged(s["qstash"]), 401, "body_mismatch"),
    "qstash: the secret as the token": (
        lambda s: _with_header(s["qstash"], b"Upstash-Signature: " + CURRENT_KEY.encode()),
        401,
        "token_malformed",
    ),
    "qstash: a tampered token": (
        lambda s: _resigned(s["qstash"], lambda token: token[:-8] + "AAAAAAAA"),
        401,
        "signature_mismatch",
    ),
    "qstash: two signatures": (
        lambda s: delivery(s["qstash"], extra=(b"upstash-signature: x.y.z",)),
        401,
        "header_repeated",
    ),
    "qstash: two message IDs": (
        lambda s: delivery(s["qstash"], extra=(b"Upstash-Message-Id: a", b"upstash-message-id: b")),
        401,
        "header_repeated",
    ),
    "qstash: UTF-8 in the signature": (
        lambda s: _with_header(s["qstash"], "Upstash-Signature: é.ü.ß".encode()),
        401,
        "token_malformed",
    ),
    "qstash: bytes that are no UTF-8 in the signature": (
        lambda s: _with_header(s["qstash"], b"Upstash-Signature: \xff\xfe.\x80.\xed\xa0\x80"),
        401,
        "token_malformed",
    ),
    "qstash: expired": (
        lambda s: request_bytes(
            headers=signed_headers(s["qstash"].scheme, HELLO, "/qstash", time.time() - 3600)
        ),
        401,
        "expired",
    ),
    "qstash: a token of marble's": (
        lambda s: delivery(s["marble"], target="/qstash"),
        401,
        "header_missing",
    ),
    "marble: no signature": (
        lambda _: request_bytes(target="/marble"),
        401,
        "header_missing",
    ),
    "marble: another body": (lambda s: forged(s["marble"]), 401, "signature_mismatch"),
    "marble: two signatures": (
        lambda s: delivery(s["marble"], extra=(b"X-Marble-Signature: sha256=00",)),
        401,
        "header_repeated",
    ),
    "marble: UTF-8 in the signature": (
        lambda s: _with_header(s["marble"], "x-marble-signature: sha256=é".encode()),
        401,
        "signature_mismatch",
    ),
    "marble: bytes that are no UTF-8 in the signature": (
        lambda s: _with_header(s["marble"], b"x-marble-signature: \xff\xfe\x80"),
        401,
        "signature_mismatch",
    ),
    "GET": (lambda s: delivery(s["qstash"], method="GET"), 405, "method_not_allowed"),
    "PUT": (lambda s: delivery(s["qstash"], method="PUT"), 405, "method_not_allowed"),
    "gzip, although it is signed": (
        lambda s: delivery(s["qstash"], extra=(b"Content-Encoding: gzip",)),
        415,
        "content_encoding",
    ),
    "gzip behind identity": (
        lambda s: delivery(
            s["qstash"], extra=(b"Content-Encoding: identity", b"Content-Encoding: gzip")
        ),
        415,
        "content_encoding",
    ),
    "one byte too many": (
        lambda s: delivery(s["qstash"], b"x" * (LIMIT + 1)),
        413,
        "too_large",
    ),
    "one byte too many, in chunks": (
        lambda s: chunked(
            signed_headers(s["marble"].scheme, b"x" * (LIMIT + 1), "/marble"),
            b"%x\r\n%b\r\n1\r\nx\r\n0\r\n\r\n" % (LIMIT, b"x" * LIMIT),
        ),
        413,
        "too_large",
    ),
}


@pytest.mark.parametrize(("make", "status", "code"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_refusal_stores_nothing_and_shows_no_secret(
    start: StartReceiver,
    connect: Connect,
    stored: Stored,
    lines: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    make: Make,
    status: int,
    code: str,
) -> None:
    running = await start()
    wire = await connect(running)
    await wire.send(make(running.sources))
    answer = await wire.answer()
    assert answer.status == status
    assert f'{{"error":"{code}","detail":"'.encode() in answer.body
    assert answer.headers["Content-Type"] == "application/json"
    assert len(answer.body) < 300
    assert stored() == []
    logged = repr(lines) + caplog.text
    for secret in SECRETS:
        assert secret not in repr(answer)
        assert secret not in logged
    assert [(line["event"], line["code"]) for line in lines] == [("refused", code)]
    assert tracebacks(caplog) == []


@pytest.mark.parametrize(("target", "status"), [("/other", 404), ("/readyz", 405)])
async def test_requests_to_other_paths_are_not_logged(
    start: StartReceiver,
    connect: Connect,
    stored: Stored,
    lines: list[dict[str, Any]],
    target: str,
    status: int,
) -> None:
    running = await start()
    wire = await connect(running)
    await wire.send(delivery(running.sources["qstash"], target=target))
    assert (await wire.answer()).status == status
    assert stored() == []
    assert lines == []


async def test_refusals_cannot_flood_the_log_and_kinds_do_not_hide_each_other(
    start: StartReceiver, connect: Connect, lines: list[dict[str, Any]]
) -> None:
    running = await start()
    wire = await connect(running)
    for _ in range(200):
        await wire.send(request_bytes())
        assert (await wire.answer()).status == 401
    assert 10 <= len(lines) < 100
    await wire.send(forged(running.sources["qstash"]))
    assert (await wire.answer()).status == 401
    assert lines[-1]["code"] == "body_mismatch"
