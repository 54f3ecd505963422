"""The answers that a sender gets, as values and over HTTP."""

from __future__ import annotations

import aiohttp
import pytest

from hookmill.errors import BacklogFullError, NotDurableError, StreamUnavailableError
from hookmill.runtime.spool_file import SpoolError
from hookmill.signatures import Refused
from receiver.responses import Refusal, handshake_reply, refusal_for, refusal_of
from tests.receiver.serving import (
    Connect,
    OwnServer,
    StartAt,
    StartReceiver,
    deliver,
    request_bytes,
    settings_for,
)

pytestmark = pytest.mark.usefixtures("lines")


async def test_a_405_names_the_allowed_methods(start: StartReceiver, connect: Connect) -> None:
    running = await start()
    wire = await connect(running)
    await wire.send(request_bytes(b"", method="GET"))
    assert (await wire.answer()).headers["Allow"] == "POST"
    await wire.send(request_bytes(b"", target="/healthz"))
    assert (await wire.answer()).headers["Allow"] == "GET, HEAD"


async def test_the_seconds_that_a_503_asks_for_are_a_setting(
    own_server: OwnServer, start_at: StartAt, http: aiohttp.ClientSession
) -> None:
    server = own_server()
    running = await start_at(settings_for(server, retry_after=17))
    server.kill()
    assert (await deliver(running, http))[:2] == (503, "17")
    async with http.get(f"{running.url}/readyz") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "17")


# --- as values ---


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (401, {}),
        (405, {"Allow": "POST, GET"}),
        (503, {"Retry-After": "17"}),
    ],
)
def test_a_refusal_becomes_a_reply_with_the_headers_of_its_status(
    status: int, headers: dict[str, str]
) -> None:
    reply = Refusal(status, "a_code", "a sentence").reply("POST, GET", 17)
    assert (reply.status, reply.body) == (status, b'{"error":"a_code","detail":"a sentence"}')
    assert dict(reply.headers) == {"Content-Type": "application/json", **headers}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BacklogFullError("full"), 503, "backlog_full"),
        (StreamUnavailableError("away"), 503, "stream_unavailable"),
        (NotDurableError("not on disk"), 503, "not_durable"),
        (SpoolError("full"), 503, "spool"),
        (LookupError("our own fault"), 500, "internal_error"),
    ],
)
def test_an_error_becomes_a_refusal_that_does_not_show_its_text(
    error: Exception, status: int, code: str
) -> None:
    refusal = refusal_for(error)
    assert (refusal.status, refusal.code) == (status, code)
    assert str(error) not in refusal.detail.split()


def test_a_handshakes_answer_is_never_run_by_a_browser() -> None:
    reply = handshake_reply(b"<script>")
    assert dict(reply.headers) == {
        "Content-Type": "text/plain",
        "X-Content-Type-Options": "nosniff",
    }


@pytest.mark.parametrize(
    ("code", "status"),
    [("too_many_fields", 400), ("value_too_long", 400), ("signature_mismatch", 401)],
)
def test_a_body_beyond_a_bound_is_a_bad_request_and_anything_else_is_unauthorised(
    code: str, status: int
) -> None:
    assert refusal_of(Refused(code, "why")) == Refusal(status, code, "why")
