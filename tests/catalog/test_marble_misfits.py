"""Bodies that do not fit the Marble event they come as: each is refused, and says why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.catalog import marble
from hookmill.catalog.marble import MarbleEvent
from hookmill.errors import DecodeError
from tests.catalog.marble_bodies import BY_NAME, WHEN, WIRE, enveloped, refusal, stored


@pytest.mark.parametrize(
    ("name", "wrong", "path"),
    [
        ("post.published", {"title": 7}, "$.data.title"),
        ("post.published", {"title": None}, "$.data.title"),
        ("post.published", {"id": 7}, "$.data.id"),
        ("post.published", {"featured": "yes"}, "$.data.featured"),
        ("post.published", {"test": "yes"}, "$.data.test"),
        ("post.unpublished", {"coverImage": {}}, "$.data.coverImage"),
        ("post.updated", {"changes": ["title", 7]}, "$.data.changes[1]"),
        ("post.deleted", {"publishedAt": "yesterday"}, "$.data.publishedAt"),
        ("post.deleted", {"updatedAt": "2026-05-22T14:42:31"}, "$.data.updatedAt"),
        ("category.created", {"name": 7}, "$.data.name"),
        ("tag.updated", {"createdAt": 7}, "$.data.createdAt"),
        ("author.updated", {"socials": [{"url": 7}]}, "$.data.socials[0].url"),
        ("media.uploaded", {"size": "big"}, "$.data.size"),
        ("media.updated", {"width": "1920"}, "$.data.width"),
        ("media.deleted", {"type": 7}, "$.data.type"),
    ],
)
def test_a_wrong_type_in_the_data_is_named_by_its_path(
    name: str, wrong: dict[str, object], path: str
) -> None:
    data = WIRE[name.split(".", maxsplit=1)[0]] | wrong

    assert refusal(BY_NAME[name], enveloped(name, data)).endswith(f"`{path}`")


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"id": 7}, "$.id"),
        ({"type": 7}, "$.type"),
        ({"createdAt": "yesterday"}, "$.createdAt"),
        ({"workspaceId": None}, "$.workspaceId"),
        ({"resource": "post"}, "$.resource"),
        ({"actor": {"type": None}}, "$.actor.type"),
        ({"data": []}, "$.data"),
        ({"data": None}, "$.data"),
    ],
)
def test_a_wrong_type_in_the_envelope_is_named_by_its_path(
    wrong: dict[str, object], path: str
) -> None:
    body = enveloped("post.deleted", {"id": "p1"}) | wrong

    assert refusal(marble.PostDeleted, body).endswith(f"`{path}`")


def test_data_without_an_id_is_refused() -> None:
    said = refusal(marble.PostPublished, enveloped("post.published", {}))

    assert said == "Object missing required field `id` - at `$.data`"


def test_a_body_without_data_is_refused() -> None:
    said = refusal(marble.PostPublished, {"id": "p1", "title": "Hello"})

    assert said == "Object missing required field `data`"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (enveloped("post.deleted", {"id": "p1"}), "$.type"),
        ({"event": "post.deleted", "data": {"id": "p1"}}, "$.event"),
        ({"event": "", "data": {"id": "p1"}}, "$.event"),
        (enveloped("post.published", {"id": "p1"}, event="post.deleted"), "$.event"),
    ],
)
def test_a_body_that_names_another_event_is_refused_whatever_the_header_said(
    body: dict[str, Any], path: str
) -> None:
    said = refusal(marble.PostPublished, body, type_="post.published")

    assert said.startswith("Expected the event `post.published`, got ")
    assert said.endswith(f"`{path}`")


def test_a_foreign_name_of_any_length_makes_a_short_error() -> None:
    assert len(refusal(marble.TagCreated, enveloped("\n" * 100_000, {"id": "t1"}))) < 250


def test_a_body_that_names_no_event_is_taken_at_its_messages_word() -> None:
    body = {"data": {"id": "p1"}}

    event = marble.PostDeleted.from_message(stored(body, "post.deleted"))

    assert event == marble.PostDeleted(id="p1")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"event": "post.published", "data": {"id": p1}}',
        b'{"event": "post.published", "data": {"id": "p1"}} trailing',
        b'{"event": "post.published", "data": {"id": "p1", "title": "\xff"}}',
        b'{"event": "post.published", "data": {"id": "p1", "title": "\\ud800"}}',
        b'{"event": "post.published", "data": {"id": "p1", "new": ' + b"[" * 100_000,
        "\ufeff{}".encode(),
    ],
)
def test_malformed_json_is_refused(body: bytes) -> None:
    assert refusal(marble.PostPublished, body)


def test_json_cut_short_anywhere_is_refused() -> None:
    whole = json.dumps(enveloped("author.updated", WIRE["author"])).encode()

    for length in range(len(whole)):
        assert refusal(marble.AuthorUpdated, whole[:length])


@given(body=st.binary(), cls=st.sampled_from(marble.EVENTS))
def test_any_bytes_end_in_an_event_or_a_decode_error(body: bytes, cls: type[MarbleEvent]) -> None:
    check_that_only_decode_errors_leave(cls, body)


VALUES: list[object] = [None, True, 7, -1.5, 10**30, "", "text", WHEN, [], [WHEN], {}, {"id": 7}]
JSON_VALUES = st.sampled_from(VALUES) | st.text(max_size=5) | st.floats()
WIRE_NAMES = st.sampled_from(sorted({name for data in WIRE.values() for name in data} | {"test"}))


@given(
    cls=st.sampled_from(marble.EVENTS),
    data=st.dictionaries(WIRE_NAMES, JSON_VALUES),
    outer=st.dictionaries(st.sampled_from(["id", "type", "createdAt", "actor"]), JSON_VALUES),
    flaw=st.none() | st.tuples(st.integers(min_value=0), st.integers(0, 255)),
)
def test_any_body_with_nearly_the_right_fields_ends_in_an_event_or_a_decode_error(
    cls: type[MarbleEvent],
    data: dict[str, object],
    outer: dict[str, object],
    flaw: tuple[int, int] | None,
) -> None:
    body = bytearray(json.dumps({"event": cls.tag, "data": {"id": "x"} | data} | outer).encode())
    if flaw is not None:
        position, byte = flaw
        body[position % len(body)] = byte

    check_that_only_decode_errors_leave(cls, bytes(body))


def check_that_only_decode_errors_leave(cls: type[MarbleEvent], body: bytes) -> None:
    try:
        event = cls.from_message(stored(body))
    except DecodeError:
        return
    assert isinstance(event, cls)
    assert isinstance(event.id, str)
