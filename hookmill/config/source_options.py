"""The words of a `[sources.NAME]` table, and the signature spec that follows from them. No I/O."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from hookmill.config.secrets import SecretRef
from hookmill.errors import see
from hookmill.redaction import fault_of_path, is_redacted
from hookmill.signatures.marble import timestamped
from hookmill.signatures.presets import ALIASES, PRESETS
from hookmill.signatures.spec import (
    Algorithm,
    Encoding,
    KeyForm,
    SignatureSpec,
    Unit,
    as_template,
    parts,
)
from hookmill.signatures.spec_rules import faults_of

OWN_PATHS = {"/healthz", "/readyz", "/metrics"}
"""Paths where the receiver itself answers."""

QSTASH = ("qstash", "qstash-callbacks")
"""The presets of QStash: its messages, and its callbacks. One pair of keys signs both."""

CODE = (*QSTASH, "sns", "paypal")
"""Presets whose scheme is code, because a `SignatureSpec` cannot describe it."""

HANDSHAKES = (
    "discord", "dropbox", "head", "meta", "slack", "sns", "twitch", "woocommerce", "zoom"
)  # fmt: skip
"""The requests that a sender may make before its deliveries or between them."""


_SENDERS = see("reference/sources.md")

_UNSIGNED_ORDER = (
    "ordered_by: the signature does not cover the body, so anybody could send a copy with another "
    "key to another partition, where its ID is not known"
)


_SIGNED_BY_SNS = {"Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"}
"""The signed fields of an SNS message: these can be its ordering key."""


def _check_path(path: str) -> str:
    if not path.startswith("/") or not path.isascii() or any(c in path for c in "?# \t\r\n\0"):
        raise ValueError("begin the path with / and write it as it is requested, without ? and #")
    if path in OWN_PATHS:
        raise ValueError("the receiver itself answers on this path: choose another")
    return path


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.fragment:
        raise ValueError("give the URL that the sender was given, such as https://app.example/hook")
    return url


def _check_ordered_by(path: str) -> str:
    names = path.split(".")
    if not all(names):
        raise ValueError(
            "a name in it is empty: write the names that lead to the value in the JSON body with "
            "one dot between them, such as data.id"
        )
    if any(
        name != name.strip() or not name.isprintable() or set(name) & {'"', "\\"} for name in names
    ):
        raise ValueError(
            "a name in it begins or ends with a space, or has a quotation mark, a backslash or a "
            "character that cannot be printed"
        )
    return path


def _check_handshake(name: str) -> str:
    if name and name not in HANDSHAKES:
        raise ValueError(f"there is no such handshake: use one of {', '.join(HANDSHAKES)}")
    return name


def _check_acknowledge(status: int) -> int:
    # For any other status the sender would send again, or even give up: Ghost deletes a webhook
    # that is answered with 410.
    if not 200 <= status <= 299:
        raise ValueError(
            "give a status from 200 to 299: any other tells the sender that the delivery failed"
        )
    return status


def _check_redact(paths: tuple[str, ...]) -> tuple[str, ...]:
    if faults := list(filter(None, map(fault_of_path, paths))):
        raise ValueError("; ".join(faults))
    return paths


def _as_tuple(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


_Templates = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


class SourceOptions(BaseModel):
    """The words of a `[sources.NAME]` table.

    `preset` names the sender; it may be left out if NAME is the sender. `url` is the URL that the
    sender was given, if that is not the public URL with the path. `ordered_by` is the path of the
    ordering key in the JSON body. `secrets` says where the secrets stand. `topics` (SNS) and
    `webhook_ids` (PayPal) name what may send. `verify_token` says where the token stands that Meta
    repeats in its handshake. `redact` names what is never shown. `trusted_trace` says whether the
    sender's trace goes on in ours: by default only that of QStash does. `dedup_window` is for how
    many seconds at least its message IDs are remembered, where that is shorter than for all. The
    other words are the fields of `SignatureSpec`: they describe a sender, or change a preset. With
    `id = "body"` a digest of the body is the message ID.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str | None = None
    path: Annotated[str, AfterValidator(_check_path)] | None = None
    url: Annotated[str, AfterValidator(_check_url)] | None = None
    ordered_by: Annotated[str, AfterValidator(_check_ordered_by)] | None = None
    secrets: Annotated[tuple[SecretRef, ...], BeforeValidator(_as_tuple)] = ()
    topics: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = ()
    webhook_ids: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = ()
    verify_token: SecretRef | None = None
    timestamped: bool = False
    redact: Annotated[
        tuple[str, ...], BeforeValidator(_as_tuple), AfterValidator(_check_redact)
    ] = ()
    trusted_trace: bool | None = None
    dedup_window: int | None = Field(default=None, ge=1, le=366 * 86_400)

    signature: str | None = None
    algorithm: Algorithm | None = None
    key: KeyForm | None = None
    key_prefix: str | None = None
    encoding: Encoding | None = None
    prefix: str | None = None
    bare: bool | None = None
    split: str | None = None
    pair: str | None = None
    item: str | None = None
    content: str | None = None
    timestamp: str | None = None
    unit: Unit | None = None
    tolerance: float | None = None
    id: _Templates | None = None
    type: _Templates | None = None
    single_use: str | None = None
    unsigned_body: bool | None = None
    handshake: Annotated[str, AfterValidator(_check_handshake)] | None = None
    acknowledge: Annotated[int, AfterValidator(_check_acknowledge)] | None = None

    @property
    def words(self) -> dict[str, Any]:
        """The fields of a `SignatureSpec` that are given."""
        given = {name: getattr(self, name) for name in SignatureSpec.__struct_fields__}
        return {name: value for name, value in given.items() if value is not None}

    def trusts_trace(self, preset: str) -> bool:
        """Whether the sender's trace goes on in ours, with its baggage. Only whoever has a token of
        the owner's account can publish through QStash.
        """
        return preset in QSTASH if self.trusted_trace is None else self.trusted_trace

    @property
    def files(self) -> set[Path]:
        """The files that hold its secrets."""
        refs = [*self.secrets, *([self.verify_token] if self.verify_token else [])]
        return {ref.file for ref in refs if ref.file is not None}


