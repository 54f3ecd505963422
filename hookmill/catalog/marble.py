"""The 16 content events of Marble CMS, in both forms that they have had on the wire.

Generation B (since May 2026) sends an envelope around `data`; generation A sent `{"event", "data"}`
with fewer fields. Both decode into the same class. A field that a body lacks is `UNSET` (falsy), a
null is `None` (see `MarbleEvent`). Only the `id` in `data` is required. `status` and `type` may be
any text, so that a new word of Marble's does not make a delivery fail.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Annotated, Any, Generic, Self, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from hookmill.errors import DecodeError
from hookmill.events import Event, Schema, SchemaOf, body_schema, decode
from hookmill.message import Message

Text: TypeAlias = str | UnsetType
NullableText: TypeAlias = str | UnsetType | None
NullableNumber: TypeAlias = int | float | UnsetType | None
Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)] | UnsetType
NullableMoment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)] | UnsetType | None
Changes: TypeAlias = tuple[str, ...] | UnsetType
"""The fields that were *submitted*, changed or not. Events from the dashboard use the names of its
form (`category`, `customFields`), which differ from those of the event's fields.
"""


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """What the event is about: a post, category, tag, media, author or workspace."""

    type: Text = UNSET
    id: Text = UNSET


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who caused the event: a user, api_key, mcp or system."""

    type: Text = UNSET
    id: NullableText = UNSET


