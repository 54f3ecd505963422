"""Every Marble event in both of its wire forms, the traps between them, and bodies that misfit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from hookmill.catalog import marble
from hookmill.catalog.marble import Actor, Envelope, MarbleEvent, Resource, Social
from hookmill.errors import DecodeError
from hookmill.events import EncodeError
from hookmill.message import Message
from tests.strategies import instances

BY_NAME: dict[str, type[MarbleEvent]] = {
    "post.published": marble.PostPublished,
    "post.unpublished": marble.PostUnpublished,
    "post.updated": marble.PostUpdated,
    "post.deleted": marble.PostDeleted,
    "category.created": marble.CategoryCreated,
    "category.updated": marble.CategoryUpdated,
    "category.deleted": marble.CategoryDeleted,
    "tag.created": marble.TagCreated,
    "tag.updated": marble.TagUpdated,
    "tag.deleted": marble.TagDeleted,
    "author.created": marble.AuthorCreated,
    "author.updated": marble.AuthorUpdated,
    "author.deleted": marble.AuthorDeleted,
    "media.uploaded": marble.MediaUploaded,
    "media.updated": marble.MediaUpdated,
    "media.deleted": marble.MediaDeleted,
}

WHEN = "2026-05-22T14:42:31.120Z"
MOMENT = datetime(2026, 5, 22, 14, 42, 31, 120_000, UTC)

# A resource's whole `data` in generation B, and the same as the event's fields.
TERM = {"id": "t1", "name": "News", "slug": "news", "description": None}
WIRE: dict[str, dict[str, Any]] = {
    "post": {
        "id": "p1",
        "title": "Hello",
        "slug": "hello",
        "description": "A greeting",
        "coverImage": None,
        "status": "published",
        "featured": False,
        "categoryId": "c1",
        "primaryAuthorId": "a1",
        "publishedAt": WHEN,
        "createdAt": WHEN,
        "updatedAt": None,
    },
    "category": {**TERM, "createdAt": WHEN, "updatedAt": None},
    "tag": {**TERM, "createdAt": WHEN, "updatedAt": None},
    "author": {
        "id": "a1",
        "name": "Ada",
        "slug": "ada",
        "bio": None,
        "role": "Editor",
        "image": "https://cdn.example/ada.png",
        "email": None,
        "socials": [{"platform": "github", "url": "https://github.com/ada"}],
        "createdAt": WHEN,
        "updatedAt": None,
    },
    "media": {
        "id": "m1",
        "name": "clip.mp4",
        "type": "video",
        "url": "https://cdn.example/clip.mp4",
        "alt": None,
        "mimeType": "video/mp4",
        "blurHash": None,
        "size": 52_000,
        "width": 1920,
        "height": None,
        "duration": 1500.5,
        "createdAt": WHEN,
        "updatedAt": None,
    },
}
FIELDS: dict[str, dict[str, Any]] = {
    "post": {
        "id": "p1",
        "title": "Hello",
        "slug": "hello",
        "description": "A greeting",
        "cover_image": None,
        "status": "published",
        "featured": False,
        "category_id": "c1",
        "primary_author_id": "a1",
        "published_at": MOMENT,
        "created_at": MOMENT,
        "updated_at": None,
    },
    "category": {**TERM, "created_at": MOMENT, "updated_at": None},
    "tag": {**TERM, "created_at": MOMENT, "updated_at": None},
    "author": {
        "id": "a1",
        "name": "Ada",
        "slug": "ada",
        "bio": None,
        "role": "Editor",
        "image": "https://cdn.example/ada.png",
        "email": None,
        "socials": (Social(platform="github", url="https://github.com/ada"),),
        "created_at": MOMENT,
        "updated_at": None,
    },
    "media": {
        "id": "m1",
        "name": "clip.mp4",
        "type": "video",
        "url": "https://cdn.example/clip.mp4",
        "alt": None,
        "mime_type": "video/mp4",
        "blur_hash": None,
        "size": 52_000,
        "width": 1920,
        "height": None,
        "duration": 1500.5,
        "created_at": MOMENT,
        "updated_at": None,
    },
}

# Generation A's `data` and the same as the event's fields.
NAMED = {"id": "n1", "slug": "news", "userId": "u1"}
NAMED_FIELDS = {"id": "n1", "slug": "news", "user_id": "u1"}
POST, POST_FIELDS = {**NAMED, "title": "Hello"}, {**NAMED_FIELDS, "title": "Hello"}
FILE = {"id": "m1", "name": "clip.mp4", "userId": "u1"}
FILE_FIELDS = {"id": "m1", "name": "clip.mp4", "user_id": "u1"}
SIZED = {"size": 52_000, "type": "video"}
GENERATION_A: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "post.published": (POST, POST_FIELDS),
    "post.updated": (POST, POST_FIELDS),
    "post.deleted": (NAMED, NAMED_FIELDS),
    "category.created": (NAMED, NAMED_FIELDS),
    "category.updated": (NAMED, NAMED_FIELDS),
    "category.deleted": (NAMED, NAMED_FIELDS),
    "tag.created": (NAMED, NAMED_FIELDS),
    "tag.updated": (NAMED, NAMED_FIELDS),
    "tag.deleted": (NAMED, NAMED_FIELDS),
    "media.uploaded": ({**FILE, **SIZED}, {**FILE_FIELDS, **SIZED}),
    "media.deleted": (FILE, FILE_FIELDS),
}


def stored(body: bytes | dict[str, Any], type_: str = "") -> Message:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Message(id="evt_1", source="marble", type=type_, body=raw, received_ms=0)


def enveloped(name: str, data: object, **changed: object) -> dict[str, Any]:
    return {
        "id": "evt_1",
        "type": name,
        "createdAt": WHEN,
        "workspaceId": "w1",
        "resource": {"type": name.split(".", maxsplit=1)[0], "id": "r1"},
        "actor": {"type": "user", "id": None},
        "data": data,
        **changed,
    }


def published(**data: object) -> marble.PostPublished:
    body = {"event": "post.published", "data": {"id": "p1", **data}}
    return marble.PostPublished.from_message(stored(body))


def refusal(cls: type[MarbleEvent], body: bytes | dict[str, Any], type_: str = "") -> str:
    with pytest.raises(DecodeError) as caught:
        cls.from_message(stored(body, type_))
    return str(caught.value)


def test_the_catalogue_is_the_sixteen_events_marble_can_send() -> None:
    assert {cls.tag: cls for cls in marble.EVENTS} == BY_NAME
    assert len(marble.EVENTS) == 16


@pytest.mark.parametrize("name", BY_NAME)
def test_every_event_of_generation_b_is_read_whole(name: str) -> None:
    resource = name.split(".", maxsplit=1)[0]
    changes = {"changes": ["title", "customFields"]} if name.endswith(".updated") else {}
    message = stored(enveloped(name, WIRE[resource] | changes))

    event = BY_NAME[name].from_message(message)

    envelope = Envelope(
        id="evt_1",
        created_at=MOMENT,
        workspace_id="w1",
        resource=Resource(type=resource, id="r1"),
        actor=Actor(type="user", id=None),
    )
    expected: dict[str, Any] = FIELDS[resource] | {"envelope": envelope}
    if changes:
        expected["changes"] = ("title", "customFields")
    assert event == BY_NAME[name](**expected)


@pytest.mark.parametrize("name", GENERATION_A)
def test_every_event_of_generation_a_is_read_into_the_same_class(name: str) -> None:
    data, fields = GENERATION_A[name]

    event = BY_NAME[name].from_message(stored({"event": name, "data": data}))

    assert event == BY_NAME[name](**fields)
    assert event.envelope is UNSET


def test_the_guides_post_published_is_read() -> None:
    event = published(title="Hello", slug="hello", publishedAt=WHEN)

    assert event == marble.PostPublished(id="p1", title="Hello", slug="hello", published_at=MOMENT)


def test_the_guides_category_created_has_an_id_and_a_name_only() -> None:
    body = {"event": "category.created", "data": {"id": "c1", "name": "News"}}

    event = marble.CategoryCreated.from_message(stored(body))

    assert event == marble.CategoryCreated(id="c1", name="News")


@pytest.mark.parametrize("cls", marble.EVENTS)
def test_an_id_is_enough_for_every_event(cls: type[MarbleEvent]) -> None:
    body = {"event": cls.tag, "data": {"id": "x"}}

    assert cls.from_message(stored(body)) == cls(id="x")


def test_the_body_of_marbles_own_signing_code_is_read() -> None:
    body = (
        '{"id":"evt_cmf3d1gsv11469tlkp53bcutv","type":"post.published",'
        '"createdAt":"2026-05-22T14:42:31.120Z","workspaceId":"org_cms96emp70001l60415sft0i5",'
        '"resource":{"type":"post","id":"post_cmf3d1gsv11469tlkp53bcutv"},'
        '"actor":{"type":"api_key","id":"key_cmf3cp0nz0001l604a8c7h2sc"},'
        '"data":{"id":"post_cmf3d1gsv11469tlkp53bcutv",'
        '"title":"Getting Started with Marble CMS \u2013 \u00e9",'
        '"slug":"getting-started-with-marble","status":"published"}}'
    )

    event = marble.PostPublished.from_message(stored(body.encode()))

    assert event == marble.PostPublished(
        id="post_cmf3d1gsv11469tlkp53bcutv",
        title="Getting Started with Marble CMS \u2013 \u00e9",
        slug="getting-started-with-marble",
        status="published",
        envelope=Envelope(
            id="evt_cmf3d1gsv11469tlkp53bcutv",
            created_at=MOMENT,
            workspace_id="org_cms96emp70001l60415sft0i5",
            resource=Resource(type="post", id="post_cmf3d1gsv11469tlkp53bcutv"),
            actor=Actor(type="api_key", id="key_cmf3cp0nz0001l604a8c7h2sc"),
        ),
    )


def test_a_field_the_generation_does_not_carry_is_unset_and_null_is_none() -> None:
    event = published(coverImage=None)

    assert event.cover_image is None
    assert event.description is UNSET
    assert not event.description


def test_a_null_resource_and_a_null_actor_are_none() -> None:
    body = enveloped("tag.deleted", {"id": "t1"}, resource=None, actor=None)

    event = marble.TagDeleted.from_message(stored(body))

    assert isinstance(event.envelope, Envelope)
    assert event.envelope.resource is None
    assert event.envelope.actor is None


def test_an_envelope_needs_no_more_than_the_events_id() -> None:
    body = {"id": "evt_1", "type": "tag.deleted", "data": {"id": "t1"}}

    event = marble.TagDeleted.from_message(stored(body))

    assert event.envelope == Envelope(id="evt_1")


def test_moments_know_their_timezone() -> None:
    event = published(publishedAt="2026-05-22T16:42:31.120+02:00")

    assert event.published_at == MOMENT


def test_a_word_that_is_new_to_us_is_read() -> None:
    body = enveloped(
        "media.uploaded",
        {"id": "m1", "type": "hologram"},
        resource={"type": "theatre", "id": "r1"},
        actor={"type": "robot", "id": "b1"},
    )

    event = marble.MediaUploaded.from_message(stored(body))

    assert event.type == "hologram"
    assert isinstance(event.envelope, Envelope)
    assert event.envelope.resource == Resource(type="theatre", id="r1")
    assert event.envelope.actor == Actor(type="robot", id="b1")


def test_unknown_extra_fields_are_skipped_at_every_place() -> None:
    body = enveloped(
        "author.created",
        {"id": "a1", "socials": [{"platform": "x", "new": 1}], "new": {"deep": [1]}},
        resource={"type": "author", "id": "r1", "new": 1},
        actor={"type": "user", "id": "u1", "new": 1},
        new=[None],
    )

    event = marble.AuthorCreated.from_message(stored(body))

    assert event.socials == (Social(platform="x"),)


def test_a_data_field_named_envelope_is_not_taken_for_ours() -> None:
    event = published(envelope="C4", **{"$envelope": {"id": "forged"}})

    assert event == marble.PostPublished(id="p1")


def test_an_event_written_as_json_has_the_wires_names_and_nothing_that_is_unset() -> None:
    data = WIRE["post"] | {"changes": ["title"]}
    event = marble.PostUpdated.from_message(stored({"event": "post.updated", "data": data}))

    written = msgspec.json.decode(msgspec.json.encode(event))

    assert set(written) == set(data)
    again = marble.PostUpdated.from_message(stored({"event": "post.updated", "data": written}))
    assert again == event


def test_a_test_delivery_is_distinguished_from_a_published_post() -> None:
    demo = WIRE["post"] | {"id": "test_post", "test": True}
    body = enveloped("post.published", demo, resource={"type": "post", "id": "test"})

    assert marble.PostPublished.from_message(stored(body)).test is True
    assert not published().test


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


@given(event=st.one_of(*map(instances, marble.EVENTS)), key=st.sampled_from(["type", "event"]))
def test_what_is_encoded_as_data_is_decoded_as_the_equal_event_without_its_envelope(
    event: MarbleEvent, key: str
) -> None:
    body = b'{"%b": "%b", "data": %b}' % (key.encode(), event.tag.encode(), event.to_data())

    read = type(event).from_message(stored(json.loads(body), event.tag))

    assert read == msgspec.structs.replace(event, envelope=UNSET)


@pytest.mark.parametrize("cls", marble.EVENTS)
def test_the_data_that_marble_sends_is_encoded_again_as_it_came(cls: type[MarbleEvent]) -> None:
    data = WIRE[cls.tag.split(".", maxsplit=1)[0]]
    event = cls.from_message(stored(enveloped(cls.tag, data)))

    assert event.envelope
    moments = {
        name: WHEN.replace("120Z", "120000Z") for name, value in data.items() if value == WHEN
    }
    assert json.loads(event.to_data()) == data | moments


def test_what_does_not_fit_is_not_encoded() -> None:
    wrong: Any = 7
    with pytest.raises(EncodeError, match="PostDeleted cannot be sent: Expected `str`, got `int`"):
        marble.PostDeleted(id="p1", title=wrong).to_data()


def test_an_event_of_marble_under_an_earlier_name_is_read_as_well() -> None:
    class PostGone(MarbleEvent, tag="post.gone", aliases=("post.deleted",)):
        pass

    for name in ("post.gone", "post.deleted"):
        assert PostGone.from_message(stored(enveloped(name, {"id": "p1"}))).id == "p1"
    assert refusal(PostGone, enveloped("post.updated", {"id": "p1"})).startswith(
        "Expected the event `post.gone`, got 'post.updated'"
    )


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