def preset_of(name: str, options: SourceOptions) -> str:
    """Return the name of a source's preset. There may be no preset of this name."""
    given = options.preset or name
    return ALIASES.get(given, given)


def spec_of(name: str, options: SourceOptions) -> SignatureSpec | None:
    """Return a source's signature spec; None if its scheme is code.

    Raises `ValueError`, with one fault a line, if there is no spec or if it is not safe.
    """
    spec = _spec_of(name, options)
    named = (*spec.id, *spec.type) if spec else (*(options.id or ()), *(options.type or ()))
    if faults := _shown_all_the_same(named, options):
        raise ValueError("\n".join(f"sources.{name}.redact: {fault}" for fault in faults))
    return spec


def _shown_all_the_same(templates: tuple[str, ...], options: SourceOptions) -> list[str]:
    """Return which redacted fields would be shown, because IDs, types and ordering keys are."""
    places = [place for one in templates if one != "body" for _, place in parts(as_template(one))]
    if options.ordered_by:
        places.append(f"json:{options.ordered_by}")
    headers = {path.lower() for path in options.redact}
    hidden = [
        place
        for place in places
        if place.lower() in headers
        or (place[:5] in {"json:", "form:"} and is_redacted(place[5:].split("."), options.redact))
    ]
    return [
        f"{place} is or has the ID, the type or the ordering key of a message, and these are "
        "shown everywhere: redact another field, or take that from another place"
        for place in hidden
    ]


def _spec_of(name: str, options: SourceOptions) -> SignatureSpec | None:
    preset, words = preset_of(name, options), options.words
    if options.timestamped and preset != "marble":
        raise ValueError(f"sources.{name}.timestamped: only marble has a timestamped form")
    if preset in CODE:
        _check_coded(name, preset, options)
        return None
    if preset in PRESETS:
        spec = PRESETS[preset].spec
        spec = timestamped(spec) if options.timestamped else spec
        spec = msgspec.structs.replace(spec, **words)
    elif options.preset is not None:
        raise ValueError(f"sources.{name}.preset: there is no sender {preset}; {_SENDERS}")
    elif "signature" in words:
        spec = SignatureSpec(**words)
    else:
        raise ValueError(
            f"sources.{name}: there is no such sender: name one with preset, or describe how it "
            f"signs (signature, content ...); {_SENDERS}"
        )
    faults = faults_of(spec)
    if spec.unsigned_body and options.ordered_by:
        faults.append(_UNSIGNED_ORDER)
    if spec.unsigned_body and not all(map(spec.is_signed, spec.id)):
        faults.append(
            "id: the signature covers neither it nor the body: name a place that is signed"
        )
    if faults:
        raise ValueError("\n".join(f"sources.{name}.{fault}" for fault in faults))
    return spec


def _check_coded(name: str, preset: str, options: SourceOptions) -> None:
    """Raise `ValueError` for a word that does not apply to a sender whose scheme is code."""
    if preset == "qstash-callbacks" and options.type is not None:
        raise ValueError(f"sources.{name}.type: remove it, a callback's type follows from its body")
    if wrong := sorted(options.words.keys() - ({"id", "type"} if preset in QSTASH else set())):
        raise ValueError(f"sources.{name}.{wrong[0]}: remove it, the scheme of {preset} is fixed")
    if preset in QSTASH and options.url:
        raise ValueError(
            f"sources.{name}.url: remove it, QStash's URL follows from HOOKMILL_PUBLIC_URL"
        )
    is_signed = preset in QSTASH or (preset == "sns" and options.ordered_by in _SIGNED_BY_SNS)
    if options.ordered_by and not is_signed:
        raise ValueError(f"sources.{name}.{_UNSIGNED_ORDER}")
