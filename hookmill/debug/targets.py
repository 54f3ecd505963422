"""Finds what `hookmill send` signs with and what `hookmill verify` judges by: a configured source,
what the command line gives, or the keys of `hookmill dev`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from multidict import CIMultiDict

from hookmill.config.identity import Identify, identifier_for
from hookmill.config.settings import Settings
from hookmill.config.source_options import CODE, QSTASH, preset_of, spec_of
from hookmill.config.source_secrets import secrets_of, secrets_to_sign_with
from hookmill.config.sources import url_of
from hookmill.debug.hypotheses import Case
from hookmill.errors import SettingsError
from hookmill.signatures import Scheme, Secret, Signed
from hookmill.signatures.presets import ALIASES, PRESETS
from hookmill.signatures.qstash import QStash
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_METHOD = re.compile("[A-Z]+")


class SimulatedSender(NamedTuple):
    """What makes deliveries as a sender does.

    `preset` is its name in the table of senders, `scheme` signs, and `url` is the URL that the
    sender was given.
    """

    preset: str
    scheme: Scheme
    url: str


def default_url(source: str, settings: Settings) -> str:
    """Return the URL at which a receiver on this machine takes a source's deliveries."""
    return f"http://127.0.0.1:{settings.port}{settings.path_of(source)}"


def sender_for(source: str, url: str, settings: Settings) -> SimulatedSender:
    """Return what makes deliveries to `url` as the source's sender does.

    Raises `SettingsError` if there is no such source, and where only its sender has the key. It
    also does where no key is set and `url` is not on this machine, because keys for development
    prove nothing there.
    """
    spec = _spec_of(source, settings)
    base, is_local = _base_of(url)
    preset = preset_of(source, settings.options_of(source))
    if spec is not None and spec.algorithm in {"ed25519", "ecdsa-p256"}:
        fault = f"{source} signs with {spec.algorithm}: only the sender has the key. "
        raise SettingsError([f"{fault}Have it deliver one, and judge that with `hookmill verify`"])
    secrets = secrets_to_sign_with(source, settings, allow_public=is_local)
    if spec is None:
        public_url = settings.public_url if is_local else None
        return SimulatedSender(preset, QStash(secrets, public_url=public_url or base), url)
    # A receiver on this machine expects the URL that the sender was given. That differs from the
    # URL by which it is reached here.
    given = url_of(source, settings) if is_local else ""
    return SimulatedSender(preset, SpecVerifier(spec, secrets), given or url)


def scheme_for(source: str, url: str, settings: Settings) -> Scheme:
    """Return only the scheme of `sender_for`."""
    return sender_for(source, url, settings).scheme


def known_sources(settings: Settings) -> list[str]:
    """Return the names of all senders, the configured ones first."""
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


def _base_of(url: str) -> tuple[str, bool]:
    """Return scheme and host of a URL as they are written, and whether it is on this machine."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError([f"{url}: give an http or https URL"])
    return f"{parts.scheme}://{parts.netloc}", parts.hostname in _LOOPBACK


# --- a captured delivery ---


class Captured(NamedTuple):
    """What the command line says of a captured delivery.

    `headers` are lines such as `Name: value`; `url` is the URL that its sender was given.
    """

    headers: Sequence[str]
    body: bytes
    method: str = "POST"
    url: str | None = None


def case_for(
    source: str, captured: Captured, given: Sequence[Secret], settings: Settings
) -> tuple[Case, Identify]:
    """Return the case to judge, and what finds the delivery's ID and type.

    `given` are the secrets of the command line. Where it gives none, the source's own are used.
    Raises `SettingsError`.
    """
    spec = _spec_of(source, settings)
    if not _METHOD.fullmatch(captured.method):
        raise SettingsError(["--method: write it in capital letters, such as POST"])
    url, target = captured.url, settings.path_of(source)
    if url is None:
        url = url_of(source, settings)
    else:
        base, _ = _base_of(url)
        url = url.partition("#")[0]
        target = url[len(base) :]
        target = target if target.startswith("/") else f"/{target}"
    options = settings.options_of(source)
    preset = preset_of(source, options)
    headers = headers_of(captured.headers)
    case = Case(
        source=source,
        preset=preset,
        spec=spec,
        secrets=tuple(given) or tuple(_own_secrets(source, settings)),
        delivery=Signed(headers, captured.body, target, captured.method, url),
        tolerance=settings.clock_tolerance,
    )
    return case, identifier_for(preset, spec, options)


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
                f"--header (number {number}): the text before the colon is not a header's name"
            )
        else:
            headers.add(name, value.strip())
    if faults:
        raise SettingsError(faults)
    return headers


def secrets_given(
    texts: Iterable[str], files: Iterable[Path], variables: Iterable[str]
) -> list[Secret]:
    """Return the secrets that the command line gives: `texts` as they stand, and each line of the
    files and of the environment variables.

    Raises `SettingsError`. It shows no name and no text, because each could be a secret that was
    given in the wrong place.
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
