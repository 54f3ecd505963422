"""AsyncAPI documents of `hookmill schema`: their events and handlers, and the rules of AsyncAPI."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from typing import Annotated, Any

import msgspec
import pytest
from jsonschema import Draft7Validator

from hookmill import Event, Handlers
from hookmill.admin.declared_events import of_handlers, of_module
from hookmill.catalog import marble
from hookmill.events import Schema
from hookmill.schema import asyncapi, to_json
from tests.declared_events import (
    OWN,
    PAID,
    Csv,
    Pushed,
    body_of,
    check_that_every_reference_leads_somewhere,
    document,
    event_class,
    handle,
)


def async_document() -> Schema:
    handlers = Handlers()
    events: tuple[type[Event], ...] = (*OWN, Csv)
    for event in events:
        handlers.on(event, name=f"on {event.tag}")(handle)
    handlers.on("*", name="everything")(handle)
    made: Schema = json.loads(to_json(asyncapi(of_handlers("app.main:handlers", handlers))))
    return made


def test_an_asyncapi_document_lists_the_events_and_their_handlers() -> None:
    made = async_document()

    assert made["asyncapi"] == "3.0.0"
    assert made["info"] == {"title": "app.main", "version": "0.0.0"}
    assert list(made["operations"]) == [
        *("on_order.paid", "on_order.paid.v2", "on_Push_Hook____", "on_whole", "on_csv"),
        "everything",
    ]
    assert made["operations"]["on_order.paid.v2"] == {
        "action": "receive",
        "channel": {"$ref": "#/channels/webhooks"},
        "title": "on order.paid.v2",
        "summary": "Do it.",
        "bindings": {"http": {"method": "POST"}},
        "messages": [
            {"$ref": "#/channels/webhooks/messages/order.paid.v2"},
            {"$ref": "#/channels/webhooks/messages/order.payed"},
        ],
    }
    assert made["components"]["messages"]["order.paid"] == {
        "name": "order.paid",
        "title": "OrderPaid",
        "summary": "An order was paid.",
        "description": "In full, that is.",
        "contentType": "application/json",
        "payload": {
            "type": "object",
            "properties": {
                "type": {"const": "order.paid"},
                "data": {"$ref": "#/components/schemas/order.paid"},
            },
            "required": ["type", "data"],
        },
    }
    earlier = made["components"]["messages"]["order.payed"]
    assert earlier["summary"] == "An earlier name of order.paid.v2 and csv."
    assert made["components"]["messages"]["Push_Hook____"]["name"] == Pushed.tag
    check_that_every_reference_leads_somewhere(made)


def test_the_payloads_of_an_asyncapi_document_are_draft_07() -> None:
    made = async_document()
    payload = made["components"]["messages"]["order.paid"]["payload"] | {
        "components": made["components"]
    }
    good = body_of(PAID)

    validator = Draft7Validator(payload)
    validator.check_schema(payload)
    assert validator.is_valid(good)
    for place in ([1.5], [1.5, 2.5, 3.5], ["a", "b"]):
        bad = good | {"data": good["data"] | {"place": place}}
        assert not validator.is_valid(bad)


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    """The JSON Schema of AsyncAPI documents, as the AsyncAPI project publishes it."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("asyncapi")
    try:
        done = subprocess.run(
            [npm, "pack", "@asyncapi/specs@6.11.1"],
            cwd=folder,
            capture_output=True,
            timeout=60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the npm registry did not answer in time")
    packed = list(folder.glob("*.tgz"))
    if done.returncode != 0 or not packed:
        pytest.skip(f"npm could not fetch the schema: {done.stderr.decode()[-200:]}")
    with tarfile.open(packed[0]) as files:
        found = files.extractfile("package/schemas/3.0.0.json")
        assert found is not None
        read: Schema = json.load(io.BytesIO(found.read()))
        return read


@pytest.mark.external
def test_asyncapis_own_rules_accept_the_documents(rules: Schema) -> None:
    validator = Draft7Validator(rules)
    catalogue = json.loads(to_json(asyncapi(of_module(marble))))

    for made in (async_document(), catalogue):
        assert [error.message for error in validator.iter_errors(made)] == []
    assert not validator.is_valid(catalogue | {"info": {"title": "no version"}})
    assert not validator.is_valid(catalogue | {"operations": {"x": {"action": "eat"}}})


def test_names_and_values_that_look_like_schema_keywords_are_unchanged() -> None:
    example = {"discriminator": "x", "description": "  a\n  b", "items": 7}
    target = Annotated[Any, msgspec.Meta(examples=[example])]
    link = event_class("Link", {"tag": "link"}, target=target, discriminator=str, properties=str)

    found = document(link)["$defs"]["link"]["properties"]

    assert list(found) == ["target", "discriminator", "properties"]
    assert found["target"]["examples"] == [example]
