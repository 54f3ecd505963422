"""The sender over real sockets: what goes out, and what is known when something goes wrong."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import hookmill
from hookmill import (
    Event,
    FlowControl,
    HookmillError,
    Outgoing,
    Published,
    RetryPolicy,
    Sender,
    SendError,
)
from hookmill.errors import SettingsError
from hookmill.sending import batches as batches_module
from hookmill.sending import transport as posting_module
from hookmill.signatures import Signed, Verified
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec_verifier import SpecVerifier
from tests.scripted import (
    Call,
    Scripted,
    Step,
    accept,
    answer,
    cut,
    garbage,
    half,
    raw,
    says,
    silent,
    vanish,
)
from tests.support import eventually, free_port

TOKEN = "token_5d1f0c9a7d3e2468"
SECRET = "subscribers_own_secret"
WHSEC = "whsec_c3Vic2NyaWJlcnMgb3duIHNlY3JldA=="
URL = "https://app.example/hook"

QUICK = RetryPolicy(attempts=4, total=20, first_pause=0.01, longest_pause=0.02, patience=5)
THRICE = RetryPolicy(attempts=3, first_pause=0.01, longest_pause=0.02)
IMPATIENT = RetryPolicy(attempts=3, total=0.3, first_pause=0.01, longest_pause=0.02)


class PostPublished(Event, tag="post.published"):
    id: str
    title: str = ""


POST = PostPublished(id="1", title="ä")

Open = Callable[..., Sender]


@pytest.fixture
async def sender_to() -> AsyncIterator[Open]:
    """Open senders for a scripted server; they are closed at the end."""
    opened: list[Sender] = []

    def open_one(server: Scripted | str, **options: Any) -> Sender:
        base = server if isinstance(server, str) else server.base
        given = {"token": TOKEN, "url": base, "retry_policy": QUICK, **options}
        opened.append(Sender(**given))
        return opened[-1]

    yield open_one
    for sender in opened:
        await sender.close()


async def failed(sending: Awaitable[Any]) -> SendError:
    """The error of a sending, which shows neither the token nor the secret."""
    with pytest.raises(SendError) as caught:
        await sending
    error = caught.value
    said = f"{error!r}{error}{error.body}{error.__dict__}"
    assert TOKEN not in said
    assert SECRET not in said
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    return error


# --- what goes out ---


async def test_an_event_is_published_once_with_the_token_under_an_id_of_its_own(
    sender_to: Open,
) -> None:
    async with Scripted() as server:
        sender = sender_to(server)
        first = await sender.send(URL, POST)
        second = await sender.send(URL, POST)

    one, other = server.calls
    assert (one.method, one.target) == ("POST", f"/v2/publish/{URL}")
    assert one.headers["Authorization"] == f"Bearer {TOKEN}"
    assert one.headers["Content-Type"] == "application/json"
    assert first == Published("msg_0", False, one.headers["Upstash-Deduplication-Id"], URL)
    # Two that are equal are two: nothing of an ID follows from the content.
    assert second == Published("msg_1", False, other.headers["Upstash-Deduplication-Id"], URL)


async def test_the_body_has_the_form_that_the_schemes_subscribers_expect(sender_to: Open) -> None:
    async with Scripted() as server:
        sender = sender_to(server)
        before = datetime.now(UTC)
        await sender.send(URL, POST, secret=SECRET, scheme="marble")
        await sender.send(URL, POST, secret=WHSEC, scheme="standard-webhooks")
        await sender.send(URL, POST)
        await sender.send(URL, {"any": ["thing"]})
        await sender.send(URL, b"\x00\xff")

    marble, *others, plain, binary = (call.body for call in server.calls)
    assert marble == '{"event":"post.published","data":{"id":"1","title":"ä"}}'.encode()
    for body in others:
        said = json.loads(body)
        assert list(said) == ["type", "timestamp", "data"]
        assert (said["type"], said["data"]) == ("post.published", {"id": "1", "title": "ä"})
        assert before <= datetime.fromisoformat(said["timestamp"]) <= datetime.now(UTC)
    assert (plain, binary) == (b'{"any":["thing"]}', b"\x00\xff")
    assert server.calls[-1].headers["Content-Type"] == "application/octet-stream"


def received(call: Call) -> Signed:
    """What the subscriber gets of what was published: QStash hands body and headers through."""
    headers = call.headers.copy()
    prefix = "upstash-forward-"
    for name, value in call.headers.items():
        if name.lower().startswith(prefix):
            headers[name[len(prefix) :]] = value
    url = call.target.removeprefix("/v2/publish/").partition("#")[0]
    return Signed(headers, call.body, url.removeprefix("https://app.example"), "POST", url)


SYMMETRIC = [
    name
    for name, preset in PRESETS.items()
    if preset.spec.algorithm not in ("ed25519", "ecdsa-p256")
]


@pytest.mark.parametrize("scheme", SYMMETRIC)
async def test_every_symmetric_scheme_signs_the_bytes_that_are_sent(
    sender_to: Open, scheme: str
) -> None:
    spec = PRESETS[scheme].spec
    secret = WHSEC if spec.key == "base64" else SECRET
    async with Scripted() as server:
        await sender_to(server).send(f"{URL}?a=1#f", POST, secret=secret, scheme=scheme)

    verdict = SpecVerifier(spec, [secret]).verify(received(server.only), time.time())
    assert verdict == Verified(0), verdict


async def test_the_id_that_is_signed_is_the_one_that_deduplicates(sender_to: Open) -> None:
    async with Scripted() as server:
        sender = sender_to(server, secret=WHSEC, scheme="standard-webhooks")
        made = await sender.send(URL, POST)
        given = await sender.send(URL, POST, deduplication_id="order-7")

    own, other = server.calls
    assert own.headers["Upstash-Forward-webhook-id"] == made.deduplication_id
    assert other.headers["Upstash-Forward-webhook-id"] == given.deduplication_id == "order-7"


@pytest.mark.parametrize(
    "when",
    [{"delay": "1h"}, {"delay": timedelta(hours=1)}, {"not_before": None}],
    ids=["text", "timedelta", "not before"],
)
async def test_what_is_delivered_later_is_signed_for_then(
    sender_to: Open, when: dict[str, Any]
) -> None:
    now = time.time()
    if "not_before" in when:
        when = {"not_before": datetime.fromtimestamp(now + 3600, UTC)}
    async with Scripted() as server:
        sender = sender_to(server, secret=WHSEC, scheme="standard-webhooks")
        await sender.send(URL, POST, **when)

    signed = int(server.only.headers["Upstash-Forward-webhook-timestamp"])
    assert 0 <= signed - int(now) - 3600 < 100
    scheme = SpecVerifier(PRESETS["standard-webhooks"].spec, [WHSEC])
    assert scheme.verify(received(server.only), now + 3600) == Verified(0)
    assert scheme.verify(received(server.only), now) != Verified(0)


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example/a/../b/./c//d?x=%2F&y=a+b&&z#frag?ment",
        "http://u:p@app.example:8080?b=1&a=%20",
        "https://app.example#f",
        "https://[2001:db8::1]:443/%7Euser;p=1,2/'()*!$",
    ],
)
async def test_a_url_stands_in_the_request_as_it_was_written(sender_to: Open, url: str) -> None:
    async with Scripted() as server:
        sender = sender_to(server)
        await sender.send(url, POST)
        await sender.enqueue("q", url, POST)

    assert [call.target for call in server.calls] == [f"/v2/publish/{url}", f"/v2/enqueue/q/{url}"]


@hypothesis_settings(max_examples=30)
@given(st.text(alphabet=[chr(c) for c in range(0x21, 0x7F) if chr(c) != "\\"], max_size=30))
def test_any_printable_path_is_kept_to_the_letter(path: str) -> None:
    url = f"https://app.example/{path}"

    async def sent() -> str:
        async with Scripted() as server, Sender(token=TOKEN, url=server.base) as sender:
            await sender.send(url, POST)
        return server.only.target

    assert asyncio.run(sent()) == f"/v2/publish/{url}"


async def test_the_api_may_stand_behind_a_path(sender_to: Open) -> None:
    async with Scripted() as server:
        await sender_to(f"{server.base}/qstash/").send(URL, POST)

    assert server.only.target == f"/qstash/v2/publish/{URL}"


async def test_token_and_url_come_from_the_settings_unless_they_are_given(
    sender_to: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("token_of_a_file\n")
    monkeypatch.setenv("QSTASH_TOKEN_FILE", "token")
    async with Scripted() as server, Scripted() as other:
        monkeypatch.setenv("QSTASH_URL", server.base)
        await sender_to(server, url=None, token=None).send(URL, POST)
        await sender_to(other, token=None).send(URL, POST)
        await sender_to(server, url=None).send(URL, POST)

    assert [call.headers["Authorization"] for call in server.calls] == [
        "Bearer token_of_a_file",
        f"Bearer {TOKEN}",
    ]
    assert other.only.headers["Authorization"] == "Bearer token_of_a_file"


def test_a_sender_without_a_token_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="QSTASH_TOKEN is not set"):
        Sender()
    with pytest.raises(SettingsError, match="QSTASH_TOKEN: a token is a word") as caught:
        Sender(token="one\r\nX: two", url="http://127.0.0.1")
    assert "two" not in str(caught.value)
    with pytest.raises(SettingsError, match="url: give the base URL of QStash"):
        Sender(token=TOKEN, url="qstash.example")
    with pytest.raises(SettingsError, match="scheme: there is no 'nobody'; there are standard-"):
        Sender(token=TOKEN, url="http://127.0.0.1", secret=SECRET, scheme="nobody")
    with pytest.raises(SettingsError, match="a signing secret is not base64") as caught:
        Sender(direct=True, secret="!not base64!", scheme="standard-webhooks")
    assert "!not" not in str(caught.value)


def test_no_repr_shows_a_secret() -> None:
    sender = Sender(token=TOKEN, url="http://127.0.0.1:1", secret=SECRET, scheme="marble")
    outgoing = Outgoing(
        URL, POST, secret=SECRET, scheme="gitlab-token", headers={"Authorization": SECRET}
    )
    prepared = sender._prepare(outgoing)
    held = [
        *(sender, outgoing, prepared, prepared.letter(0), prepared.published(0)),
        *(*vars(sender).values(), *vars(sender.schedules).values()),
        *(one for part in (sender._service, sender._poster) for one in vars(part).values()),
    ]
    assert not [one for one in held if TOKEN in repr(one) or SECRET in repr(one)]


# --- groups, queues, batches, schedules ---


async def test_a_message_for_a_group_is_one_for_each_of_its_endpoints(sender_to: Open) -> None:
    said = [
        {"messageId": "msg_a", "url": "https://a.example"},
        {"messageId": "msg_b", "url": "https://b.example", "deduplicated": True},
    ]
    async with Scripted(
        [says(200, json.dumps(said)), says(200, json.dumps({"messages": said}))]
    ) as server:
        sender = sender_to(server)
        found = await sender.send_to_group("my-group", POST, deduplication_id="1", delay=5)
        assert await sender.send_to_group("my-group", POST, deduplication_id="1") == found

    assert server.calls[0].target == "/v2/publish/my-group"
    assert server.calls[0].headers["Upstash-Delay"] == "5s"
    assert found == [
        Published("msg_a", False, "1", "https://a.example"),
        Published("msg_b", True, "1", "https://b.example"),
    ]


async def test_a_queue_takes_what_is_for_it(sender_to: Open) -> None:
    async with Scripted() as server:
        found = await sender_to(server).enqueue("my.queue", URL, POST, retries=0)

    assert server.only.target == f"/v2/enqueue/my.queue/{URL}"
    assert server.only.headers["Upstash-Retries"] == "0"
    assert found.message_id == "msg_0"


async def test_several_go_together_and_each_is_answered_for_by_itself(sender_to: Open) -> None:
    def one_refused(server: Scripted, call: Call) -> bytes:
        listed = json.loads(accept(server, call).partition(b"\r\n\r\n")[2])
        listed[1] = {"error": f"no such host; you said {TOKEN}"}
        listed[3] = {"strange": 1}
        return answer(200, json.dumps(listed))

    async with Scripted([one_refused]) as server:
        results = await sender_to(server, secret=SECRET, scheme="marble").send_many(
            [
                Outgoing(URL, POST, retry_delay="1000 * (1 + retried)", delay="1m"),
                Outgoing("https://nowhere.example", POST),
                Outgoing("nonsense", POST),
                Outgoing(URL, POST, queue="q", deduplication_id="third"),
                Outgoing(URL, b"text \xc3\xa4"),
            ]
        )

    assert server.only.target == "/v2/batch"
    items: list[Any] = server.items
    assert [item["destination"] for item in items] == [URL, "https://nowhere.example", URL, URL]
    assert [item.get("queue") for item in items] == [None, None, "q", None]
    assert items[0]["headers"]["Upstash-Retry-Delay"] == "1000 * (1 + retried)"
    assert items[3]["body"] == "text ä"
    first, refused, wrong, third, unclear = results
    ids = [item["headers"]["Upstash-Deduplication-Id"] for item in items]
    assert first == Published("msg_0", False, ids[0], URL)
    assert third == Published("msg_2", False, "third", URL)
    assert isinstance(refused, SendError)
    assert (refused.may_be_published, refused.deduplication_id) == (False, ids[1])
    assert "no such host" in str(refused)
    assert TOKEN not in f"{refused}{refused.body}"
    assert isinstance(wrong, SendError)
    assert str(wrong).startswith("url: 'nonsense'")
    assert not wrong.may_be_published
    assert isinstance(unclear, SendError)
    assert (unclear.may_be_published, unclear.deduplication_id) == (True, ids[3])


async def test_each_item_of_a_batch_verifies(sender_to: Open) -> None:
    async with Scripted() as server:
        sender = sender_to(server, secret=WHSEC, scheme="standard-webhooks")
        await sender.send_many([Outgoing(URL, POST), Outgoing(URL, {"é": "\0\ud83d\ude00"[:1]})])

    for item in server.items:
        headers: Any = item["headers"]
        call = Call("POST", f"/v2/publish/{URL}", server.only.headers.copy(), b"")
        call.headers.update(headers)
        delivery = received(call)._replace(body=str(item["body"]).encode())
        scheme = SpecVerifier(PRESETS["standard-webhooks"].spec, [WHSEC])
        assert scheme.verify(delivery, time.time()) == Verified(0)


async def test_what_is_no_text_goes_alone_and_nothing_changes_its_place(sender_to: Open) -> None:
    async with Scripted() as server:
        results = await sender_to(server).send_many(
            [Outgoing(URL, b"a"), Outgoing(URL, b"\xff"), Outgoing(URL, b"c"), Outgoing(URL, b"d")]
        )

    assert [call.target for call in server.calls] == [
        "/v2/batch",
        f"/v2/publish/{URL}",
        "/v2/batch",
    ]
    assert server.calls[1].body == b"\xff"
    assert [one.message_id for one in results if isinstance(one, Published)] == [
        "msg_0", "msg_1", "msg_2", "msg_3",
    ]  # fmt: skip


async def test_a_batch_has_no_more_items_and_bytes_than_it_may(
    sender_to: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches_module, "MOST_ITEMS", 3)
    monkeypatch.setattr(batches_module, "MOST_BYTES", 2000)
    sizes = [10, 10, 10, 10, 900, 900, 5000, 10]
    async with Scripted() as server:
        results = await sender_to(server).send_many(
            Outgoing(URL, b"%d" % n + b"x" * size) for n, size in enumerate(sizes)
        )

    counts = [
        len(json.loads(call.body)) if call.target == "/v2/batch" else "alone"
        for call in server.calls
    ]
    assert counts == [3, 2, 1, "alone", 1]
    assert all(len(c.body) <= 2000 for c in server.calls if c.target == "/v2/batch")
    assert [r.message_id for r in results if isinstance(r, Published)] == [
        f"msg_{n}" for n in range(8)
    ]


async def test_nothing_at_all_is_no_request(sender_to: Open) -> None:
    async with Scripted() as server:
        assert await sender_to(server).send_many([]) == []
    assert server.calls == []


@pytest.mark.parametrize(
    ("step", "batches", "uncertain"),
    [
        (says(401, "no"), 1, 0),
        (says(429, "", RateLimit_Reset=str(int(time.time()) + 9999)), 1, 0),
        (says(413, "too large"), 3, 0),
    ],
    ids=["token refused", "daily limit", "one too large"],
)
async def test_after_a_batch_that_failed_the_next_goes_out_if_it_may_do_better(
    sender_to: Open, monkeypatch: pytest.MonkeyPatch, step: Step, batches: int, uncertain: int
) -> None:
    monkeypatch.setattr(batches_module, "MOST_ITEMS", 2)
    async with Scripted([step]) as server:
        results = await sender_to(server).send_many([Outgoing(URL, POST)] * 6)

    assert len(server.calls) == batches
    errors = [one for one in results if isinstance(one, SendError)]
    assert len(errors) == (2 if batches > 1 else 6)
    assert sum(one.may_be_published for one in errors) == uncertain
    assert len({one.deduplication_id for one in results}) == 6


async def test_what_one_message_fails_with_does_not_end_the_others(
    sender_to: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches_module, "MOST_ITEMS", 2)

    def last_refused(server: Scripted, call: Call) -> bytes:
        listed = json.loads(accept(server, call).partition(b"\r\n\r\n")[2])
        return answer(200, json.dumps([*listed[:-1], {"error": "no such host"}]))

    async with Scripted([last_refused]) as server:
        sender = sender_to(server, secret=WHSEC, scheme="standard-webhooks")
        unsignable = Outgoing(URL, POST, deduplication_id="a.b")
        results = await sender.send_many(
            [*[Outgoing(URL, POST)] * 3, unsignable, Outgoing(URL, POST)]
        )

    kinds = [Published, SendError, Published, SendError, Published]
    assert [type(one) for one in results] == kinds
    assert len(server.calls) == 3


async def test_an_item_refused_after_a_lost_answer_may_be_published_all_the_same(
    sender_to: Open,
) -> None:
    refusing = says(200, json.dumps([{"error": "quota exceeded"}]))
    async with Scripted([cut, refusing, says(429), refusing]) as server:
        sender = sender_to(server)
        (lost,) = await sender.send_many([Outgoing(URL, POST)])
        (refused,) = await sender.send_many([Outgoing(URL, POST)])

    assert isinstance(lost, SendError)
    assert isinstance(refused, SendError)
    assert list(server.published) == [lost.deduplication_id]
    assert (lost.may_be_published, refused.may_be_published) == (True, False)
    assert "it may have been taken before" in str(lost)


async def test_a_batch_whose_answer_was_lost_is_published_once(sender_to: Open) -> None:
    async with Scripted([cut, half]) as server:
        results = await sender_to(server).send_many([Outgoing(URL, POST), Outgoing(URL, POST)])

    assert len(server.calls) == 3
    assert len(server.published) == 2
    assert [one.message_id for one in results if isinstance(one, Published)] == ["msg_0", "msg_1"]


async def test_a_schedule_is_made_once_and_can_be_worked_with(sender_to: Open) -> None:
    listed = {"scheduleId": "nightly", "destination": URL, "cron": "0 3 * * *", "isPaused": True}
    async with Scripted(
        [
            cut,
            accept,
            accept,
            says(200, json.dumps(listed)),
            says(200, json.dumps([listed])),
            says(200),
            says(200),
            vanish,
            says(404, "not found"),
        ]
    ) as server:
        schedules = sender_to(server, secret=SECRET, scheme="marble").schedules
        own = await schedules.create(URL, POST, cron="* * * * *")
        assert await schedules.create(URL, POST, cron="0 3 * * *", schedule_id="nightly",
                                      queue="q", delay="1m") == "nightly"  # fmt: skip
        found = await schedules.get("nightly")
        assert await schedules.list() == [found]
        await schedules.pause("nightly")
        await schedules.resume("nightly")
        await schedules.delete("nightly")

    lost, again, made, *others = server.calls
    assert lost.headers["Upstash-Schedule-Id"] == again.headers["Upstash-Schedule-Id"] == own
    assert made.target == f"/v2/schedules/{URL}"
    assert made.headers["Upstash-Cron"] == "0 3 * * *"
    assert made.headers["Upstash-Queue-Name"] == "q"
    assert "Upstash-Deduplication-Id" not in made.headers
    assert (found.schedule_id, found.cron, found.is_paused) == ("nightly", "0 3 * * *", True)
    assert [(call.method, call.target) for call in others] == [
        ("GET", "/v2/schedules/nightly"),
        ("GET", "/v2/schedules"),
        ("PATCH", "/v2/schedules/nightly/pause"),
        ("PATCH", "/v2/schedules/nightly/resume"),
        ("DELETE", "/v2/schedules/nightly"),
        ("DELETE", "/v2/schedules/nightly"),
    ]
    assert all(call.headers["Authorization"] == f"Bearer {TOKEN}" for call in server.calls)


async def test_a_schedule_that_was_not_there_is_an_error(sender_to: Open) -> None:
    async with Scripted([says(404, "not found")]) as server:
        error = await failed(sender_to(server).schedules.delete("nightly"))
    assert error.status == 404


# --- what goes wrong ---


@pytest.mark.parametrize(
    "steps",
    [
        ["cut unread"],
        [cut],
        [half],
        [says(500, "oops")],
        [says(503, "", Retry_After="0")],
        [says(429, "", Burst_RateLimit_Reset="0")],
        [says(429, "slow down")],
        [garbage(b"")],
        [garbage(b"<html>")],
        [garbage(b'{"message":"ok"}')],
        [garbage(b"[]")],
        [garbage(b'{"messageId":5}')],
        [raw(b"SMTP ready\r\n")],
        ["cut unread", cut, says(500)],
        [cut, half, garbage(b"null")],
    ],
    ids=lambda steps: "+".join(getattr(one, "__name__", str(one)) for one in steps),
)
async def test_whatever_breaks_in_between_it_is_published_once(
    sender_to: Open, steps: list[Step | str]
) -> None:
    async with Scripted(steps) as server:
        published = await sender_to(server).send(URL, POST)

    assert list(server.published) == [published.deduplication_id]
    assert published.message_id == "msg_0"
    assert not server.steps


async def test_what_takes_too_long_is_tried_again_and_published_once(sender_to: Open) -> None:
    async with Scripted([silent]) as server:
        sender = sender_to(server, retry_policy=RetryPolicy(total=1, first_pause=0.01))
        published = await sender.send(URL, POST)

    assert list(server.published) == [published.deduplication_id]


@pytest.mark.parametrize(
    ("step", "status", "says_why"),
    [
        ("cut unread", None, "the connection broke off"),
        (cut, None, "the connection broke off"),
        (half, None, "the connection broke off"),
        (says(500, "oops"), 500, "status 500"),
        (garbage(b"<html>"), 200, "an answer that cannot be read"),
        (raw(b"SMTP ready\r\n"), None, "the connection broke off"),
        (silent, None, "no answer within"),
    ],
    ids=["cut unread", "cut", "half", "500", "garbage", "no HTTP", "silent"],
)
async def test_after_the_last_attempt_the_error_says_that_it_may_be_published(
    sender_to: Open, step: Step | str, status: int | None, says_why: str
) -> None:
    async with Scripted([step] * 3) as server:
        retry_policy = IMPATIENT if step is silent else THRICE
        error = await failed(sender_to(server, retry_policy=retry_policy).send(URL, POST))

    assert error.may_be_published
    assert error.status == status
    assert says_why in str(error)
    assert "after 3 attempts; it may have been taken all the same" in str(error)
    assert error.deduplication_id is not None
    assert len(server.published) <= 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 412, 422])
async def test_a_refusal_is_not_tried_again_and_carries_what_was_said(
    sender_to: Open, status: int
) -> None:
    said = json.dumps({"error": f"bad {TOKEN} and {SECRET}" + "x" * 5000})
    async with Scripted([says(status, said)]) as server:
        sender = sender_to(server, secret=SECRET, scheme="marble")
        error = await failed(sender.send(URL, POST, deduplication_id="mine"))

    assert len(server.calls) == 1
    assert (error.status, error.may_be_published, error.deduplication_id) == (status, False, "mine")
    assert error.body.startswith('{"error": "bad [hidden] and [hidden]x')
    assert len(error.body) <= 1000
    assert f"status {status} after 1 attempt" in str(error).replace(",", "")
    assert "nothing was taken" in str(error)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_for_it_would_carry_the_token_away(
    sender_to: Open, status: int
) -> None:
    async with Scripted() as other, Scripted([says(status, Location=other.base)]) as server:
        error = await failed(sender_to(server).send(URL, POST))

    assert other.calls == []
    assert len(server.calls) == 1
    assert (error.status, error.may_be_published) == (status, False)


async def test_a_refusal_after_a_lost_answer_does_not_make_certain_what_is_not(
    sender_to: Open,
) -> None:
    async with Scripted([cut, says(401)]) as server:
        error = await failed(sender_to(server).send(URL, POST))

    assert (error.status, error.may_be_published) == (401, True)
    assert list(server.published) == [error.deduplication_id]


async def test_nobody_there_is_known_to_have_published_nothing(sender_to: Open) -> None:
    sender = sender_to(f"http://127.0.0.1:{free_port()}")
    error = await failed(sender.send(URL, POST))
    assert (error.status, error.may_be_published) == (None, False)
    assert "Cannot connect to host 127.0.0.1" in str(error)
    assert "after 4 attempts; nothing was taken" in str(error)


async def test_whoever_goes_on_with_the_errors_id_does_not_publish_twice(sender_to: Open) -> None:
    async with Scripted([cut] * 3) as server:
        sender = sender_to(server, retry_policy=THRICE)
        error = await failed(sender.send(URL, POST))
        published = await sender.send(URL, POST, deduplication_id=error.deduplication_id)

    assert published == Published("msg_0", True, error.deduplication_id, URL)
    assert len(server.published) == 1


@pytest.mark.parametrize("limit", ["RateLimit", "Burst-RateLimit"])
async def test_a_limit_that_lasts_beyond_our_patience_is_an_error_at_once_that_says_when(
    sender_to: Open, limit: str
) -> None:
    reset = int(time.time()) + 300
    headers = {f"{limit}-Limit": "500", f"{limit}-Remaining": "0", f"{limit}-Reset": str(reset)}
    async with Scripted([says(429, "exceeded", **headers)]) as server:
        error = await failed(sender_to(server).send(URL, POST))

    assert len(server.calls) == 1
    assert (error.status, error.may_be_published) == (429, False)
    assert error.resets_at is not None
    assert abs(error.resets_at.timestamp() - reset) < 60
    assert f"{error.resets_at:%Y-%m-%d %H:%M}" in str(error)


async def test_no_attempt_begins_when_the_id_may_be_forgotten(sender_to: Open) -> None:
    # The pause would end beyond the ten minutes in which QStash knows the ID.
    patient = RetryPolicy(patience=3600)
    async with Scripted([cut, says(429, "", Retry_After="600")]) as server:
        sender = sender_to(server, retry_policy=patient)
        error = await failed(sender.send(URL, POST))

    assert len(server.calls) == 2
    assert error.may_be_published


async def test_no_attempt_begins_when_this_process_stood_still_for_too_long(
    sender_to: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting_module, "WINDOW", 3.0)
    retry_policy = RetryPolicy(total=1, patience=5, first_pause=0)
    async with Scripted([says(503, Retry_After="1")]) as server:
        sending = asyncio.create_task(sender_to(server, retry_policy=retry_policy).send(URL, POST))
        await eventually(lambda: server.calls, what="the request")
        await asyncio.sleep(0.2)  # whether it has got its answer by then changes nothing
        time.sleep(3)  # noqa: ASYNC251 - nothing goes on, as when a process is stopped
        error = await failed(sending)

    assert len(server.calls) == 1
    assert error.deduplication_id is not None


async def test_cancelling_ends_it_where_it_stands(sender_to: Open) -> None:
    async with Scripted([silent]) as server:
        sending = asyncio.create_task(sender_to(server).send(URL, POST))
        await eventually(lambda: server.calls, what="the request")
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert len(server.calls) == 1


async def test_a_closed_sender_says_so_and_leaves_no_connection(sender_to: Open) -> None:
    async with Scripted() as server:
        async with Sender(token=TOKEN, url=server.base) as sender:
            await sender.send(URL, POST)
        error = await failed(sender.send(URL, POST))
        await sender.close()
    assert "the sender is closed" in str(error)
    assert not error.may_be_published
    del sender
    gc.collect()  # aiohttp warns of what is left open, and a warning fails the test


async def test_a_sender_that_is_closed_under_way_does_not_make_certain_what_is_not(
    sender_to: Open,
) -> None:
    async with Scripted([silent]) as server:
        sender = sender_to(server)
        sending = asyncio.create_task(sender.send(URL, POST))
        await eventually(lambda: server.calls, what="the request")
        await sender.close()
        error = await failed(sending)

    assert "the sender is closed" in str(error)
    assert error.may_be_published
    assert list(server.published) == [error.deduplication_id]


def test_a_sender_of_another_event_loop_says_so() -> None:
    sender = Sender(token=TOKEN, url=f"http://127.0.0.1:{free_port()}", retry_policy=THRICE)
    asyncio.run(failed(sender.send(URL, POST)))
    error = asyncio.run(failed(sender.send(URL, POST)))
    assert "the sender was opened in another event loop" in str(error)
    assert not error.may_be_published
    asyncio.run(sender.close())


async def test_one_slow_host_does_not_keep_another_waiting(sender_to: Open) -> None:
    impatient = RetryPolicy(attempts=1, connect=5, total=60)
    async with Scripted([silent] * 100) as slow, Scripted() as quick:
        sender = sender_to("", direct=True, retry_policy=impatient)
        sending = [asyncio.create_task(sender.send(slow.base, POST)) for _ in range(100)]
        await eventually(lambda: len(slow.calls) == 100, what="as many requests as one host takes")
        await sender.send(quick.base, POST)
        await sender.close()
        assert all(
            isinstance(one, SendError)
            for one in await asyncio.gather(*sending, return_exceptions=True)
        )


@pytest.mark.parametrize("filler", [*range(185, 200, 5), *range(975, 1000, 5)])
async def test_a_secret_is_not_shown_in_part_either(sender_to: Open, filler: int) -> None:
    said = "x" * filler + TOKEN + SECRET
    async with Scripted([says(400, said), says(400, said[: filler + 12])]) as server:
        sender = sender_to(server, secret=SECRET, scheme="marble")
        for _ in range(2):
            error = await failed(sender.send(URL, POST))
            assert TOKEN[:6] not in f"{error}{error.body}"
            assert SECRET[:6] not in f"{error}{error.body}"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 abc " + SECRET.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + SECRET.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + SECRET.encode() + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
    ids=["status", "header", "chunk", "gzip"],
)
@pytest.mark.parametrize("direct", [False, True])
async def test_an_answer_that_is_no_http_shows_nothing_of_the_urls_query(
    sender_to: Open, data: bytes, direct: bool
) -> None:
    async with Scripted([raw(data)] * 3) as server:
        sender = sender_to(server, retry_policy=THRICE, direct=direct)
        url = f"{server.base if direct else URL}?key={SECRET}"
        if direct and b"gzip" in data:
            assert await sender.send(url, POST)  # its status says it all
        else:
            error = await failed(sender.send(url, POST))
            assert "\n" not in str(error)


async def test_an_empty_secret_is_refused_and_nothing_goes_out_unsigned(sender_to: Open) -> None:
    async with Scripted() as server:
        for given in ({}, {"secret": SECRET, "scheme": "marble"}):
            sender = sender_to(server, **given)
            for options in ({"secret": ""}, {"scheme": ""}, {"secret": "", "scheme": "marble"}):
                error = await failed(sender.send(URL, POST, **options))  # type: ignore[arg-type] # several options
                assert not error.may_be_published
    assert server.calls == []


async def test_what_is_no_secret_and_no_scheme_is_one_messages_error(sender_to: Open) -> None:
    wrong: list[Any] = [{"secret": b"bytes"}, {"scheme": ["marble"], "secret": SECRET}]
    async with Scripted() as server:
        sender = sender_to(server)
        results = await sender.send_many(
            [*(Outgoing(URL, POST, **{"scheme": "marble", **one}) for one in wrong),
             Outgoing(URL, POST)]
        )  # fmt: skip
    assert [type(one) for one in results] == [SendError, SendError, Published]


async def test_what_cannot_be_sent_is_refused_before_anything_goes_out(sender_to: Open) -> None:
    async with Scripted() as server:
        sender = sender_to(server)
        for sending in (
            sender.send("ftp://app.example", POST),
            sender.send(URL, POST, delay="soon"),
            sender.send(URL, POST, secret=SECRET, scheme="nobody"),
            sender.send(URL, POST, secret=SECRET),
            sender.send(URL, POST, scheme="marble"),
            sender.send(URL, POST, secret="not base64!", scheme="standard-webhooks"),
            sender.send(URL, POST, secret=SECRET, scheme="discord"),
            sender.send(URL, Event()),
            sender.send(URL, {"a": object()}),
            sender.send(URL, POST, content_based_deduplication=True),
            sender.send(URL, b"raw", secret=SECRET, scheme="linear"),
            sender.send(URL, bytearray(b"{}"), secret=SECRET, scheme="linear"),  # type: ignore[arg-type] # not its type, but bytes
            sender.send(
                URL, b"", secret=WHSEC, scheme="standard-webhooks", deduplication_id="a.b"
            ),
            sender.send(URL, POST, secret=SECRET, scheme="marble",
                        headers={"X-Marble-Signature": "sha256=0"}),
            sender.send(URL, POST, secret=WHSEC, scheme="standard-webhooks",
                        headers={"Webhook-Id": "7"}),
            sender.send_to_group("https://a.example", POST),
            sender.send_to_group("g", POST, secret=SECRET, scheme="square"),
            sender.enqueue("a/../b", URL, POST),
            sender.schedules.create(URL, POST, cron=""),
            sender.schedules.create(URL, POST, cron="* * * * *", schedule_id="../x"),
            sender.schedules.create(URL, POST, cron="* * * * *", secret=SECRET, scheme="stripe"),
            sender.schedules.get("a/b"),
        ):  # fmt: skip
            error = await failed(sending)
            assert not error.may_be_published, error
            assert error.status is None
        with pytest.raises(TypeError, match="dealy"):
            await sender.send(URL, POST, dealy=5)  # type: ignore[call-arg]
    assert server.calls == []


async def test_content_is_compared_where_it_can_be_equal(sender_to: Open) -> None:
    async with Scripted() as server:
        published = await sender_to(server, secret=SECRET, scheme="marble").send(
            URL, POST, content_based_deduplication=True
        )

    assert server.only.headers["Upstash-Content-Based-Deduplication"] == "true"
    assert "Upstash-Deduplication-Id" not in server.only.headers
    assert published.deduplication_id is None


async def test_content_that_is_compared_is_the_same_each_time(sender_to: Open) -> None:
    async with Scripted() as server:
        for _ in range(2):  # GitHub's subscribers would look for an ID in a header
            await sender_to(server, secret=SECRET, scheme="github").send(
                URL, {"a": 1}, content_based_deduplication=True
            )

    one, other = server.calls
    assert (one.body, one.headers) == (other.body, other.headers)


async def test_a_large_body_goes_out_whole(sender_to: Open) -> None:
    body = b"0123456789" * 300_000
    async with Scripted() as server:
        await sender_to(server).send(URL, body)
    assert server.only.body == body


# --- without QStash ---


async def test_direct_delivery_posts_to_the_url_itself_signed_for_each_attempt(
    sender_to: Open,
) -> None:
    async with Scripted([says(503), cut, says(204)]) as server:
        sender = sender_to("", direct=True, secret=WHSEC, scheme="standard-webhooks")
        url = f"{server.base}/hook/../x?a=%2F#frag"
        published = await sender.send(url, POST, headers={"X-A": "1"})

    assert published == Published(
        str(published.deduplication_id), False, published.deduplication_id, url
    )
    for call in server.calls:
        assert (call.method, call.target) == ("POST", "/hook/../x?a=%2F")
        assert call.headers["webhook-id"] == published.deduplication_id
        assert call.headers["X-A"] == "1"
        assert not [name for name in call.headers if name.lower().startswith(("upstash", "auth"))]
        delivery = Signed(call.headers, call.body)
        scheme = SpecVerifier(PRESETS["standard-webhooks"].spec, [WHSEC])
        assert scheme.verify(delivery, time.time()) == Verified(0)
    assert len({call.body for call in server.calls}) == 1


async def test_direct_delivery_is_told_apart_by_the_header_its_subscribers_look_at(
    sender_to: Open,
) -> None:
    async with Scripted([cut, says(200)]) as server:
        sender = sender_to("", direct=True, secret=SECRET, scheme="marble")
        published = await sender.send(server.base, POST)

    ids = [call.headers["Upstash-Message-Id"] for call in server.calls]
    assert ids == [published.message_id] * 2


async def test_direct_delivery_tries_as_often_and_waits_as_long_as_it_is_told(
    sender_to: Open,
) -> None:
    async with Scripted([says(500)] * 2 + [silent]) as server:
        sender = sender_to("", direct=True)
        error = await failed(sender.send(server.base, POST, retries=1))
        assert len(server.calls) == 2
        assert "after 2 attempts" in str(error)
        error = await failed(sender.send(server.base, POST, retries=0, timeout=1))
    assert "no answer within 1 s" in str(error)


async def test_a_request_that_may_have_counted_is_never_repeated_unseen(sender_to: Open) -> None:
    # aiohttp repeats a PUT by itself when a connection that it kept breaks off.
    async with Scripted([says(200), cut, says(403)]) as server:
        sender = sender_to("", direct=True)
        await sender.send(server.base, POST)
        error = await failed(sender.send(server.base, POST, method="PUT"))

    assert [call.method for call in server.calls] == ["POST", "PUT", "PUT"]
    assert "after 2 attempts" in str(error)
    assert error.may_be_published


async def test_a_users_name_and_password_in_a_url_are_used_and_never_shown(
    sender_to: Open,
) -> None:
    async with Scripted([says(200), says(403)]) as server:
        sender, url = sender_to("", direct=True), server.base.replace("//", f"//u:{SECRET}@")
        await sender.send(f"{url}/a/../b?c=%2F", POST)
        error = await failed(sender.send(f"{url}?t={SECRET}", POST))

    assert server.calls[0].target == "/a/../b?c=%2F"
    assert server.calls[0].headers["Authorization"].startswith("Basic ")
    assert f"delivering to {server.base}?..." in str(error)


async def test_direct_delivery_of_several_reports_each(sender_to: Open) -> None:
    async with Scripted() as server, Scripted([says(410, "gone")] * 9) as gone:
        results = await sender_to("", direct=True).send_many(
            [Outgoing(server.base, POST), Outgoing(gone.base, POST), Outgoing(server.base, POST)]
        )
    assert [type(one) for one in results] == [Published, SendError, Published]


async def test_direct_delivery_refuses_what_only_qstash_can_do(sender_to: Open) -> None:
    async with Scripted() as server:
        sender, url = sender_to("", direct=True), server.base
        for sending in (
            sender.send(url, POST, delay=5),
            sender.send(url, POST, not_before=datetime.now(UTC)),
            sender.send(url, POST, callback=URL),
            sender.send(url, POST, failure_callback=URL),
            sender.send(url, POST, retry_delay="1000"),
            sender.send(url, POST, flow_control=FlowControl(key="k", rate=1)),
            sender.send(url, b"", content_based_deduplication=True),
            sender.enqueue("q", url, POST),
            sender.send_to_group("g", POST),
            sender.schedules.create(url, POST, cron="* * * * *"),
            sender.schedules.list(),
        ):
            error = await failed(sending)
            assert "only QStash" in str(error)
            assert not error.may_be_published
        await sender.send(url, POST, label="one")  # its log is not there, and nothing is lost
    assert len(server.calls) == 1


def test_who_does_not_send_loads_nothing_of_the_sender() -> None:
    asked = "import sys, hookmill; hookmill.Handlers; print(*sys.modules); hookmill.Sender"
    answer = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True
    )
    loaded = set(answer.stdout.split())
    assert "hookmill.handlers" in loaded
    assert not [name for name in loaded if name.startswith(("hookmill.send", "aiohttp", "email"))]
    assert all(getattr(hookmill, name) for name in hookmill.__all__)


def test_every_error_of_a_sender_is_one_of_ours() -> None:
    assert issubclass(SendError, HookmillError)
    assert not issubclass(aiohttp.ClientError, HookmillError)