class Envelope(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The fields around `data` in generation B. They are signed, like `data`.

    `id` and `created_at` are those of the event: they are the same for each endpoint and attempt.
    """

    id: str
    created_at: Moment = UNSET
    workspace_id: Text = UNSET
    resource: Resource | UnsetType | None = UNSET
    actor: Actor | UnsetType | None = UNSET


class MarbleEvent(Event, rename="camel"):
    """The base class of Marble's events.

    None in `description`, `cover_image`, `category_id`, `primary_author_id`, `email`, `created_at`
    or `updated_at` does not always mean "empty": Marble sends null for a field that it did not
    load. Ask Marble's API before you treat such a field as cleared.
    """

    id: str
    """The ID of the post, category, tag, author or media; the event's own is in `envelope`."""

    # The name on the wire cannot collide with a field that Marble may add to `data`.
    envelope: Envelope | UnsetType = msgspec.field(default=UNSET, name="$envelope")
    """The fields around `data`; `UNSET` in generation A, which has none."""

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Decode either generation. Raises `DecodeError` for the body of another event, too.

        The event's name is checked in the body, because the message's type may come from a header,
        which Marble does not sign.
        """
        decoder: msgspec.json.Decoder[_Body[Self]] = _decoder_of(cls)
        body = decode(decoder, message.body)
        _check_name(body.type, cls, "$.type")
        _check_name(body.event, cls, "$.event")
        return msgspec.structs.replace(body.data, envelope=body.envelope())

    def to_data(self) -> bytes:
        """Return the JSON of `data`, without the envelope, which stands around it."""
        return super(MarbleEvent, msgspec.structs.replace(self, envelope=UNSET)).to_data()

    @classmethod
    def wire_data(cls) -> type[msgspec.Struct]:
        """Return the type of `data`: the fields without the envelope."""
        return _data_of(cls)

    @classmethod
    def wire_body(cls, name: str, schema_of: SchemaOf) -> Schema:
        """Return the JSON Schema of a body of either generation."""
        data = schema_of(cls.wire_data())
        around = {one.encode_name: schema_of(one.type) for one in msgspec.structs.fields(Envelope)}
        return {
            "anyOf": [
                {"title": "Generation B", **body_schema(around, type={"const": name}, data=data)},
                {"title": "Generation A", **body_schema(event={"const": name}, data=data)},
            ]
        }


class _Post(MarbleEvent):
    title: Text = UNSET
    slug: Text = UNSET
    description: NullableText = UNSET
    cover_image: NullableText = UNSET
    status: NullableText = UNSET
    """`published` or `draft`."""
    featured: bool | UnsetType | None = UNSET
    category_id: NullableText = UNSET
    primary_author_id: NullableText = UNSET
    published_at: NullableMoment = UNSET
    created_at: NullableMoment = UNSET
    updated_at: NullableMoment = UNSET
    user_id: Text = UNSET
    """Who did it. Only in generation A; B has it in `envelope.actor`."""


class PostPublished(_Post, tag="post.published"):
    """A post was published. Fetch its content, tags and authors by its `id`."""

    test: bool | UnsetType = UNSET
    """True in a delivery that a person sent from Marble to test the endpoint. There is no post."""


class PostUnpublished(_Post, tag="post.unpublished"):
    """A post is no longer public. Generation B only."""


class PostUpdated(_Post, tag="post.updated"):
    """A post was saved."""

    changes: Changes = UNSET


class PostDeleted(_Post, tag="post.deleted"):
    """A post was deleted. Generation B sends all its last fields."""


class _Term(MarbleEvent):
    name: Text = UNSET
    slug: Text = UNSET
    description: NullableText = UNSET
    created_at: NullableMoment = UNSET
    updated_at: NullableMoment = UNSET
    user_id: Text = UNSET
    """Who did it. Only in generation A; B has it in `envelope.actor`."""


class CategoryCreated(_Term, tag="category.created"):
    """A category was created."""


class CategoryUpdated(_Term, tag="category.updated"):
    """A category was saved."""

    changes: Changes = UNSET


class CategoryDeleted(_Term, tag="category.deleted"):
    """A category was deleted."""


class TagCreated(_Term, tag="tag.created"):
    """A tag was created."""


class TagUpdated(_Term, tag="tag.updated"):
    """A tag was saved."""

    changes: Changes = UNSET


class TagDeleted(_Term, tag="tag.deleted"):
    """A tag was deleted."""


class Social(msgspec.Struct, frozen=True, kw_only=True):
    """A page of an author on another site."""

    platform: Text = UNSET
    url: Text = UNSET


class _Author(MarbleEvent):
    name: Text = UNSET
    slug: Text = UNSET
    bio: NullableText = UNSET
    role: NullableText = UNSET
    image: NullableText = UNSET
    email: NullableText = UNSET
    socials: tuple[Social, ...] | UnsetType = UNSET
    created_at: NullableMoment = UNSET
    updated_at: NullableMoment = UNSET


class AuthorCreated(_Author, tag="author.created"):
    """An author was created. Generation B only."""


class AuthorUpdated(_Author, tag="author.updated"):
    """An author was saved. Generation B only."""

    changes: Changes = UNSET


class AuthorDeleted(_Author, tag="author.deleted"):
    """An author was deleted. Generation B only."""


class _Media(MarbleEvent):
    name: Text = UNSET
    type: Text = UNSET
    """`image`, `video`, `audio` or `document`."""
    size: int | UnsetType = UNSET
    """In bytes."""
    url: NullableText = UNSET
    alt: NullableText = UNSET
    mime_type: NullableText = UNSET
    blur_hash: NullableText = UNSET
    width: NullableNumber = UNSET
    height: NullableNumber = UNSET
    duration: NullableNumber = UNSET
    """In milliseconds."""
    created_at: NullableMoment = UNSET
    updated_at: NullableMoment = UNSET
    user_id: Text = UNSET
    """Who did it. Only in generation A; B has it in `envelope.actor`."""


class MediaUploaded(_Media, tag="media.uploaded"):
    """A file was uploaded."""


class MediaUpdated(_Media, tag="media.updated"):
    """The metadata of a file was saved, which only Marble's API can do. Generation B only."""

    changes: Changes = UNSET


class MediaDeleted(_Media, tag="media.deleted"):
    """A file was deleted."""


EVENTS: tuple[type[MarbleEvent], ...] = (
    PostPublished,
    PostUnpublished,
    PostUpdated,
    PostDeleted,
    CategoryCreated,
    CategoryUpdated,
    CategoryDeleted,
    TagCreated,
    TagUpdated,
    TagDeleted,
    AuthorCreated,
    AuthorUpdated,
    AuthorDeleted,
    MediaUploaded,
    MediaUpdated,
    MediaDeleted,
)
"""Every event that Marble lets an endpoint subscribe to."""

_E = TypeVar("_E", bound=MarbleEvent)


class _Body(msgspec.Struct, Generic[_E], frozen=True, kw_only=True, rename="camel"):
    """A body of either generation: A has `event`, B everything but `event`."""

    data: _E
    event: Text = UNSET
    type: Text = UNSET
    id: Text = UNSET
    created_at: Moment = UNSET
    workspace_id: Text = UNSET
    resource: Resource | UnsetType | None = UNSET
    actor: Actor | UnsetType | None = UNSET

    def envelope(self) -> Envelope | UnsetType:
        if self.id is UNSET:
            return UNSET
        return Envelope(
            id=self.id,
            created_at=self.created_at,
            workspace_id=self.workspace_id,
            resource=self.resource,
            actor=self.actor,
        )


@cache
def _decoder_of(cls: type[_E]) -> msgspec.json.Decoder[_Body[_E]]:
    return msgspec.json.Decoder(_Body[cls])  # type: ignore[valid-type] # known at run time only


@cache
def _data_of(cls: type[MarbleEvent]) -> type[msgspec.Struct]:
    # Any: by its types, `field` accepts only one of the two defaults. One of them is always unset.
    field: Any = msgspec.field
    fields = [
        (
            one.name,
            one.type,
            field(name=one.encode_name, default=one.default, default_factory=one.default_factory),
        )
        for one in msgspec.structs.fields(cls)
        if one.name != "envelope"
    ]
    return msgspec.defstruct(
        cls.__name__,
        fields,
        kw_only=True,
        namespace={"__doc__": cls.__doc__},
        module=cls.__module__,
    )


def _check_name(name: Text, cls: type[MarbleEvent], path: str) -> None:
    if name is not UNSET and name not in cls.names:
        # Cut off, because the sender chooses the name, and this text is logged and stored.
        raise DecodeError(f"Expected the event `{cls.tag}`, got {name[:64]!r} - at `{path}`")
