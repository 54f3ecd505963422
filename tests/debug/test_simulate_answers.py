"""What comes back from a delivery: an answer, or the reason why there is none."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from hookmill.debug.simulate import ReceiverAnswer, answers, deliver, fresh_message_id
from hookmill.errors import SendError
from tests.debug.endpoint import MARBLE, Endpoint, answering, send
from tests.ports import free_port

# --- what comes back ---


@pytest.mark.parametrize("status", [200, 204, 401, 413, 503])
async def test_the_status_of_the_answer_is_returned(endpoint: Endpoint, status: int) -> None:
    endpoint.answer = answering(status)
    assert await send(endpoint, "qstash", b"{}") == ReceiverAnswer(status, "")


async def test_the_text_of_the_answer_is_returned_trimmed_and_shortened(endpoint: Endpoint) -> None:
    endpoint.answer = answering(400, body=b"\n no \xff" + b"x" * 5000)
    answer = await send(endpoint, "qstash", b"{}")
    assert answer.status == 400
    assert answer.text.startswith("no \ufffdx")
    assert len(answer.text) <= 1000


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_is_not_followed(endpoint: Endpoint, status: int) -> None:
    # Followed, it would be a GET of another place, whose 200 says nothing about this delivery.
    endpoint.answer = answering(status, headers={"Location": "/elsewhere"})
    assert (await send(endpoint, "qstash", b"{}")).status == status
    assert len(endpoint.requests) == 1


async def test_a_refused_connection_is_a_send_error() -> None:
    url = f"http://127.0.0.1:{free_port()}/hook"
    with pytest.raises(SendError) as caught:
        await deliver("marble", MARBLE, url, b"{}", message_id="7")
    assert str(caught.value).startswith(f"{url}: Cannot connect to host")


async def test_a_connection_that_breaks_off_is_a_send_error(endpoint: Endpoint) -> None:
    async def cut(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    endpoint.answer = cut
    with pytest.raises(SendError, match="/hook: Server disconnected"):
        await send(endpoint, "qstash", b"{}")


async def test_an_endpoint_that_never_answers_is_a_send_error(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hookmill.debug.simulate.TIMEOUT", 0.05)
    released = asyncio.Event()

    async def hang(request: web.BaseRequest) -> web.Response:
        await released.wait()
        return web.Response()

    endpoint.answer = hang
    with pytest.raises(SendError, match=r"/hook: (?i:.*timeout)"):
        await send(endpoint, "qstash", b"{}")
    released.set()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "ftp://127.0.0.1/hook",
        "http:///hook",
        "http://127.0.0.1:99999/hook",
        "http://[::1/hook",
        "http://a..b/hook",
        f"http://{'a' * 70}.example/hook",
    ],
    ids=lambda url: url[:30],
)
async def test_what_is_no_url_is_a_send_error(url: str) -> None:
    with pytest.raises(SendError):
        await deliver("marble", MARBLE, url, b"{}", message_id="7")


@pytest.mark.parametrize("message_id", ["a\nb", "a\r\nX-Forged: 1", "a\0b"])
async def test_what_cannot_stand_in_a_header_is_a_send_error(
    endpoint: Endpoint, message_id: str
) -> None:
    for source in ("qstash", "marble"):
        with pytest.raises(SendError):
            await send(endpoint, source, b"{}", message_id=message_id)
    with pytest.raises(SendError):
        await send(endpoint, "marble", b'{"id":"a","type":"b\\nc"}')
    assert endpoint.requests == []


def test_no_two_fresh_message_ids_are_the_same() -> None:
    made = {fresh_message_id() for _ in range(100)}
    assert len(made) == 100
    assert all(each.startswith("msg_") and each.isascii() for each in made)


# --- asking whether somebody is there ---


@pytest.mark.parametrize(("status", "there"), [(200, True), (503, False), (404, False)])
async def test_an_endpoint_is_there_when_a_get_is_answered_with_200(
    endpoint: Endpoint, status: int, there: bool
) -> None:
    endpoint.answer = answering(status)
    assert await answers(f"{endpoint.base}/readyz") is there
    assert endpoint.methods == ["GET"]


async def test_a_port_without_a_listener_is_reported_as_such() -> None:
    assert not await answers(f"http://127.0.0.1:{free_port()}/readyz")
