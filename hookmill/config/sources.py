"""A source: a sender as configured. Its path, its scheme, and where its ID, event type and
ordering key are.

No I/O but the reading of secrets. What is found in a delivery is read only after its signature has
been verified.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from hookmill.config.identity import (
    Identify,
    KeyOf,
    identify_for,
    no_key,
    ordered_by,
)
from hookmill.config.secrets import default_refs, read
from hookmill.config.settings import Settings
from hookmill.config.source_options import QSTASH, SourceOptions, preset_of, spec_of
from hookmill.config.trust_store import system_roots
from hookmill.errors import SettingsError
from hookmill.signatures import Scheme, Secret
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.qstash import DEVELOPMENT_KEYS, QStash
from hookmill.signatures.scheme import NetworkScheme
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier


class Source(NamedTuple):
    """A sender whose deliveries are accepted at `path`.

    `url` is the one the sender was given ("": not known), `handshake` what it asks beside its
    deliveries, `verify_token` what it then repeats, `status` the one it wants to see,
    `secret_header` (in lower case) the header that holds the secret itself.
    """

    name: str
    path: str
    scheme: Scheme | NetworkScheme
    identify: Identify
    key_of: KeyOf = no_key
    url: str = ""
    handshake: str = ""
    verify_token: str = ""
    status: int = 200
    secret_header: bytes = b""


_REGION_KEY = re.compile("[A-Z0-9]+(?:_[A-Z0-9]+)*_QSTASH_(CURRENT|NEXT)_SIGNING_KEY")
_PUBLIC = frozenset({*DEVELOPMENT_KEYS, DEVELOPMENT_SECRET})


def sources_of(settings: Settings) -> list[Source]:
    """Return the sources that the settings switch on, their secrets read anew.

    Raises `SettingsError` with every fault: a source without a usable secret does not start.
    """
    sources: list[Source] = []
    faults: list[str] = []
    for name in names_of(settings):
        try:
            sources.append(_source(name, settings.options_of(name), settings))
        except SettingsError as error:
            faults += [_concerning(name, fault) for fault in error.faults]
    if faults:
        raise SettingsError(faults)
    return sources


def names_of(settings: Settings) -> list[str]:
    """Name the sources that are switched on: QStash and Marble by their keys, others by their
    tables.
    """
    by_keys = {"qstash": settings.qstash_keys, "marble": settings.marble_secrets}
    tables = [
        name for name, options in settings.sources.items() if name not in by_keys or options.secrets
    ]
    return [*(name for name, keys in by_keys.items() if keys and name not in tables), *tables]


def secrets_of(name: str, settings: Settings) -> list[Secret]:
    """Read a source's secrets, or what it has in their place. Raises `SettingsError`."""
    options = settings.options_of(name)
    if preset_of(name, options) == "sns":
        if not options.topics:
            raise SettingsError(["topics: name the topics (their ARNs) that may send"])
        return [Secret(topic, topic) for topic in options.topics]
    if preset_of(name, options) == "paypal":
        if not options.webhook_ids:
            raise SettingsError(["webhook_ids: give the IDs of the webhooks, as PayPal shows them"])
        return [Secret(one, f"webhook {one}") for one in options.webhook_ids]
    if refs := options.secrets:
        return read(name, refs)
    if name == "qstash":
        return _keys_of_qstash(settings)
    if preset_of(name, options) == "qstash-callbacks":
        return _keys_of_callbacks(settings)
    if name == "marble":
        return _named(settings.marble_secrets, "MARBLE_WEBHOOK_SECRET")
    return read(name, default_refs(name))


