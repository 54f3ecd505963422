"""What `hookmill send` signs with and `hookmill verify` judges by: what is configured, what the
command line gives, or the keys of `hookmill dev`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from multidict import CIMultiDict

from hookmill.config.identity import (
    Identify,
    identify_by,
    identify_callback,
    identify_marble,
    identify_qstash,
)
from hookmill.config.settings import Settings, variable_of
from hookmill.config.source_options import CODE, QSTASH, preset_of, spec_of
from hookmill.config.sources import secrets_of
from hookmill.debug.hypotheses import Case
from hookmill.errors import SettingsError
from hookmill.signatures import Scheme, Secret, Signed
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.presets import ALIASES, PRESETS
from hookmill.signatures.qstash import DEVELOPMENT_KEYS, QStash
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_METHOD = re.compile("[A-Z]+")


class Sender(NamedTuple):
    """A sender to be imitated: its name in the table of senders, how it signs, and the URL that it
    was given.
    """

    preset: str
    scheme: Scheme
    url: str


def default_url(source: str, settings: Settings) -> str:
    """Return where a source is received on this machine."""
    return f"http://127.0.0.1:{settings.port}{settings.path_of(source)}"


def sender_for(source: str, url: str, settings: Settings) -> Sender:
    """Return what makes deliveries to `url` as the source's sender does.

    Raises `SettingsError` where there is no such source, where only its sender has the key, and
    where no key is set and `url` is not this machine: a delivery that strangers could forge as well
    proves nothing.
    """
    spec = _spec_of(source, settings)
    base, is_local = _base_of(url)
    preset = preset_of(source, settings.options_of(source))
    # A receiver on this machine expects the URL that senders were given, not the one it is
    # reached by here.
    given = _given_url(source, settings) if is_local else ""
    if spec is None:
        secrets = _secrets(source, settings, DEVELOPMENT_KEYS, is_local=is_local)
        public_url = settings.public_url if is_local else None
        return Sender(preset, QStash(secrets, public_url=public_url or base), url)
    if spec.algorithm in {"ed25519", "ecdsa-p256"}:
        fault = f"{source} signs with {spec.algorithm}: only the sender has the key. "
        raise SettingsError([f"{fault}Have it deliver one, and judge that with `hookmill verify`"])
    development = [DEVELOPMENT_SECRET] if source == "marble" else []
    secrets = _secrets(source, settings, development, is_local=is_local)
    return Sender(preset, SpecVerifier(spec, secrets), given or url)


def scheme_for(source: str, url: str, settings: Settings) -> Scheme:
    """Return the scheme alone."""
    return sender_for(source, url, settings).scheme


def known_sources(settings: Settings) -> list[str]:
    """Name the senders there are: the configured ones first."""
    return list(dict.fromkeys([*settings.sources, *QSTASH, *PRESETS]))


def _spec_of(source: str, settings: Settings) -> SignatureSpec | None:
    options = settings.options_of(source)
    if source not in settings.sources and source not in {*PRESETS, *ALIASES, *CODE}:
        raise SettingsError(
            [f"there is no source {source!r}; there are {', '.join(known_sources(settings))}"]
        )
    preset = preset_of(source, options)
    if preset in CODE and preset not in QSTASH:
        fault = f"{source} signs with a certificate that has to be fetched: only its sender has "
        raise SettingsError([f"{fault}the key, and only the receiver can judge it"])
    try:
        return spec_of(source, options)
    except ValueError as error:
        raise SettingsError(str(error).splitlines()) from None


def _given_url(source: str, settings: Settings) -> str:
    """Return the URL that a source's sender was given; "": not known."""
    if url := settings.options_of(source).url:
        return url
    return f"{settings.public_url}{settings.path_of(source)}" if settings.public_url else ""


