"""Judges the sources: what each accepts, and what is unsafe in it.

No I/O: the sources' tables and secrets go in as facts, findings come out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hookmill.admin import describe
from hookmill.admin.findings import Finding
from hookmill.admin.units import count, day, span
from hookmill.config.source_options import QSTASH
from hookmill.errors import see
from hookmill.signatures import Secret
from hookmill.signatures.marble import DEVELOPMENT_SECRET, PLAIN
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.qstash import PUBLIC_KEYS
from hookmill.signatures.spec import SignatureSpec

SHORT_SECRET = 16
"""A secret with fewer characters could be found by trying."""

CERTIFIED = {"sns": "MessageId (signed)", "paypal": "PAYPAL-TRANSMISSION-ID (signed)"}
"""Senders that sign with a certificate, and their message IDs. In place of secrets they have public
names (topics, webhook IDs).
"""

_QSTASH_TOKEN = (
    "a token (HS256) that holds the body's hash and the URL; in Upstash-Signature",
    "the token's, 5 min",
)

_CODED_SCHEMES = {
    "qstash": ("QStash", *_QSTASH_TOKEN),
    "qstash-callbacks": ("QStash's callbacks", *_QSTASH_TOKEN),
    "sns": (
        "Amazon SNS",
        "the body's own fields; RSA, with a certificate from SNS' host in the topic's region",
        "Timestamp, up to 65 min old",
    ),
    "paypal": (
        "PayPal",
        "the transmission's ID and time, the body's CRC32; RSA, with paypal.com's certificate",
        "PAYPAL-TRANSMISSION-TIME, up to 72 h old",
    ),
}
"""Senders whose scheme is code: their name, what they sign, and their signed time."""


_HOLDS_FOR = (
    "A copy is dropped for one to two times HOOKMILL_DEDUP_WINDOW, or dedup_window of the source; "
    "after that it runs"
)


class SourceFacts(NamedTuple):
    """A source as it is configured.

    `spec` is None if its scheme is code. `id` is what its table says of the message ID, None
    where it says nothing. `faults` are the reasons why a receiver would not start with it.
    `ordered_by` is the path of its ordering key, if it has one.
    """

    name: str
    preset: str
    path: str
    spec: SignatureSpec | None
    id: tuple[str, ...] | None
    secrets: tuple[Secret, ...]
    faults: tuple[str, ...]
    ordered_by: str | None = None

    @property
    def is_named_after_body(self) -> bool:
        """Whether a digest of the body is the message ID, unless the body has a signed ID."""
        return self.id == ("body",)


def judge_sources(
    sources: Iterable[SourceFacts], now: float, *, development: bool = False
) -> Iterator[Finding]:
    """Judge each source, and say what it accepts. `now` is in Unix seconds."""
    sources = list(sources)
    if not sources:
        yield Finding(
            level="note",
            what="no source is configured",
            why="a receiver would not start; a worker needs none",
            do="where a receiver runs, set QSTASH_CURRENT_SIGNING_KEY or MARBLE_WEBHOOK_SECRET, or "
            "add a [sources.NAME] table to hookmill.toml; " + see("reference/sources.md"),
        )
    yield from _judge_development(sources, is_set=development)
    for source in sources:
        for fault in source.faults:
            yield Finding(
                level="error",
                what=fault,
                why=f"a receiver does not start without what {source.name} needs, and one that "
                "runs answers 503 where no usable secret is left",
                do="fix it, or remove the source; a worker alone needs no secrets",
            )
        yield from _judge_secrets(source, now)
        yield from _judge_proof(source)
        yield from _judge_id(source)
        yield _described(source, now)


def _judge_development(sources: list[SourceFacts], *, is_set: bool) -> Iterator[Finding]:
    used = {secret.text for source in sources for secret in source.secrets}
    if used & {*PUBLIC_KEYS, DEVELOPMENT_SECRET}:
        yield Finding(
            level="error",
            what="the signing keys are public development keys",
            why="anyone can sign with them. A receiver starts with them only where "
            "HOOKMILL_DEVELOPMENT is set, and listens on loopback addresses only",
            do="set the keys of your own account, and unset HOOKMILL_DEVELOPMENT",
        )
    elif is_set:
        yield Finding(
            level="warning",
            what="HOOKMILL_DEVELOPMENT is set",
            why="a receiver that listens on a loopback address would start with public development "
            "keys: anyone can sign with them",
            do="unset it in production",
        )


def _judge_secrets(source: SourceFacts, now: float) -> Iterator[Finding]:
    secrets, name = source.secrets, source.name
    if source.preset in CERTIFIED:
        return
    has_public_key = source.spec is not None and source.spec.algorithm in {
        "ed25519",
        "ecdsa-p256",
    }
    short = sum(len(secret.text) < SHORT_SECRET for secret in secrets)
    if short and not has_public_key:
        yield Finding(
            level="warning",
            what=f"{count(short, 'secret', 'secrets')} of {name} "
            f"{'is' if short == 1 else 'are'} shorter than {SHORT_SECRET} characters",
            why="anyone who has seen one signed delivery could find it by trying",
            do="have the sender make a longer one",
        )
    if secrets and not any(secret.counts_at(now) for secret in secrets):
        yield Finding(
            level="error",
            what=f"no secret of {name} is valid now",
            why="every delivery gets 503: the time of each secret has ended, or has not begun",
            do=f"correct from and until in [sources.{name}]",
        )
    for secret in secrets:
        if secret.ends <= now:
            yield Finding(
                level="warning",
                what=f"a secret of {name} ({secret.label}) expired on {day(secret.ends)}",
                why="what it signs is refused, so that it is of no use any more",
                do=f"remove it from [sources.{name}], and from its variable or file",
            )
        elif secret.starts > now:
            yield Finding(
                level="note",
                what=f"a secret of {name} ({secret.label}) is valid from {day(secret.starts)}",
                why="until then, what it signs is refused",
                do="make sure that the sender does not sign with it earlier",
            )


def _judge_proof(source: SourceFacts) -> Iterator[Finding]:
    """Warn where the signature does not cover the body."""
    spec = source.spec
    if spec is None or spec.covers_body:
        return
    if spec.algorithm == "token":
        yield Finding(
            level="warning",
            what=f"deliveries of {source.name} are not signed: they hold the secret itself",
            why="nothing proves what the sender wrote, or when; anyone who sees one delivery can "
            "send any other",
            do="use a scheme that signs, if the sender has one (GitLab: a signing token); have it "
            "deliver over TLS only, and change the secret when somebody may have seen it",
        )
    else:
        single = " Each token is accepted once." if spec.single_use else ""
        yield Finding(
            level="warning",
            what=f"the body of {source.name} is not signed",
            why="anyone who captures a delivery before it is stored can exchange its body."
            f"{single}",
            do="have it deliver over TLS only, and fetch what matters from the sender's API",
        )


def _judge_id(source: SourceFacts) -> Iterator[Finding]:
    """Say what somebody who captures a delivery can do with an ID that is not signed."""
    if source.is_named_after_body:
        return
    body = (
        f'set id = "body" in [sources.{source.name}], if genuine deliveries never have identical '
        f"bytes: of identical ones only the first would run. {_HOLDS_FOR}"
    )
    if source.preset in QSTASH:
        if source.id is None:
            yield _unsigned_id_of_qstash(source, body)
        return
    if source.spec is None:
        return
    if source.preset == "marble" and source.id is None:
        yield _unsigned_id_of_marble(source.name, source.spec, body)
        return
    why = describe.replayed(source.spec)
    # Where the body is not signed, its digest would not help, and `_judge_proof` has warned.
    if not why or not source.spec.covers_body:
        return
    where = "deliveries of {} have no ID" if not source.spec.id else (
        "IDs of {} come from what is not signed"
    )  # fmt: skip
    is_partly = any(describe.ids_are_signed(source.spec))
    yield Finding(
        level="note",
        what=where.format(source.name) + (", if the body has no ID" if is_partly else ""),
        why=why,
        do=body,
    )


def _unsigned_id_of_qstash(source: SourceFacts, body: str) -> Finding:
    if source.preset == "qstash-callbacks":
        do = (
            f'set id = "body" in [sources.{source.name}]: a callback names its message and its '
            f"attempt, so that no two genuine ones have identical bytes. {_HOLDS_FOR}"
        )
    else:
        do = f"{body}. The deliveries of a QStash schedule have identical bytes"
    return Finding(
        level="note",
        what=f"IDs of {source.name} come from a header that is not signed",
        why="a delivery that was stored cannot be sent again under another ID, because its token "
        "is remembered until it expires. Anyone who captures one that was not stored (on its way, "
        "or after a 503) can send it under another ID once, until its token expires; QStash's own "
        "second try then runs as well",
        do=do,
    )


def _unsigned_id_of_marble(name: str, spec: SignatureSpec, body: str) -> Finding:
    if spec.timestamp:
        valid = f"until its signed time is {span(spec.tolerance)} old"
    else:
        valid = "for as long as the secret stays the same"
    return Finding(
        level="note",
        what=f"IDs of {name} come from a header that is not signed, if the body has no ID",
        why="bodies of Marble's older generation have no ID: anyone who captures such a delivery "
        f"can send it again under another ID, {valid}, and each runs",
        do=f"{body}. In that generation, two updates of one post may have identical bytes",
    )


def _described(source: SourceFacts, now: float) -> Finding:
    """Say what a source accepts."""
    spec = source.spec
    if spec is None:
        title, signed, time = _CODED_SCHEMES.get(source.preset, (source.preset, "", ""))
        ids: dict[tuple[str, ...] | None, str] = {
            None: "Upstash-Message-Id (not signed)",
            ("body",): "a digest of the body (signed)",
        }
        identified = CERTIFIED.get(source.preset) or ids.get(source.id, "as its table says")
        id_and_type = f"ID: {identified}."
    else:
        preset = PRESETS.get(source.preset)
        title = preset.title if preset else "a sender of your own"
        signed, time = describe.signed(spec), describe.timed(spec)
        identified = describe.identified(spec)
        if source.is_named_after_body and preset and source.preset == "marble":
            identified = f"{describe.identified(PLAIN).partition(',')[0]}, else {identified}"
        id_and_type = f"ID: {identified}. Type: {describe.typed(spec)}."
    return Finding(
        level="note",
        what=f"source {source.name} accepts {title} at {source.path}",
        why=f"signed: {signed}. Time: {time}. {id_and_type}",
        do=f"it accepts {_in_words(source, now)}",
    )


def _in_words(source: SourceFacts, now: float) -> str:
    secrets = source.secrets
    if source.preset in CERTIFIED:
        return f"what comes from {', '.join(secret.label for secret in secrets) or 'nobody'}"
    if not secrets:
        return "no secret"
    shown = [
        f"{secret.label or 'unnamed'}{'' if secret.counts_at(now) else ' (not valid now)'}"
        + (f" until {day(secret.ends)}" if now < secret.ends < float("inf") else "")
        for secret in secrets
    ]
    return (
        f"{count(len(secrets), 'secret', 'secrets')} ({', '.join(shown)}); try it with "
        f"`hookmill send --source {source.name}`"
    )
