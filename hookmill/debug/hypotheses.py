"""The usual mistakes in verifying a delivery: in its body, the secret, the headers, the URL, or in
the description of the sender.

No I/O. Each hypothesis is the case without one such mistake. `diagnose.py` tries whether the
signature then matches.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import NamedTuple, get_args
from urllib.parse import urlsplit, urlunsplit

import msgspec
from multidict import CIMultiDict

from hookmill.signatures import Secret, Signed
from hookmill.signatures.marble import PLAIN, timestamped
from hookmill.signatures.spec import Encoding, SignatureSpec, as_template, parts

_HMACS = ("hmac-sha256", "hmac-sha1", "hmac-sha512")
_PREFIXES = ("sha256=", "sha1=", "sha512=", "v0=", "v1=", "v1,", "h1=", "Bearer ")
_KEY_PREFIXES = ("whsec_", "whpk_")
_PORTS = {"http": "80", "https": "443"}


class Case(NamedTuple):
    """A captured delivery, and what it is judged by.

    Where `spec` is None, it is judged by QStash's tokens, whose clock may differ by `tolerance`
    seconds.
    """

    source: str
    preset: str
    spec: SignatureSpec | None
    secrets: tuple[Secret, ...]
    delivery: Signed
    tolerance: float = 0.0


class Hypothesis(NamedTuple):
    """A mistake that may have been made, and the case without it.

    `says` completes the sentence "it would match if ...".
    """

    says: str
    case: Case


def hypotheses_of(case: Case) -> Iterator[Hypothesis]:
    """Yield one hypothesis for each usual mistake, the likeliest first."""
    is_token = case.spec is not None and case.spec.algorithm == "token"
    if not is_token:
        yield from _of_body(case)
    yield from _of_window(case)
    yield from _of_secret(case)
    if case.spec is not None:
        yield from _of_headers(case, case.spec)
        if not is_token:
            yield from _of_spec(case, case.spec)
    yield from _of_url(case)


def pairs_of(case: Case) -> Iterator[Hypothesis]:
    """Yield the hypotheses of two mistakes, of which one is in the secret or the headers."""
    for first in hypotheses_of(case):
        second = [*_of_secret(first.case)]
        if first.case.spec is not None:
            second += _of_headers(first.case, first.case.spec)
        for other in second:
            yield Hypothesis(f"{first.says}; and {other.says}", other.case)


# --- the body ---


def _of_body(case: Case) -> Iterator[Hypothesis]:
    body = case.delivery.body
    seen = {body}
    for says, changed in _bodies(body):
        if changed not in seen:
            seen.add(changed)
            yield Hypothesis(says, case._replace(delivery=case.delivery._replace(body=changed)))


def _bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    lines = body.replace(b"\r\n", b"\n")
    yield "the body had no newline at its end: an editor or `echo` adds one", body.rstrip(b"\r\n")
    yield "the body had a newline at its end: an editor or a shell removed it", body + b"\n"
    yield "the body had CR and LF at its end: an editor or a shell removed them", body + b"\r\n"
    yield "the body's lines ended with LF, not with CR and LF", lines
    yield "the body's lines ended with CR and LF, not with LF", lines.replace(b"\n", b"\r\n")
    yield "the body had no byte order mark before it", body.removeprefix(b"\xef\xbb\xbf")
    yield "the body had no white space around it", body.strip()
    yield "the body was empty", b""
    rewritten = "it was parsed and written again; verify the bytes as they came"
    for indent, name in ((-1, "compact"), (0, "spaced"), (2, "indented"), (4, "widely indented")):
        try:
            yield f"the body was {name} JSON: {rewritten}", msgspec.json.format(body, indent=indent)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
    yield from _escaped(body, rewritten)


def _escaped(body: bytes, rewritten: str) -> Iterator[tuple[str, bytes]]:
    """Yield the body as JSON with and without escapes, compact and spaced."""
    try:
        whole = json.loads(body)
    except (ValueError, RecursionError):
        return
    for (ascii_only, how), (separators, name) in itertools.product(
        ((True, "with \\u escapes"), (False, "without \\u escapes")),
        (((",", ":"), "compact"), ((", ", ": "), "spaced")),
    ):
        try:
            text = json.dumps(whole, ensure_ascii=ascii_only, separators=separators)
            yield (
                f"the body was {name} JSON {how}: {rewritten}",
                text.encode("utf-8", "surrogatepass"),
            )
            yield (
                f"the body was {name} JSON {how}, with slashes as \\/: {rewritten}",
                text.replace("/", "\\/").encode("utf-8", "surrogatepass"),
            )
        except (ValueError, RecursionError):
            return


# --- the secret ---


def _of_window(case: Case) -> Iterator[Hypothesis]:
    """Yield the case with each secret that is valid only for a time, as if it was valid now."""
    for position, secret in enumerate(case.secrets, 1):
        if secret != Secret(secret.text, secret.label):
            says = f"secret {position} was valid at that time: its time has ended or not begun"
            yield Hypothesis(says, case._replace(secrets=(Secret(secret.text),)))


def _of_secret(case: Case) -> Iterator[Hypothesis]:
    for says, change in (
        ("the secret had no white space around it", str.strip),
        ("the secret had no quotation marks around it", _unquoted),
        ("the secret had a newline at its end, as the sender's has", lambda text: f"{text}\n"),
        ("the secret had no sha256= or similar before it", _without_prefix),
        ("the secret had the = at its end that base64 needs", _padded),
    ):
        yield from _with_text(case, says, change)
    if case.spec is None or case.spec.algorithm == "token":
        return
    for prefix in _KEY_PREFIXES:
        as_text = msgspec.structs.replace(case.spec, key="text", key_prefix="")
        whole = case._replace(spec=as_text)
        says = f"the key was the secret's text without {prefix}"
        yield from _with_text(whole, says, lambda text, p=prefix: text.removeprefix(p))  # type: ignore[misc] # the lambda binds its prefix
        says = f"the key was the secret's text with {prefix} before it"
        yield from _with_text(whole, says, lambda text, p=prefix: p + text)  # type: ignore[misc] # the same
    for form, says in (
        ("text", "the key was the secret's text as it stands, not what it decodes to"),
        ("base64", "the key was what the secret's base64 decodes to"),
        ("hex", "the key was what the secret's hex digits decode to"),
    ):
        for prefix in ("", *_KEY_PREFIXES):
            if (form, prefix) == (case.spec.key, case.spec.key_prefix):
                continue
            if prefix and not any(one.text.startswith(prefix) for one in case.secrets):
                continue
            behind = f" (after {prefix})" if prefix and form != "text" else ""
            spec = msgspec.structs.replace(case.spec, key=form, key_prefix=prefix)
            yield Hypothesis(says + behind, case._replace(spec=spec))


def _with_text(case: Case, says: str, change: Callable[[str], str]) -> Iterator[Hypothesis]:
    changed = tuple(one._replace(text=change(one.text)) for one in case.secrets)
    if changed != case.secrets:
        yield Hypothesis(says, case._replace(secrets=changed))


def _unquoted(text: str) -> str:
    bare = text.strip().strip("\"'`").strip()
    return text if bare == text.strip() else bare  # white space alone is another hypothesis


def _without_prefix(text: str) -> str:
    return next((text.removeprefix(one) for one in _PREFIXES if text.startswith(one)), text)


def _padded(text: str) -> str:
    bare = text.rstrip("=")
    return bare + "=" * (-len(bare.rpartition("_")[2]) % 4)


# --- the headers ---


def _of_headers(case: Case, spec: SignatureSpec) -> Iterator[Hypothesis]:
    yield from _renamed(case, spec)
    kind, _, name = spec.signature.partition(":")
    value = case.delivery.headers.get(name)
    if kind != "header" or value is None:
        return
    for says, changed in _signatures(value, spec):
        if changed != value:
            yield Hypothesis(says, _with_header(case, name, changed))
    if spec.pair and not spec.bare:
        says = f"{name} had {spec.item}{spec.pair} before the signature"
        yield Hypothesis(says, case._replace(spec=msgspec.structs.replace(spec, bare=True)))
    for prefix in _PREFIXES:
        if value.startswith(prefix) and prefix != spec.prefix and not spec.pair:
            says = f"{name} had {spec.prefix or 'nothing'} before the signature, not {prefix}"
            yield Hypothesis(says, case._replace(spec=msgspec.structs.replace(spec, prefix=prefix)))


def _signatures(value: str, spec: SignatureSpec) -> Iterator[tuple[str, str]]:
    """Yield other spellings of the signature's header, and what to say of each."""
    name = spec.signature.partition(":")[2]
    bare = value.strip().strip("\"'").strip()
    yield f"{name} had no white space or quotation marks around its value", bare
    if spec.prefix and not value.startswith(spec.prefix):
        yield f"{name} had {spec.prefix} before the signature", spec.prefix + bare
    if spec.encoding == "hex":
        yield f"{name} was in lower-case hex", value.lower()
    else:
        padding = "=" * (-len(bare.rpartition(",")[2]) % 4)
        yield f"{name} had the = at its end", bare + padding
        yield f"{name} had no = at its end", bare.rstrip("=")
        yield f"{name} was in base64, not in its URL form", bare.translate({45: 43, 95: 47})
    yield f"{name} had + where it has spaces: a URL decoder replaced them", bare.replace(" ", "+")


