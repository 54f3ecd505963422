"""Requests of handshakes, signed or not, and the sources that get them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
from multidict import CIMultiDict

from hookmill.config.identity import identify_by
from hookmill.config.sources import Source
from hookmill.signatures import Signed
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec_verifier import SpecVerifier
from receiver.intake import Admitted, ReceivedRequest, admit
from receiver.responses import Reply
from tests.support import CURRENT_KEY, NEXT_KEY

NOW = 1_700_000_000.25
VERIFY_TOKEN = "verify-ä?\N{SNOWMAN}"


def source_of(preset: str, **words: Any) -> Source:
    """A source with a preset's spec, some of its fields changed."""
    spec = msgspec.structs.replace(PRESETS[preset].spec, **words)
    return Source(
        preset,
        f"/{preset}",
        SpecVerifier(spec, [CURRENT_KEY, NEXT_KEY]),
        identify_by(spec),
        handshake=spec.handshake,
        verify_token=VERIFY_TOKEN if spec.handshake == "meta" else "",
        status=spec.acknowledge,
    )


META, DROPBOX, INTERCOM = source_of("meta"), source_of("dropbox"), source_of("intercom")
WOOCOMMERCE, SLACK, TWITCH = source_of("woocommerce"), source_of("slack"), source_of("twitch")
ZOOM = source_of("zoom")
# Only Discord has its private key, so this source is signed as Slack's.
DISCORD = source_of("slack", handshake="discord", id=("json:id",), type=("json:event.type",))
GITHUB = source_of("github")
SOURCES = [META, DROPBOX, INTERCOM, WOOCOMMERCE, SLACK, TWITCH, ZOOM, DISCORD, GITHUB]


def delivered(
    source: Source, body: bytes, headers: dict[str, str] | None = None, *, secret: str = CURRENT_KEY
) -> Admitted:
    """Return what a signed delivery turns into."""
    assert isinstance(source.scheme, SpecVerifier)
    scheme = SpecVerifier(source.scheme.spec, [secret])
    signed = scheme.sign(Signed(CIMultiDict(headers or {}), body, source.path), NOW)
    return admit(source, ReceivedRequest(source.path, signed.headers, (), signed.body), NOW)


def unsigned(source: Source, body: bytes, headers: dict[str, str] | None = None) -> object:
    return admit(source, ReceivedRequest(source.path, CIMultiDict(headers or {}), (), body), NOW)


def content_type(reply: Reply) -> str:
    return dict(reply.headers)["Content-Type"]


TOKEN = quote(VERIFY_TOKEN)


CALLBACK = {"Twitch-Eventsub-Message-Type": "webhook_callback_verification"}
