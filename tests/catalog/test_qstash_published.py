"""QStash's callbacks: the published message and its times, as a callback shows them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET

from hookmill import Event
from hookmill.catalog.marble import PostPublished
from hookmill.catalog.qstash import DeliveryFailed
from hookmill.errors import DecodeError
from hookmill.message import Message
from tests.catalog.callbacks import CREATED, POST, failed

# --- what was published ---


def test_the_published_body_is_read_into_the_event_it_was() -> None:
    assert failed().source_event(PostPublished) == PostPublished(id="p1", title="Grüße 🎈")


def test_a_wire_form_of_ones_own_sees_the_message_as_it_was_published() -> None:
    seen: list[Message] = []

    class Noted(Event, tag="noted"):
        @classmethod
        def from_message(cls, message: Message) -> Noted:
            seen.append(message)
            return cls()

    failed().source_event(Noted)

    (message,) = seen
    assert (message.id, message.type, message.body) == ("msg_source", "noted", POST)
    assert message.headers["x-marble-signature"] == "sha256=0"
    assert message.received_at == CREATED
    DeliveryFailed(source_message_id="m", dlq_id="1-0", source_body=b"").source_event(Noted)
    assert seen[-1].received_ms == 0


@pytest.mark.parametrize(
    ("published", "said"),
    [
        (b'{"event":"post.published","data":{}}', "missing required field `id` - at `$.data`"),
        (b'{"event":"post.deleted","data":{"id":"p1"}}', "Expected the event `post.published`"),
        (b"not JSON", "JSON is malformed"),
        (b"", "Input data was truncated"),
    ],
)
def test_a_published_body_that_does_not_fit_says_so_and_whose_it_is(
    published: bytes, said: str
) -> None:
    event = failed(sourceBody=base64.b64encode(published).decode())

    assert event.source_body == published
    with pytest.raises(DecodeError) as caught:
        event.source_event(PostPublished)
    assert str(caught.value).startswith("in the published body, `$.sourceBody`: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("text", [None, "REDACTED:00", "%%%"])
def test_a_published_body_that_cannot_be_read_is_said_by_its_path(text: str | None) -> None:
    with pytest.raises(
        DecodeError, match=r"not hold the published body in base64 - at `\$\.sourceBody`$"
    ):
        failed(sourceBody=text).source_event(PostPublished)


# --- whatever comes ---


@given(body=st.binary(max_size=200), published=st.binary(max_size=200), cut=st.integers(0, 270))
@example(body=b"", published=b"", cut=0)
def test_bodies_come_through_whole_and_one_that_was_cut_off_as_far_as_it_goes(
    body: bytes, published: bytes, cut: int
) -> None:
    text = base64.b64encode(body).decode()
    event = failed(body=text, sourceBody=base64.b64encode(published).decode())
    assert (event.body, event.source_body) == (body, published)

    event = failed(body=text[:cut])

    readable = len(text[:cut].rstrip("="))
    assert event.body == body[: readable * 6 // 8]


@given(text=st.text(max_size=30))
@example(text="=")
@example(text="YQ==YQ==")
@example(text="Y")
def test_no_text_in_a_bodys_place_costs_the_news(text: str) -> None:
    event = failed(body=text, sourceBody=text)

    assert event.dlq_id == "1701198460000-0"
    assert isinstance(event.body, bytes) or event.body is UNSET
    assert event.source_body in {UNSET, event.body}


@given(moment=st.integers(0, 253_402_300_799_999), as_text=st.booleans())
def test_a_time_is_the_same_to_the_millisecond(moment: int, as_text: bool) -> None:
    created_at = failed(createdAt=str(moment) if as_text else moment).created_at

    assert isinstance(created_at, datetime)
    assert created_at.tzinfo is UTC
    assert round(created_at.timestamp() * 1000) == moment
