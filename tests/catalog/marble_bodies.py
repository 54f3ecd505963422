"""The data of every Marble event in both of its wire forms, and the fields that it becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hookmill.catalog import marble
from hookmill.catalog.marble import MarbleEvent
from hookmill.errors import DecodeError
from hookmill.message import Message

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


def refusal(cls: type[MarbleEvent], body: bytes | dict[str, Any], type_: str = "") -> str:
    with pytest.raises(DecodeError) as caught:
        cls.from_message(stored(body, type_))
    return str(caught.value)
