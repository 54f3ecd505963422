"""Signs and posts a delivery exactly as its sender would, for trying one's own endpoint."""

from __future__ import annotations

import time
import uuid
from typing import NamedTuple

import aiohttp
from yarl import URL

from hookmill.debug.fixtures import draft
from hookmill.errors import SendError
from hookmill.signatures import Refused, Scheme, Signed
from hookmill.signatures.places import finder
from hookmill.signatures.scheme import NetworkScheme
from hookmill.signatures.signing import put
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier

TIMEOUT = 30.0
"""Seconds one delivery may take."""


class ReceiverAnswer(NamedTuple):
    """How the endpoint answered: the status, and the beginning of the text."""

    status: int
    text: str


def fresh_message_id() -> str:
    """Return a new message ID."""
    return f"msg_{uuid.uuid4().hex}"


async def deliver(
    preset: str,
    scheme: Scheme | NetworkScheme,
    url: str,
    body: bytes | None = None,
    *,
    message_id: str,
    event_type: str = "",
    signed_url: str = "",
    forged: bool = False,
) -> ReceiverAnswer:
    """Sign `body` (None: a body that fits the sender) and post it to `url` as the sender does.

    `signed_url` is the URL that the sender was given, where that differs. `forged` changes the
    delivery after signing. QStash's scheme must have the base of the URL as its public URL. Raises
    `SendError`.
    """
    try:
        base = URL(url, encoded=True)
        spec = scheme.spec if isinstance(scheme, SpecVerifier) else None
        headers, raw = draft(preset, spec, body, message_id, event_type)
        delivery = Signed(headers, raw, base.raw_path_qs, url=signed_url or url)
        signed = scheme.sign(delivery, time.time())
        if forged:
            signed = _forged(signed, spec)
        # The URL stays as it was written. Only a sender that signs its URL appends to it.
        target = URL(url + signed.target.removeprefix(delivery.target), encoded=True)
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session,
            # A redirect counts as the answer, because following it would be a GET elsewhere.
            session.post(
                target, data=signed.body, headers=signed.headers, allow_redirects=False
            ) as response,
        ):
            text = (await response.content.read(1000)).decode("utf-8", "replace")
            return ReceiverAnswer(response.status, text.strip())
    except (aiohttp.ClientError, TimeoutError) as error:
        raise SendError(f"{url}: {str(error) or type(error).__name__}") from None
    except ValueError as error:  # a URL or a header that HTTP cannot express
        raise SendError(f"{url}: {error}") from None


def _forged(signed: Signed, spec: SignatureSpec | None) -> Signed:
    """Change a signed delivery so that it must be refused: its body, or the signature itself where
    that does not cover the body.
    """
    if spec is None or spec.covers_body:
        return signed._replace(body=signed.body + b" ")
    value = finder(spec.signature)(signed)
    text = "" if isinstance(value, Refused) else value.decode("utf-8", "replace")
    return put(signed, spec.signature, text[:-1] + ("0" if text[-1:] != "0" else "1"))


async def answers(url: str) -> bool:
    """Return whether a GET of `url` is answered with 200."""
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