def _renamed(case: Case, spec: SignatureSpec) -> Iterator[Hypothesis]:
    """Yield the case with the headers' names as they were sent.

    CGI calls X-Name HTTP_X_NAME, and some proxies leave out the X-.
    """
    given = case.delivery.headers
    by_core = {_core(name): name for name in given}
    renamed = {
        by_core[_core(name)]: name
        for name in _header_names(spec)
        if name not in given and _core(name) in by_core
    }
    if not renamed:
        return
    headers = CIMultiDict((renamed.get(name, name), value) for name, value in given.items())
    pairs = ", ".join(f"{right}, not {wrong}" for wrong, right in renamed.items())
    changed = case._replace(delivery=case.delivery._replace(headers=headers))
    yield Hypothesis(f"a header had the name with which it was sent: {pairs}", changed)


def _header_names(spec: SignatureSpec) -> list[str]:
    """Return the names of the headers that a verdict depends on."""
    templates = [spec.signature, spec.timestamp, spec.content, *spec.id[:1]]
    fields = (field for one in templates if one for _, field in parts(as_template(one)))
    found = {field.partition(":")[2] for field in fields if field.startswith("header:")}
    return sorted(found)


def _core(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("http-").removeprefix("x-")


def _with_header(case: Case, name: str, value: str) -> Case:
    headers = CIMultiDict(case.delivery.headers)
    headers[name] = value
    return case._replace(delivery=case.delivery._replace(headers=headers))


# --- the description of the sender ---


def _of_spec(case: Case, spec: SignatureSpec) -> Iterator[Hypothesis]:
    if case.preset == "marble":
        yield from _of_marble(case, spec)
    elif spec.content != "{body}" and spec.covers_body:
        only = msgspec.structs.replace(spec, content="{body}", timestamp="")
        yield Hypothesis("only the body was signed", case._replace(spec=only))
    if spec.algorithm not in _HMACS:
        return
    for algorithm, encoding in itertools.product(_HMACS, get_args(Encoding)):
        told = []
        if algorithm != spec.algorithm:
            told.append(f"the algorithm was {algorithm.upper()}, not {spec.algorithm.upper()}")
        if encoding != spec.encoding:
            told.append(f"the signature was in {encoding}, not in {spec.encoding}")
        if told:
            other = msgspec.structs.replace(spec, algorithm=algorithm, encoding=encoding)
            yield Hypothesis(" and ".join(told), case._replace(spec=other))


def _of_marble(case: Case, spec: SignatureSpec) -> Iterator[Hypothesis]:
    if spec.timestamp:
        content, place = PLAIN.content, ""
        says = "the source had the plain form: remove timestamped from its table"
    else:
        content, place = timestamped().content, timestamped().timestamp
        says = "the source had the timestamped form: set timestamped = true in its table"
    other = msgspec.structs.replace(spec, content=content, timestamp=place)
    yield Hypothesis(says, case._replace(spec=other))


# --- the URL and the method ---


def _of_url(case: Case) -> Iterator[Hypothesis]:
    spec, delivery = case.spec, case.delivery
    has_path = spec is not None and "{contentful}" in spec.content
    if delivery.url and (spec is None or spec.needs_url):
        for url in _urls(delivery):
            target = urlunsplit(urlsplit(url)._replace(scheme="", netloc="", fragment="")) or "/"
            changed = delivery._replace(url=url, target=target if spec is None else delivery.target)
            yield Hypothesis(f"the URL was {url}", case._replace(delivery=changed))
    elif has_path:
        path, _, query = delivery.target.partition("?")
        for target in dict.fromkeys((path, path + "/", path.rstrip("/"), f"{path}/?{query}")):
            changed = delivery._replace(target=target)
            yield Hypothesis(f"path and query were {target}", case._replace(delivery=changed))
    if has_path or (spec is not None and "{hubspot}" in spec.content):
        for method in ("POST", "PUT", "PATCH", "GET", "DELETE"):
            says = f"the method was {method}, not {delivery.method}"
            yield Hypothesis(says, case._replace(delivery=delivery._replace(method=method)))


def _urls(delivery: Signed) -> list[str]:
    """Yield the URL with each scheme, with and without its port, last slash and query."""
    split = urlsplit(delivery.url)
    userinfo, at, address = split.netloc.rpartition("@")
    name, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()):
        name = address
    received = delivery.target.partition("?")[2]
    found: dict[str, None] = {}
    for scheme in dict.fromkeys((split.scheme, "https", "http")):
        hosts = (address, name, f"{name}:{_PORTS.get(scheme, '443')}")
        paths = (split.path, split.path.rstrip("/"), split.path.rstrip("/") + "/")
        for host, path, query in itertools.product(hosts, paths, (split.query, "", received)):
            found[urlunsplit((scheme, userinfo + at + host, path, query, ""))] = None
    return [url for url in found if url != delivery.url]
