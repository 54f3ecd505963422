"""What a `[sources.NAME]` table may say, and the scheme that follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from hookmill.config.secrets import SecretRef
from hookmill.signatures.marble import timestamped
from hookmill.signatures.presets import ALIASES, PRESETS
from hookmill.signatures.spec import Algorithm, Encoding, KeyForm, SignatureSpec, Unit, faults_of

OWN_PATHS = {"/healthz", "/readyz", "/metrics"}
"""Where the receiver itself answers."""

QSTASH = ("qstash", "qstash-callbacks")
"""What QStash signs, with one pair of keys: the messages it delivers, and what it says of them."""

CODE = (*QSTASH, "sns", "paypal")
"""Senders whose scheme cannot be data."""

HANDSHAKES = (
    "discord", "dropbox", "head", "meta", "slack", "sns", "twitch", "woocommerce", "zoom"
)  # fmt: skip
"""What a sender may ask before, or between, its deliveries."""


_UNSIGNED_ORDER = (
    "ordered_by: the signature does not cover the body, so that anybody could move a copy to where "
    "its ID is not known"
)


_SIGNED_BY_SNS = {"Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"}
"""What of an SNS message is signed, and could be its ordering key."""


def _check_path(path: str) -> str:
    if not path.startswith("/") or not path.isascii() or any(c in path for c in "?# \t\r\n\0"):
        raise ValueError("a path begins with / and is written as it is requested, without ? and #")
    if path in OWN_PATHS:
        raise ValueError("the receiver itself answers there")
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
        raise ValueError(f"there is no such handshake; there are {', '.join(HANDSHAKES)}")
    return name


def _check_acknowledge(status: int) -> int:
    # Whatever else it said, the sender would take it for a failure and send again, or for the end:
    # a 410 has Ghost delete the webhook.
    if not 200 <= status <= 299:
        raise ValueError("what is accepted is acknowledged with a status from 200 to 299")
    return status


def _as_several(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


_Templates = Annotated[tuple[str, ...], BeforeValidator(_as_several)]


class SourceOptions(BaseModel):
    """What a `[sources.NAME]` table may say.

    `preset` names the sender, unless NAME already does. `url` is the one the sender was given,
    where that is not the public URL with the path. `ordered_by` leads to the value in the JSON body
    that messages have in common which must run one after another. `secrets` says where the secrets
    stand, `topics` and `webhook_ids` which of SNS's and PayPal's are ours, `verify_token` what Meta
    repeats when it asks. The other words are those of a `Shape`; they describe a sender, or change
    a preset. The `id` "body" names messages after their bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str | None = None
    path: Annotated[str, AfterValidator(_check_path)] | None = None
    url: Annotated[str, AfterValidator(_check_url)] | None = None
    ordered_by: Annotated[str, AfterValidator(_check_ordered_by)] | None = None
    secrets: Annotated[tuple[SecretRef, ...], BeforeValidator(_as_several)] = ()
    topics: Annotated[tuple[str, ...], BeforeValidator(_as_several)] = ()
    webhook_ids: Annotated[tuple[str, ...], BeforeValidator(_as_several)] = ()
    verify_token: SecretRef | None = None
    timestamped: bool = False

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
        """The words of a shape that are given."""
        given = {name: getattr(self, name) for name in SignatureSpec.__struct_fields__}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def files(self) -> set[Path]:
        """The files that its secrets stand in."""
        refs = [*self.secrets, *([self.verify_token] if self.verify_token else [])]
        return {ref.file for ref in refs if ref.file is not None}


def preset_of(name: str, options: SourceOptions) -> str:
    """Return the sender's name in the table, whether it is there or not."""
    given = options.preset or name
    return ALIASES.get(given, given)


def spec_of(name: str, options: SourceOptions) -> SignatureSpec | None:
    """Return a source's shape; None where its scheme is code. Raises `ValueError`, with a fault a
    line, where it cannot be had or is not safe.
    """
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
        raise ValueError(f"sources.{name}.preset: there is no sender {preset}; see docs/sources.md")
    elif "signature" in words:
        spec = SignatureSpec(**words)
    else:
        raise ValueError(
            f"sources.{name}: no such sender: name one with preset, or say how it signs "
            "(signature, content ...); see docs/sources.md"
        )
    faults = faults_of(spec)
    if spec.unsigned_body and options.ordered_by:
        faults.append(_UNSIGNED_ORDER)
    if spec.unsigned_body and not all(map(spec.is_signed, spec.id)):
        faults.append("id: the signature covers neither it nor the body: name one that is signed")
    if faults:
        raise ValueError("\n".join(f"sources.{name}.{fault}" for fault in faults))
    return spec


def _check_coded(name: str, preset: str, options: SourceOptions) -> None:
    """Refuse what cannot be said of a sender whose scheme is code."""
    if preset == "qstash-callbacks" and options.type is not None:
        raise ValueError(f"sources.{name}.type: a callback's follows from what it says")
    if wrong := sorted(options.words.keys() - ({"id", "type"} if preset in QSTASH else set())):
        raise ValueError(f"sources.{name}.{wrong[0]}: the scheme of {preset} is code")
    if preset in QSTASH and options.url:
        raise ValueError(f"sources.{name}.url: QStash's follows from HOOKMILL_PUBLIC_URL")
    is_signed = preset in QSTASH or (preset == "sns" and options.ordered_by in _SIGNED_BY_SNS)
    if options.ordered_by and not is_signed:
        raise ValueError(f"sources.{name}.{_UNSIGNED_ORDER}")