def _source(name: str, options: SourceOptions, settings: Settings) -> Source:
    path = settings.path_of(name)
    url = options.url or (f"{settings.public_url}{path}" if settings.public_url else "")
    spec = spec_of(name, options)
    scheme: Scheme | NetworkScheme
    if spec is None:
        scheme = _coded_scheme(name, options, settings)
    else:
        if spec.needs_url and not url:
            raise SettingsError(["it signs its URL: set HOOKMILL_PUBLIC_URL, or url in its table"])
        if faults := _handshake_faults(spec, options):
            raise SettingsError(faults)
        scheme = SpecVerifier(spec, _private(name, settings))
    token = read(name, [options.verify_token])[0].text if options.verify_token else ""
    return Source(
        name,
        path,
        scheme,
        identify_for(preset_of(name, options), spec, options),
        ordered_by(options.ordered_by) if options.ordered_by else no_key,
        url,
        spec.handshake if spec else "sns" if preset_of(name, options) == "sns" else "",
        token,
        spec.acknowledge if spec else 200,
        _secret_header(spec) if spec else b"",
    )


def _private(name: str, settings: Settings) -> list[Secret]:
    """Return a source's secrets; refuse those that anyone knows, wherever they came from."""
    found = secrets_of(name, settings)
    if not settings.development and any(one.text in _PUBLIC for one in found):
        fault = "a secret is a public development key: anyone can sign with it. Set the real one, "
        raise SettingsError([f"{fault}or HOOKMILL_DEVELOPMENT=1 where nobody else can deliver"])
    return found


def _secret_header(spec: SignatureSpec) -> bytes:
    kind, _, name = spec.signature.partition(":")
    return name.lower().encode() if spec.algorithm == "token" and kind == "header" else b""


def _coded_scheme(name: str, options: SourceOptions, settings: Settings) -> Scheme | NetworkScheme:
    """Make the scheme of a sender whose scheme is code."""
    preset = preset_of(name, options)
    if preset in QSTASH:
        return QStash(
            _private(name, settings),
            public_url=settings.public_url,
            tolerance=settings.clock_tolerance,
        )
    # They need an extra, and import it.
    if preset == "sns":
        from hookmill.signatures.sns import SNS  # noqa: PLC0415

        return SNS(_private(name, settings))
    from hookmill.signatures.paypal import PayPal  # noqa: PLC0415

    return PayPal(_private(name, settings), system_roots())


def _handshake_faults(spec: SignatureSpec, options: SourceOptions) -> list[str]:
    """Return what keeps us from answering what the sender asks."""
    if spec.handshake == "meta" and options.verify_token is None:
        fault = (
            "handshake: Meta asks with a token of your choice: set verify_token to where it "
            'stands (env:NAME or file:PATH), or handshake = "" if Meta is not to ask'
        )
        return [fault]
    if spec.handshake == "zoom" and not spec.algorithm.startswith("hmac-"):
        return [f"handshake: Zoom is answered with an HMAC, and the algorithm is {spec.algorithm}"]
    return []


def _concerning(name: str, fault: str) -> str:
    return fault if fault.startswith("sources.") else f"sources.{name}: {fault}"


def _named(keys: list[str], label: str) -> list[Secret]:
    return [
        Secret(key, f"env:{label}{f' ({number})' if number > 1 else ''}")
        for number, key in enumerate(keys, 1)
    ]


def _keys_of_qstash(settings: Settings) -> list[Secret]:
    return [*_named(settings.qstash_keys, "QSTASH_CURRENT_SIGNING_KEY"), *_region_keys()]


def _keys_of_callbacks(settings: Settings) -> list[Secret]:
    """Return the keys of QStash's messages, wherever those stand: it signs callbacks with them."""
    messages = settings.options_of("qstash")
    if messages.secrets and preset_of("qstash", messages) in QSTASH:
        return read("qstash", messages.secrets)
    if keys := _keys_of_qstash(settings):
        return keys
    raise SettingsError(["QSTASH_CURRENT_SIGNING_KEY is not set: it signs callbacks too"])


def _region_keys() -> list[Secret]:
    """Return QStash's keys of regions: each region has its own."""
    names = sorted(name for name in os.environ if _REGION_KEY.fullmatch(name))
    return [Secret(os.environ[name], f"env:{name}") for name in names if os.environ[name]]


# --- where ID and type are ---
