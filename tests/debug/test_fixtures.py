"""What stands in a delivery beside its signature: headers, ID, type, and a body that fits."""

from __future__ import annotations

import msgspec
import pytest

from hookmill.config.identity import Identity, identify_by, identify_marble, identify_qstash
from hookmill.config.source_options import SourceOptions, spec_of
from hookmill.debug.fixtures import draft, marble_headers, qstash_headers
from hookmill.signatures.presets import PRESETS

EVENT = '{"id":"evt_1","type":"post.published","data":{"title":"é"}}'.encode()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("github", b'{"action":"opened"}'),
        (
            "slack",
            b'{"type":"event_callback","event_id":"7","event":{"type":"pull_request.opened"}}',
        ),
        ("hubspot", b'[{"subscriptionType":"pull_request.opened"}]'),
        ("twilio", b"AccountSid=AC0&MessageStatus=pull_request.opened"),
        ("mailgun", b'{"signature":{"token":"7"},"event-data":{"event":"pull_request.opened"}}'),
        (
            "meta",
            b'{"object":"pull_request","entry":[{"changes":[{"field":"opened"}]}]}',
        ),
        ("svix", b'{"type":"pull_request.opened"}'),
        ("shopify", b"{}"),
    ],
)
def test_the_body_fits_the_sender(name: str, body: bytes) -> None:
    assert draft(name, PRESETS[name].spec, None, "7", "pull_request.opened").body == body


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_id_and_type_are_found_where_they_were_put(name: str) -> None:
    spec = PRESETS[name].spec
    made = draft(name, spec, None, "7", "a.b")
    identify = identify_marble if name == "marble" else identify_by(spec)
    found = identify(made.headers, made.body)
    assert isinstance(found, Identity)
    assert found.type == ("a.b" if spec.type else "")
    if spec.id and spec.id != ("body",):
        assert found.id == ("7@1" if name == "calendly" else "7")


def test_qstash_has_its_id_in_a_header_and_the_type_in_the_body() -> None:
    made = draft("qstash", None, None, "7", "a.b")
    assert identify_qstash(made.headers, made.body) == Identity("7", "a.b")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_body_that_is_given_stays_as_it_is(name: str) -> None:
    for body in (b"", b"{ }", b"\xff", b"a=1"):
        assert draft(name, PRESETS[name].spec, body, "7", "a.b").body == body


def test_a_table_of_ones_own_is_followed_as_well() -> None:
    options = SourceOptions(
        signature="header:X-S", id=("json:0.id",), type=("{header:X-A}/{header:X-B}", "header:X-A")
    )
    spec = spec_of("own", options)
    made = draft("own", spec, None, "7", "a/b")
    assert msgspec.json.decode(made.body) == [{"id": "7"}]
    assert (made.headers["X-A"], made.headers["X-B"]) == ("a", "b")
    # One that the first template cannot give is left to the second.
    made = draft("own", spec, None, "7", "plain")
    assert made.headers["X-A"] == "plain"
    assert "X-B" not in made.headers


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{}", "application/json"),
        (b'{"a":1}', "application/json"),
        (b"Hello World", "text/plain"),
        (b"", "text/plain"),
        (b"\xff", "text/plain"),
        (b"[" * 100_000, "text/plain"),
        (b'{"a":' * 100_000, "text/plain"),
    ],
    ids=lambda value: value[:12],
)
def test_the_content_type_follows_the_body(body: bytes, content_type: str) -> None:
    assert qstash_headers(body, "msg_1")["Content-Type"] == content_type


@pytest.mark.parametrize(
    ("body", "event", "event_id"),
    [
        (EVENT, "post.published", "evt_1"),
        (b"{}", "", "7"),
        (b"[1]", "", "7"),
        (b"not json", "", "7"),
        (b"\xff", "", "7"),
        (b"[" * 100_000, "", "7"),
        (b'{"id":5,"type":null}', "None", "5"),
    ],
    ids=lambda value: value[:20],
)
def test_marbles_headers_are_made_for_any_body(body: bytes, event: str, event_id: str) -> None:
    headers = marble_headers(body, "7")
    assert (headers["x-marble-event"], headers["x-marble-event-id"]) == (event, event_id)
