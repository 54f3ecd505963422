"""Makes of a refused delivery what may be kept for a look: the explanation of `hookmill verify`,
and as much of the delivery as is safe to show. No I/O.

What is kept shows no secret, no credential, no redacted field and no whole signature: nobody can
send it again, and whoever looks at it needs no secrets to learn why it was refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hookmill.config.source_options import SourceOptions, preset_of
from hookmill.config.sources import Source
from hookmill.debug import diagnose
from hookmill.debug.hypotheses import Case
from hookmill.message import pack_headers
from hookmill.printable import printable
from hookmill.redaction import redacted, redacted_headers
from hookmill.signatures import Signed
from hookmill.signatures.qstash import QStash
from hookmill.signatures.spec_verifier import SpecVerifier
from hookmill.stream.refused import RefusedDelivery

MOST_BODY = 64 * 1024
"""Bytes of a body that are kept."""

MOST_HEADERS = 16 * 1024
"""Bytes of the headers that are kept."""

MOST_LINE = 1000
"""Characters of a line of the explanation that are kept."""

_SIGNATURE = re.compile(rb"signature|-sig\b|hmac|digest|jwt", re.IGNORECASE)
"""The name of a header that holds a signature, also that of another sender."""

_LONG = re.compile(rb"[A-Za-z0-9+/_-]{12,}={0,2}")
"""What in such a header could be a signature. Its length and its beginning are kept."""

_VALUES = re.compile(r"=[^&]*")

_NOT_EXPLAINED = "signed with a certificate: only a receiver can judge it, and it tries no mistakes"


class Verdict(NamedTuple):
    """Why a receiver refused a delivery: its answer's status and code, a sentence, and a cause that
    is for our own eyes.
    """

    status: int
    code: str
    detail: str
    cause: str = ""


def kept_of(
    source: Source,
    delivery: Signed,
    raw_headers: tuple[tuple[bytes, bytes], ...],
    verdict: Verdict,
    now: float,
    tolerance: float,
) -> RefusedDelivery:
    """Return what is kept of a delivery that was refused at the Unix time `now` (seconds). The
    clock of QStash may differ by `tolerance` seconds.
    """
    options = source.basis[0] if source.basis else None
    options = options if isinstance(options, SourceOptions) else SourceOptions()
    lines, hints = _explained(source, delivery, options, now, tolerance)
    if options.redact:
        lines = tuple(map(_without_excerpt, lines))
    hide = [
        text.encode("utf-8", "surrogateescape") for text in diagnose.texts_to_hide(source.secrets)
    ]
    body = _body(source, delivery, options)
    block = _headers(source, raw_headers, options)
    for text in hide:
        body, block = body.replace(text, b"[secret]"), block.replace(text, b"[secret]")
    return RefusedDelivery(
        source=source.name,
        status=verdict.status,
        code=verdict.code,
        detail=printable(verdict.detail)[:MOST_LINE],
        cause=printable(verdict.cause)[:MOST_LINE],
        target=_target(delivery.target),
        header_block=block[:MOST_HEADERS],
        body=body[:MOST_BODY],
        size=len(delivery.body),
        explanation=lines,
        hints=hints,
    )


def _explained(
    source: Source, delivery: Signed, options: SourceOptions, now: float, tolerance: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the steps to the verdict with remarks on it, and what would have changed it."""
    scheme = source.scheme
    if not isinstance(scheme, SpecVerifier | QStash):
        return (_NOT_EXPLAINED,), ()
    case = Case(
        source=source.name,
        preset=preset_of(source.name, options),
        spec=scheme.spec if isinstance(scheme, SpecVerifier) else None,
        secrets=source.secrets,
        delivery=delivery,
        tolerance=tolerance,
    )
    report = diagnose.verify(case, now, source.identify, has_just_come=True)
    lines = tuple(line[:MOST_LINE] for line in (*report.steps, *report.remarks))
    return lines, tuple(hint[:MOST_LINE] for hint in report.it_would_match_if)


def _without_excerpt(line: str) -> str:
    """Leave out the beginning and the end of what was signed, because they may hold what is not
    shown.
    """
    if not line.startswith("signed content"):
        return line
    return line.partition(" bytes, ")[0] + " bytes, not shown: the source redacts fields"


def _body(source: Source, delivery: Signed, options: SourceOptions) -> bytes:
    """Return the body without redacted fields, and without a signature that stands in it."""
    paths = list(options.redact)
    if isinstance(source.scheme, SpecVerifier):
        kind, _, name = source.scheme.spec.signature.partition(":")
        paths += [name] if kind in {"json", "form"} else []
    elif not isinstance(source.scheme, QStash):
        paths.append("Signature")
    return redacted(delivery.body, delivery.headers.get("Content-Type", ""), paths)


def _headers(
    source: Source, pairs: tuple[tuple[bytes, bytes], ...], options: SourceOptions
) -> bytes:
    """Return the headers that would be stored with a message, with their signatures shortened."""
    own = b""
    if isinstance(source.scheme, SpecVerifier):
        kind, _, name = source.scheme.spec.signature.partition(":")
        own = name.lower().encode() if kind == "header" else b""
    shortened = tuple(
        (name, _LONG.sub(_shortened, value))
        if name.lower() == own or _SIGNATURE.search(name)
        else (name, value)
        for name, value in pairs
    )
    return redacted_headers(pack_headers(shortened, source.secret_header), options.redact)


def _shortened(found: re.Match[bytes]) -> bytes:
    return found[0][:4] + b"...(%d characters)" % len(found[0])


def _target(target: str) -> str:
    """Return path and query without the query's values: some hold a secret there."""
    path, mark, query = target.partition("?")
    return printable(path + mark + _VALUES.sub("=...", query))[:MOST_LINE]
