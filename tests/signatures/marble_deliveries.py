"""Deliveries of Marble, signed in both forms."""

from __future__ import annotations

from multidict import CIMultiDict

from hookmill.signatures import Refused, Signed, Verdict
from hookmill.signatures.marble import marble_scheme

SECRET = "marble_test_secret"
NOW = 1_779_460_951.0

BODY = b'{"a":1}'
DIGEST = "f833661b5df3d3535cbbea061af84e3b4b461a975a5a7bd16ab3d441fa6a81b4"
# The same body behind "1779460951."
TIMESTAMPED_BODY = "cbf26d6e0b6caf90a6d78c8f0a11720a62fceb846e1c9a196f892e90b4b269a4"

# What the sender's own signing code made of a body modelled on its documentation.
PUBLISHED_BODY = (
    '{"id":"evt_cmf3d1gsv11469tlkp53bcutv","type":"post.published",'
    '"createdAt":"2026-05-22T14:42:31.120Z","workspaceId":"org_cms96emp70001l60415sft0i5",'
    '"resource":{"type":"post","id":"post_cmf3d1gsv11469tlkp53bcutv"},'
    '"actor":{"type":"api_key","id":"key_cmf3cp0nz0001l604a8c7h2sc"},'
    '"data":{"id":"post_cmf3d1gsv11469tlkp53bcutv",'
    '"title":"Getting Started with Marble CMS \N{EN DASH} é",'
    '"slug":"getting-started-with-marble","status":"published"}}'
).encode()
PUBLISHED_HEADERS = {
    "x-marble-signature": "sha256=5eeb5ee9e02c59af916c95521536661a16036bf93816d5aa03bc8282a4fc1eaf",
    "x-marble-event": "post.published",
    "x-marble-event-id": "evt_cmf3d1gsv11469tlkp53bcutv",
    "x-marble-delivery-id": "whd_test",
    "x-marble-timestamp": "1779460951",
}


def verify(
    signature: str,
    body: bytes = BODY,
    *,
    secrets: tuple[str, ...] = (SECRET,),
    timestamp: str | None = None,
    now: float = NOW,
) -> Verdict:
    """Judge a delivery; one with a timestamp by a source that asks for the timestamped form."""
    headers = CIMultiDict({"x-marble-signature": signature})
    if timestamp is not None:
        headers["x-marble-timestamp"] = timestamp
    return marble_scheme(secrets, with_time=timestamp is not None).verify(
        Signed(headers, body), now
    )


def code_of(verdict: Verdict) -> str:
    return verdict.code if isinstance(verdict, Refused) else "verified"
