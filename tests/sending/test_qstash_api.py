"""Requests to QStash as it expects them, and its replies as it writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.sending.exchange import HttpResponse
from hookmill.sending.payload import DeliveryRequest
from hookmill.sending.qstash_api import (
    AcceptedMessage,
    RefusedItem,
    batch_item,
    publish,
    read_batch,
    read_group,
    read_published,
)

URL = "https://app.example/hook"


def letter(body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> DeliveryRequest:
    given = {"Content-Type": "application/json", **(headers or {})}
    return DeliveryRequest(URL, "POST", CIMultiDict(given), body)


def test_qstashs_own_id_of_a_message_is_not_forwarded_beside_it() -> None:
    made = publish(letter(headers={"Upstash-Message-Id": "1", "X-A": "2"}), {})
    assert made.headers == {"Content-Type": "application/json", "Upstash-Forward-X-A": "2"}


@given(st.binary(max_size=50))
def test_an_item_of_a_batch_has_exactly_the_bytes_of_the_body(body: bytes) -> None:
    item = batch_item(letter(body), {}, None)
    if item is None:
        with pytest.raises(UnicodeDecodeError):
            body.decode()
    else:
        assert json.loads(item)["body"].encode() == body


def said(body: bytes, status: int = 200) -> HttpResponse:
    return HttpResponse(status, {}, body)


@given(st.binary(max_size=40))
def test_no_response_raises_or_invents_an_id(body: bytes) -> None:
    for read in (
        read_published(said(body), URL, "1"),
        read_batch(said(body), 1),
        read_group(said(body), "1"),
    ):
        assert not read or b"[" in body or b"messageId" in body


def test_a_duplicate_is_recognised_by_its_field_or_its_status() -> None:
    body = b'{"messageId":"m","deduplicated":%s}'
    assert [
        found.deduplicated
        for found in (
            read_published(said(body % b"true"), URL, "1"),
            read_published(said(body % b"false", 202), URL, "1"),
            read_published(said(body % b"false", 201), URL, "1"),
        )
        if found
    ] == [True, True, False]


def test_each_item_of_a_batchs_response_is_read_by_itself() -> None:
    body = b'[{"messageId":"m"},{"error":"bad"},{},5,{"messageId":7},{"messageId":"n","x":1}]'
    assert read_batch(said(body), 6) == [
        AcceptedMessage("m"), RefusedItem("bad"), None, None, None, AcceptedMessage("n"),
    ]  # fmt: skip
    assert read_batch(said(body), 5) is None