def _base_of(url: str) -> tuple[str, bool]:
    """Return a URL's scheme and host as they are written, and whether that is this machine."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError([f"{url}: give an http or https URL"])
    return f"{parts.scheme}://{parts.netloc}", parts.hostname in _LOOPBACK


def _secrets(
    source: str, settings: Settings, development: Sequence[str], *, is_local: bool
) -> Sequence[str | Secret]:
    options = settings.options_of(source)
    if preset_of(source, options) == "qstash-callbacks" and not options.secrets:
        source = "qstash"  # whose keys sign both
    keys = {"qstash": "qstash_current_signing_key", "marble": "marble_webhook_secret"}
    field = keys.get(source)
    if field is None or settings.options_of(source).secrets:
        return secrets_of(source, settings)
    if secrets := secrets_of(source, settings):
        return secrets
    if is_local:
        return development
    raise SettingsError([f"{variable_of(field)} is not set: there is nothing to sign with"])


# --- a captured delivery ---


class Captured(NamedTuple):
    """What the command line says of a captured delivery. `url` is the one its sender was given."""

    headers: Sequence[str]
    body: bytes
    method: str = "POST"
    url: str | None = None


def case_for(
    source: str, captured: Captured, given: Sequence[Secret], settings: Settings
) -> tuple[Case, Identify | None]:
    """Return what is to be judged, and what finds the delivery's names.

    `given` are the secrets of the command line; without any it is judged by the source's own.
    Raises `SettingsError`.
    """
    spec = _spec_of(source, settings)
    if not _METHOD.fullmatch(captured.method):
        raise SettingsError(["--method: write it in capital letters, such as POST"])
    url, target = captured.url, settings.path_of(source)
    if url is None:
        url = _given_url(source, settings)
    else:
        base, _ = _base_of(url)
        url = url.partition("#")[0]
        target = url[len(base) :]
        target = target if target.startswith("/") else f"/{target}"
    secrets = tuple(given) or tuple(_own_secrets(source, settings))
    case = Case(
        source=source,
        preset=preset_of(source, settings.options_of(source)),
        spec=spec,
        secrets=secrets,
        delivery=Signed(
            headers_of(captured.headers), captured.body, target, captured.method, url
        ),
        tolerance=settings.clock_tolerance,
    )  # fmt: skip
    return case, _identify(case)


def headers_of(lines: Iterable[str]) -> CIMultiDict[str]:
    """Read headers written as `Name: value`. Raises `SettingsError` without showing a value."""
    headers = CIMultiDict[str]()
    faults: list[str] = []
    for number, line in enumerate(lines, 1):
        name, colon, value = line.partition(":")
        if not colon:
            faults.append(f"--header (number {number}): write 'Name: value', with a colon")
        elif not _HEADER_NAME.fullmatch(name):
            faults.append(
                f"--header (number {number}): what stands before the colon is no header's name"
            )
        else:
            headers.add(name, value.strip())
    if faults:
        raise SettingsError(faults)
    return headers


def secrets_given(
    texts: Iterable[str], files: Iterable[Path], variables: Iterable[str]
) -> list[Secret]:
    """Return the secrets that the command line gives: as they stand, or a line each of a file or of
    a variable. Raises `SettingsError`, which shows nothing of what could be a secret by mistake.
    """
    found = [Secret(text, "--secret") for text in texts]
    faults: list[str] = []
    for number, file in enumerate(files, 1):
        try:
            text = file.read_text("utf-8")
        except (OSError, ValueError) as error:
            faults.append(f"--secret-file (number {number}): {type(error).__name__}")
        else:
            found += _of_lines(text, "--secret-file", number, faults)
    for number, name in enumerate(variables, 1):
        if name in os.environ:
            found += _of_lines(os.environ[name], "--secret-env", number, faults)
        else:
            faults.append(f"--secret-env (number {number}): there is no such variable")
    if faults:
        raise SettingsError(faults)
    return found


def _of_lines(text: str, option: str, number: int, faults: list[str]) -> list[Secret]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        faults.append(f"{option} (number {number}): it is empty")
    return [Secret(line, option) for line in lines]


def _own_secrets(source: str, settings: Settings) -> list[Secret]:
    try:
        secrets = secrets_of(source, settings)
        faults: tuple[str, ...] = ()
    except SettingsError as error:
        secrets, faults = [], error.faults
    if not secrets:
        raise SettingsError(
            [
                *faults,
                "no secret: give --secret-env, --secret-file or --secret, or set the source's",
            ]
        )
    return secrets


def _identify(case: Case) -> Identify | None:
    if case.preset in QSTASH:
        return identify_qstash if case.preset == "qstash" else identify_callback
    if case.spec is None:
        return None
    is_plain = case.spec.id == PRESETS["marble"].spec.id
    return identify_marble if case.preset == "marble" and is_plain else identify_by(case.spec)
