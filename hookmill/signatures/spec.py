"""A signature scheme as data. `presets` and a user's `hookmill.toml` use the same words for it.

A place is `header:NAME`, `json:PATH` or `form:NAME`. `timestamp` and `content` may also name
`item:NAME`, an item of the list in the signature header. A template is text with fields in braces:
`{body}`, `{timestamp}`, `{id}`, `{url}`, `{method}`, a place such as `{header:X-Shop}`, or the rule
of one sender (`{twilio}`, `{hubspot}`, `{contentful}`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

Algorithm = Literal[
    "hmac-sha1", "hmac-sha256", "hmac-sha512", "ed25519", "ecdsa-p256", "token"
]  # fmt: skip
KeyForm = Literal["text", "base64", "hex", "base64-if-prefixed"]
Encoding = Literal["hex", "base64", "base64url"]
Unit = Literal["s", "ms", "rfc3339"]

OWN_RULES = {"twilio", "hubspot", "contentful"}
"""Fields that only code can fill (`content_rules`). Each is a whole content, body included."""

LONGEST_TOLERANCE = 366 * 86400
"""The largest `tolerance`, in seconds. One digit more or less changes a Unix time by far more."""

TIMED_RULES = {"hubspot", "contentful"}
"""Those of them that cover the signed time as well."""

_FIELD = re.compile(r"\{([^{}]*)\}")


class SignatureSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How a sender signs.

    `signature` is the place of the signature. Its value is one signature after `prefix`. Or it is a
    list of items: `split` holds the characters between items, `pair` the text between an item's
    name and value, and `item` is the name of the items that are signatures. With `bare` a signature
    may also stand without prefix or name. `encoding` is how a signature is written; only the one
    canonical spelling is accepted.

    The key is the text of the secret, or what it decodes to (`key`) after `key_prefix`. `content`
    is the template of what is signed. `timestamp` is the place of the signed time, written in
    `unit`; it may differ from our clock by `tolerance` seconds in either direction.

    `id` and `type` are templates of the message ID and the event type. Of each, the first one whose
    fields are all in the delivery counts; the `id` "body" means a digest of the body. `single_use`
    is the place of a value that is good for one delivery only. `unsigned_body` must be set if the
    signature does not cover the body. `handshake` names the sender's requests besides its
    deliveries; `acknowledge` is the status of the answer to an accepted delivery.
    """

    signature: str
    algorithm: Algorithm = "hmac-sha256"
    key: KeyForm = "text"
    key_prefix: str = ""
    encoding: Encoding = "hex"
    prefix: str = ""
    bare: bool = False
    split: str = ""
    pair: str = ""
    item: str = ""
    content: str = "{body}"
    timestamp: str = ""
    unit: Unit = "s"
    tolerance: float = 300.0
    id: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    single_use: str = ""
    unsigned_body: bool = False
    handshake: str = ""
    acknowledge: int = 200

    @property
    def covers_body(self) -> bool:
        """Whether the signature covers the body."""
        return any(field == "body" or field in OWN_RULES for _, field in parts(self.content))

    @property
    def needs_url(self) -> bool:
        """Whether the signature covers the URL that the sender was given."""
        return any(field in {"url", "twilio", "hubspot"} for _, field in parts(self.content))

    def is_signed(self, template: str) -> bool:
        """Return whether the signature covers every field of a template."""
        signed = {field for _, field in parts(self.content)}
        # Twilio signs the decoded fields of a form, and one field can be encoded in many ways.
        is_body_signed = self.covers_body and "twilio" not in signed
        if template == "body":
            return is_body_signed
        if "id" in signed and self.id:
            signed |= {field for _, field in parts(as_template(self.id[0]))}
        if signed & {"timestamp", *TIMED_RULES}:
            signed.add(self.timestamp)
        return all(
            not field
            or field in signed
            or (field.startswith(("json:", "form:")) and is_body_signed)
            for _, field in parts(as_template(template))
        )


def as_template(text: str) -> str:
    """Return a place as a template with that one field; a template stays as it is."""
    return text if "{" in text else "{" + text + "}"


def parts(template: str) -> Iterator[tuple[str, str]]:
    """Return each field of a template with the text before it. Text at the end has the field ""."""
    end = 0
    for match in _FIELD.finditer(template):
        yield template[end : match.start()], match[1]
        end = match.end()
    if end < len(template) or not template:
        yield template[end:], ""
