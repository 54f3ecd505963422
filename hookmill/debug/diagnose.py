"""Judges a captured delivery and says why: the verdict, the steps to it and, if it is refused,
which of the usual mistakes would explain it.

No I/O: what was captured, the secrets and the time go in, a report comes out. The report shows no
secret, neither its text nor what the text decodes to.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Sequence
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from hookmill.config.identity import Identify, Identity
from hookmill.debug.hypotheses import Case, hypotheses_of, pairs_of
from hookmill.errors import HookmillError
from hookmill.printable import printable
from hookmill.signatures import Refused, Secret, Verdict, Verified
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.qstash import QStash
from hookmill.signatures.spec_verifier import SpecVerifier

ANY_TIME = 1e12
"""A tolerance (seconds) that no clock exceeds."""

MOST_HINTS = 6
"""How many explanations a report has at most."""

MOST_SENDERS = 3
"""How many other senders are named at most."""

MOST_FOR_PAIRS = 65_536
"""Two mistakes at once are tried for bodies of at most so many bytes; larger ones take too long."""

LEAST_HIDDEN = 6
"""Secrets of at least so many characters are hidden in a report. Shorter ones are not, because they
are part of other words by chance.
"""

_CODES_OF_TIME = {"timestamp_too_far", "expired", "not_yet_valid"}


_CAPTURED = (
    "apart from its time it matches: the delivery is genuine, but it was signed at another time. "
    "Give --now with the Unix time at which it was captured"
)
_LATE = (
    "apart from its time it matches: the delivery is genuine, but the clock of its sender or of "
    "this receiver is wrong, or it was under way for too long"
)
_UNEXPLAINED = (
    "none of the usual mistakes explains it: check that secret, body and headers belong to the "
    "same delivery, and that each byte is as it came"
)
_TOO_LARGE = f"no usual mistakes were looked for: the body has more than {MOST_FOR_PAIRS} bytes"
_GIVE_URL = "give the URL that the sender was given with --url"
_SET_URL = "set HOOKMILL_PUBLIC_URL, or url in the source's table, to what the sender was given"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a delivery, the steps to it, and what would have changed it.

    `code` and `detail` are those of the refusal. `it_would_match_if` has the usual mistakes that
    explain it.
    """

    source: str
    verdict: Literal["valid", "refused", "unusable"]
    code: str = ""
    detail: str = ""
    steps: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    it_would_match_if: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """Return 0 for a valid delivery, 1 for a refused one, 2 where nothing could be judged."""
        return ("valid", "refused", "unusable").index(self.verdict)

    @property
    def lines(self) -> list[str]:
        """The report as lines of text."""
        code = f" ({self.code})" if self.code else ""
        head = f"{self.source}: {self.verdict}{code}"
        return [
            f"{head}: {self.detail}" if self.detail else head,
            *(f"  {line}" for line in (*self.steps, *self.remarks)),
            *(f"  it would match if {hint}" for hint in self.it_would_match_if),
        ]


def verify(
    case: Case,
    now: float,
    identify: Identify | None = None,
    *,
    has_just_come: bool = False,
) -> Report:
    """Judge a delivery as the receiver would at the Unix time `now` (seconds), and explain it.

    `identify` finds the ID and type of a genuine one. `has_just_come`: a receiver explains it,
    nobody has captured it. Then no mistakes are looked for in a large body: strangers send them.
    """
    try:
        report = _judge(case, now, identify, has_just_come=has_just_come)
    except HookmillError as error:
        # The secret may be another spelling of the right one, and the hints can still say so.
        report = Report(
            source=case.source,
            verdict="unusable",
            code="secret_unusable",
            detail=str(error),
            it_would_match_if=() if has_just_come else _hints(case),
        )
    return _without_secrets(report, case)


def _judge(case: Case, now: float, identify: Identify | None, *, has_just_come: bool) -> Report:
    steps: list[str] = []
    verdict = _scheme(case, case.secrets, relaxed=False).explain(case.delivery, now, steps.append)
    if isinstance(verdict, Verified):
        return Report(
            source=case.source,
            verdict="valid",
            steps=tuple(steps),
            remarks=_identity(case, identify),
        )
    relaxed = _relaxed(case, now, steps) if verdict.code in _CODES_OF_TIME else verdict
    remarks: list[str] = []
    if isinstance(relaxed, Verified):
        remarks.append(_LATE if has_just_come else _CAPTURED)
    elif relaxed is not verdict:
        remarks.append(f"apart from its time it does not match either: {relaxed.detail}")
    if isinstance(relaxed, Refused) and relaxed.code == "url_unknown":
        remarks.append(_SET_URL if has_just_come else _GIVE_URL)
    is_too_large = has_just_come and len(case.delivery.body) > MOST_FOR_PAIRS
    hints = _hints(case) if isinstance(relaxed, Refused) and not is_too_large else ()
    if isinstance(relaxed, Refused) and not hints:
        remarks.append(_TOO_LARGE if is_too_large else _UNEXPLAINED)
    return Report(
        source=case.source,
        verdict="refused",
        code=verdict.code,
        detail=": ".join(filter(None, [verdict.detail, verdict.cause])),
        steps=tuple(steps),
        remarks=tuple(remarks),
        it_would_match_if=hints,
    )


