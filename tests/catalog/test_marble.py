"""Every Marble event in both of its wire forms, and the traps between them."""

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
from hookmill.events import EncodeError
from tests.catalog.marble_bodies import BY_NAME, TERM, WHEN, WIRE, enveloped, refusal, stored
from tests.strategies import instances

MOMENT = datetime(2026, 5, 22, 14, 42, 31, 120_000, UTC)
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


def published(**data: object) -> marble.PostPublished:
    body = {"event": "post.published", "data": {"id": "p1", **data}}
    return marble.PostPublished.from_message(stored(body))


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
