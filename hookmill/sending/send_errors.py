"""Builds the `SendError` of a failed request, without tokens and secrets in its text. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from hookmill.errors import AddressRefusedError, SendError
from hookmill.printable import printable
from hookmill.sending.exchange import HttpResponse, NoResponse
from hookmill.sending.retry_policy import RetryDecision
from hookmill.signatures import Secret

SHOWN_CHARACTERS = 1000
"""Characters of a response that an error shows."""


class RequestInfo(NamedTuple):
    """What is known of a request before it is made.

    `purpose` says what it does, for errors. `base` is the scheme and host. `needs_body`: the
    response's body is needed, not its status alone. `secrets` are hidden in errors. `window`:
    seconds after which another attempt could take effect a second time.
    """

    purpose: str
    base: str = ""
    deduplication_id: str | None = None
    needs_body: bool = True
    secrets: tuple[Secret, ...] = ()
    window: float = math.inf


def send_error(
    info: RequestInfo,
    outcome: HttpResponse | NoResponse,
    decision: RetryDecision,
    *,
    attempts: int,
    may_have_counted: bool,
    now: float,
) -> SendError:
    """Say what was tried, how it ended, and whether it may have taken effect."""
    status, body, resets = None, "", None
    if isinstance(outcome, HttpResponse):
        status = outcome.status
        body = outcome.body[:SHOWN_CHARACTERS].decode("utf-8", "replace").strip()
        # Hide before the text is shortened: a secret that is cut in half would not be found.
        body = _without_beginning(hide_secrets(body, info.secrets), info.secrets)
        body = body[:SHOWN_CHARACTERS]
        if decision.wait is not None:
            resets = datetime.fromtimestamp(now + decision.wait, UTC)
    known = "it may have been accepted" if may_have_counted else "nothing was accepted"
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    text = f"{info.purpose}: {decision.reason}, after {tries}; {known}"
    if resets is not None:
        text += f"; the server asks to wait until {resets:%Y-%m-%d %H:%M:%S} UTC"
    if body:
        text += f"; the server said: {printable(body[:200])}"
    refused = isinstance(outcome, NoResponse) and outcome.is_refused
    error = AddressRefusedError if refused else SendError
    return error(
        hide_secrets(text, info.secrets),
        status=status,
        body=body,
        deduplication_id=info.deduplication_id,
        may_be_published=may_have_counted,
        resets_at=resets,
    )


def hide_secrets(text: str, secrets: Iterable[Secret]) -> str:
    """Return a text without secrets. A server's response may repeat what it was sent."""
    for secret in secrets:
        if secret.text:
            text = text.replace(secret.text, "[hidden]")
    return text


def _without_beginning(text: str, secrets: Iterable[Secret]) -> str:
    """Remove the beginning of a secret from the end of a text that was cut off."""
    for secret in secrets:
        for length in range(len(secret.text) - 1, 3, -1):
            if text.endswith(secret.text[:length]):
                return f"{text[:-length]}[hidden]"
    return text
