"""Marble CMS: its 16 content events, read from both forms they have had on the wire.

Generation B (since May 2026) sends an envelope with the fact in `data`; generation A sent
`{"event", "data"}` with fewer fields. Both decode into the same class: what a body does not
carry is `UNSET`, which is falsy, and what it carries as null is `None`. Only the `id` in `data` is
required, and words from a list (`status`, a resource's `type`) are plain strings: a word that is
new since this was written must not cost a delivery.

Null is not "empty": an emitter that did not load a field sends null though it is set. It concerns
`description`, `cover_image`, `category_id`, `primary_author_id`, `email`, `created_at` and
`updated_at`; ask Marble's API before taking one of them for cleared.
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
"""The fields that were *submitted*, not those that differ. Events from the dashboard use its
form's names (`category`, `customFields`) rather than those of the event's own fields.
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
    """What generation B says around `data`; it is under the signature, as `data` is.

    `id` and `created_at` belong to the event: all endpoints and all attempts get the same.
    """

    id: str
    created_at: Moment = UNSET
    workspace_id: Text = UNSET
    resource: Resource | UnsetType | None = UNSET
    actor: Actor | UnsetType | None = UNSET


class MarbleEvent(Event, rename="camel"):
    """The base of Marble's events."""

    id: str
    """The ID of the post, category, tag, author or media; the event's own is in `envelope`."""

    # A key that Marble's `data` will not have: a field of its own named `envelope` stays apart.
    envelope: Envelope | UnsetType = msgspec.field(default=UNSET, name="$envelope")
    """The facts of the event itself; `UNSET` in generation A, which has none."""

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Decode either generation; raise `DecodeError` for another event's body too.

        The body is the judge of its event: the message's type may stem from a header, which
        Marble does not sign.
        """
        decoder: msgspec.json.Decoder[_Body[Self]] = _decoder_of(cls)
        body = decode(decoder, message.body)
        _check_name(body.type, cls, "$.type")
        _check_name(body.event, cls, "$.event")
        return msgspec.structs.replace(body.data, envelope=body.envelope())

    def to_data(self) -> bytes:
        """Encode what stands in `data`; the envelope stands around it, and is left out."""
        return super(MarbleEvent, msgspec.structs.replace(self, envelope=UNSET)).to_data()

    @classmethod
    def wire_data(cls) -> type[msgspec.Struct]:
        """Return the type of what stands in `data`: the fields less the envelope."""
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
    """Who did it; generation A only, as B has it in `envelope.actor`."""


class PostPublished(_Post, tag="post.published"):
    """A post went public. It comes without content, tags and authors: fetch those by its `id`."""

    test: bool | UnsetType = UNSET
    """True in a delivery that a person sent from Marble to try the endpoint: there is no post."""


class PostUnpublished(_Post, tag="post.unpublished"):
    """A post was withdrawn from the public. Generation B only."""


class PostUpdated(_Post, tag="post.updated"):
    """A post was saved."""

    changes: Changes = UNSET


class PostDeleted(_Post, tag="post.deleted"):
    """A post is gone; in generation B these are its last fields, complete."""


class _Term(MarbleEvent):
    name: Text = UNSET
    slug: Text = UNSET
    description: NullableText = UNSET
    created_at: NullableMoment = UNSET
    updated_at: NullableMoment = UNSET
    user_id: Text = UNSET
    """Who did it; generation A only, as B has it in `envelope.actor`."""


class CategoryCreated(_Term, tag="category.created"):
    """A category was made."""


class CategoryUpdated(_Term, tag="category.updated"):
    """A category was saved."""

    changes: Changes = UNSET


class CategoryDeleted(_Term, tag="category.deleted"):
    """A category is gone."""


class TagCreated(_Term, tag="tag.created"):
    """A tag was made."""


class TagUpdated(_Term, tag="tag.updated"):
    """A tag was saved."""

    changes: Changes = UNSET


class TagDeleted(_Term, tag="tag.deleted"):
    """A tag is gone."""


class Social(msgspec.Struct, frozen=True, kw_only=True):
    """An author's page elsewhere."""

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
    """An author was made. Generation B only."""


class AuthorUpdated(_Author, tag="author.updated"):
    """An author was saved. Generation B only."""

    changes: Changes = UNSET


class AuthorDeleted(_Author, tag="author.deleted"):
    """An author is gone. Generation B only."""


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
    """Who did it; generation A only, as B has it in `envelope.actor`."""


class MediaUploaded(_Media, tag="media.uploaded"):
    """A file was uploaded."""


class MediaUpdated(_Media, tag="media.updated"):
    """A file's facts were saved, which only Marble's API can do. Generation B only."""

    changes: Changes = UNSET


class MediaDeleted(_Media, tag="media.deleted"):
    """A file is gone."""


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
    # Typed, `field` takes one of the defaults; it knows which of both was given.
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
        # Cut short: the name is the sender's, and this text is logged and kept.
        raise DecodeError(f"Expected the event `{cls.tag}`, got {name[:64]!r} - at `{path}`")
