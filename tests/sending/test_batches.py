"""Several messages together: how they are grouped, and the result of each."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from hookmill import (
    Outgoing,
    Published,
    SendError,
)
from hookmill.sending import batches as batches_module
from hookmill.signatures import Verified
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec_verifier import SpecVerifier
from tests.scripted import (
    Call,
    Scripted,
    Step,
    accept,
    answer,
    cut,
    half,
    says,
)
from tests.sending.helpers import (
    POST,
    SECRET,
    TOKEN,
    URL,
    WHSEC,
    Open,
    received,
)


async def test_several_messages_go_together_and_each_has_its_own_result(sender_to: Open) -> None:
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


async def test_a_body_that_is_not_text_is_sent_alone_and_the_order_stays(sender_to: Open) -> None:
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


async def test_a_batch_stays_within_its_limits_of_items_and_bytes(
    sender_to: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches_module, "MAX_ITEMS", 3)
    monkeypatch.setattr(batches_module, "MAX_BYTES", 2000)
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


async def test_no_message_means_no_request(sender_to: Open) -> None:
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
async def test_after_a_failed_batch_the_next_is_sent_only_if_it_can_succeed(
    sender_to: Open, monkeypatch: pytest.MonkeyPatch, step: Step, batches: int, uncertain: int
) -> None:
    monkeypatch.setattr(batches_module, "MAX_ITEMS", 2)
    async with Scripted([step]) as server:
        results = await sender_to(server).send_many([Outgoing(URL, POST)] * 6)

    assert len(server.calls) == batches
    errors = [one for one in results if isinstance(one, SendError)]
    assert len(errors) == (2 if batches > 1 else 6)
    assert sum(one.may_be_published for one in errors) == uncertain
    assert len({one.deduplication_id for one in results}) == 6


async def test_the_error_of_one_message_does_not_stop_the_others(
    sender_to: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches_module, "MAX_ITEMS", 2)

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


async def test_an_item_that_is_refused_after_a_lost_response_may_be_published(
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
    assert "an earlier attempt may have published it" in str(lost)


async def test_a_batch_whose_response_was_lost_is_published_once(sender_to: Open) -> None:
    async with Scripted([cut, half]) as server:
        results = await sender_to(server).send_many([Outgoing(URL, POST), Outgoing(URL, POST)])

    assert len(server.calls) == 3
    assert len(server.published) == 2
    assert [one.message_id for one in results if isinstance(one, Published)] == ["msg_0", "msg_1"]