def _relaxed(case: Case, now: float, steps: list[str]) -> Verdict:
    """Judge it as if it was in time, and add the steps that were not reached before."""
    more: list[str] = []
    scheme = _scheme(case, case.secrets, relaxed=True)
    verdict = scheme.explain(case.delivery, now, more.append)
    if case.spec is not None:
        steps += [step for step in more if step not in steps and "signed time" not in step]
    return verdict


def _identity(case: Case, identify: Identify | None) -> tuple[str, ...]:
    """Say which ID and type a genuine delivery has, and whether its ID is signed."""
    identity = identify(case.delivery.headers, case.delivery.body) if identify else None
    if isinstance(identity, Refused):
        return (f"but its ID or type is refused ({identity.code}): {identity.detail}",)
    if not isinstance(identity, Identity):
        return ()
    signed = "signed" if identity.id_is_signed else "not signed"
    shown = f"message ID {identity.id!r}, {signed}" if identity.id else "no message ID"
    return (f"{shown}; event type {identity.type!r}" if identity.type else f"{shown}; no type",)


# --- the usual mistakes ---


def _hints(case: Case) -> tuple[str, ...]:
    """Return which of the usual mistakes explain that it does not match."""
    found = [one.says for one in hypotheses_of(case) if _matches(one.case)]
    if not found:
        found = list(_other_senders(case))
    if not found and len(case.delivery.body) <= MOST_FOR_PAIRS:
        pairs = (one.says for one in pairs_of(case) if _matches(one.case))
        found = list(itertools.islice(pairs, 1))
    return tuple(dict.fromkeys(found[:MOST_HINTS]))


def _other_senders(case: Case) -> tuple[str, ...]:
    """Return the senders of the table of which it would be a genuine delivery."""
    found = [
        name
        for name, preset in PRESETS.items()
        if preset.spec.algorithm != "token"
        and preset.spec != case.spec
        and _matches(case._replace(preset=name, spec=preset.spec))
    ]
    if case.spec is not None and _matches(case._replace(preset="qstash", spec=None)):
        found.append("qstash")
    if not found:
        return ()
    return (f"the sender was {' or '.join(found[:MOST_SENDERS])}",)


def _matches(case: Case) -> bool:
    """Return whether one of the secrets made it, at any time."""
    for secret in case.secrets:
        try:
            scheme = _scheme(case, [Secret(secret.text)], relaxed=True)
        except HookmillError:  # a spec or secret that is not possible explains nothing
            continue
        if isinstance(scheme.verify(case.delivery, 0.0), Verified):
            return True
    return False


def _scheme(case: Case, secrets: Sequence[Secret], *, relaxed: bool) -> SpecVerifier | QStash:
    if case.spec is None:
        tolerance = ANY_TIME if relaxed else case.tolerance
        return QStash(secrets, public_url=_base(case.delivery.url), tolerance=tolerance)
    return SpecVerifier(case.spec, secrets, at_any_time=relaxed)


def _base(url: str) -> str | None:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if url else None


# --- what must not be shown ---


def _without_secrets(report: Report, case: Case) -> Report:
    """Return it without any secret, because the delivery itself may hold one."""
    longest_first = texts_to_hide(case.secrets)
    delivery = case.delivery
    known = [delivery.body.decode("utf-8", "replace"), delivery.url, delivery.target]
    known += [repr(delivery.body), *delivery.headers.values()]
    # An excerpt may show a part of a secret, or an escaped one, which would not be recognised.
    holds_one = any(text in each for text in longest_first for each in known)

    def clean(line: str) -> str:
        if holds_one and line.startswith("signed content"):
            line = line.partition(" bytes, ")[0] + " bytes, not shown: it holds a secret"
        for text in longest_first:
            line = line.replace(text, "[secret]")
        return printable(line)

    return msgspec.structs.replace(
        report,
        source=clean(report.source),
        detail=clean(report.detail),
        steps=tuple(map(clean, report.steps)),
        remarks=tuple(map(clean, report.remarks)),
        it_would_match_if=tuple(map(clean, report.it_would_match_if)),
    )


def texts_to_hide(secrets: Sequence[Secret]) -> list[str]:
    """Return the ways in which these secrets may be written, the longest first."""
    hidden = {text for secret in secrets for text in _spellings(secret.text)}
    return sorted((text for text in hidden if len(text) >= LEAST_HIDDEN), key=len, reverse=True)


def _spellings(text: str) -> set[str]:
    """Return the ways in which a secret, or the key that it decodes to, may be written."""
    bare = text.strip().strip("\"'")
    texts = {text, bare, bare.partition("_")[2]}
    raws = {each.encode("utf-8", "surrogateescape") for each in texts if _is_writable(each)}
    for each in list(raws):
        for decode in (bytes.fromhex, _from_base64):
            try:
                raws.add(decode(each.decode()))
            except (ValueError, binascii.Error):
                continue
    spelt = {text}
    for raw in raws:
        spelt |= {raw.decode("utf-8", "replace"), repr(raw)[2:-1], raw.hex(), raw.hex().upper()}
        spelt |= {base64.b64encode(raw).decode().rstrip("=")}
        spelt |= {base64.urlsafe_b64encode(raw).decode().rstrip("=")}
    return spelt | {repr(each)[1:-1] for each in spelt}


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _is_writable(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
