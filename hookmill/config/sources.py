"""A source is a sender as it is configured: its path, its signature scheme, and where its message
ID, event type and ordering key stand.

Reads the settings and the secrets that they name; no other I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from hookmill.config.hosts import is_loopback
from hookmill.config.identity import Identify, KeyOf, identifier_for, no_key, ordered_by
from hookmill.config.secret_names import with_names
from hookmill.config.secrets import SHORTEST, TOO_SHORT, FoundSecret, one_secret
from hookmill.config.settings import Settings
from hookmill.config.source_options import QSTASH, SourceOptions, preset_of, spec_of
from hookmill.config.source_secrets import SETTINGS_OF, find_secrets, is_switched_on
from hookmill.config.trust_store import system_roots
from hookmill.config.windows import window_fault
from hookmill.errors import HookmillError, NotInstalledError, SettingsError
from hookmill.signatures import Scheme, Secret
from hookmill.signatures.keys import ASYMMETRIC, key_of
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.qstash import PUBLIC_KEYS, QStash
from hookmill.signatures.scheme import NetworkScheme
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier

_PUBLIC_SECRETS = PUBLIC_KEYS | {DEVELOPMENT_SECRET}
_IS_PUBLIC = (
    "a secret is a public development key: anyone can sign with it. Set the real one, or set "
    "HOOKMILL_DEVELOPMENT=1 where nobody else can deliver"
)
_IS_PUBLIC_AND_REACHED = (
    "a secret is a public development key, and HOOKMILL_HOST is {host}, which others can reach: "
    "they could sign with it. Set HOOKMILL_HOST=127.0.0.1, or a secret of your own (any text of 16 "
    "characters, which you give to the sender as well)"
)


class Source(msgspec.Struct, frozen=True):
    """A sender whose deliveries are accepted at `path`.

    `url` is the URL that the sender was given ("" if unknown). `handshake` names the requests that
    it makes besides its deliveries, and `verify_token` is the text that such a request must repeat.
    `status` is the status of the answer to an accepted delivery. `secret_header` (lower case) is
    the header that holds the secret itself, b"" if no header does. `secrets` are those of the
    scheme. `trusts_trace` says whether the sender's trace goes on in ours. `window` is the source's
    duplicate window (seconds), 0 where it has none of its own. `basis` is all that the source was
    made from: with an equal one it is the same.
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
    secrets: tuple[Secret, ...] = ()
    trusts_trace: bool = False
    window: int = 0
    basis: tuple[object, ...] = ()

    def usable_at(self, now: float) -> int:
        """Return how many of its secrets are valid at a Unix time."""
        return sum(secret.counts_at(now) for secret in self.secrets)


class LoadedSource(NamedTuple):
    """What became of a source: `source` is None if it has no usable secret, or if its table is
    faulty. `faults` say what is wrong, also with single secrets of a source that has others.
    """

    name: str
    path: str
    source: Source | None
    faults: tuple[str, ...]


class SourceCheck(NamedTuple):
    """The secrets of a source (none if they cannot be read), and every reason why a receiver does
    not start with this source.
    """

    secrets: tuple[Secret, ...]
    faults: tuple[str, ...]


def sources_of(settings: Settings) -> list[Source]:
    """Return the sources that are switched on. Their secrets are read again at each call.

    Raises `SettingsError` with every fault, because a source without a usable secret must not
    start, and neither must one with a secret that is not usable.
    """
    loaded = [load_source(name, settings) for name in names_of(settings)]
    if faults := [fault for one in loaded for fault in one.faults]:
        raise SettingsError(faults)
    return [one.source for one in loaded if one.source is not None]


def load_source(name: str, settings: Settings, before: Source | None = None) -> LoadedSource:
    """Read a source's secrets, and make it with those that are usable. Raises nothing.

    A secret that was there `before` keeps its label.
    """
    options = settings.options_of(name)
    spec = spec_of(name, options)
    table_faults = faults_of_table(name, spec, settings)
    secrets, faults = _usable_secrets(name, spec, settings)
    named = with_names(secrets, before.secrets if before is not None else ())
    source = None
    if named and not table_faults:
        source = _source(name, spec, named, settings, faults)
    faults = table_faults + faults
    said = tuple(dict.fromkeys(_with_name(name, fault) for fault in faults))
    return LoadedSource(name, settings.path_of(name), source, said)


def names_of(settings: Settings) -> list[str]:
    """Return the names of the sources that are switched on: QStash and Marble by their keys, all
    others by a table in `hookmill.toml`.
    """
    by_keys = [name for name in SETTINGS_OF if is_switched_on(name, settings)]
    tables = [
        name
        for name, options in settings.sources.items()
        if name not in SETTINGS_OF or name in by_keys or options.secrets
    ]
    return [*(name for name in by_keys if name not in tables), *tables]


def url_of(name: str, settings: Settings) -> str:
    """Return the URL that a source's sender was given, "" if it is unknown."""
    if url := settings.options_of(name).url:
        return url
    return f"{settings.public_url}{settings.path_of(name)}" if settings.public_url else ""


def check_source(name: str, settings: Settings) -> SourceCheck:
    """Read a source's secrets and make its scheme, as a receiver does when it starts.

    Accepts the public development keys. Raises nothing: what is wrong is in `faults`.
    """
    found = find_secrets(name, settings)
    allowing = settings.model_copy(update={"development": True, "host": "127.0.0.1"})
    faults = load_source(name, allowing).faults
    return SourceCheck(with_names(one.secret for one in found.secrets), faults)


def _source(
    name: str,
    spec: SignatureSpec | None,
    secrets: tuple[Secret, ...],
    settings: Settings,
    faults: list[str],
) -> Source | None:
    options, preset = settings.options_of(name), preset_of(name, settings.options_of(name))
    path, url = settings.path_of(name), url_of(name, settings)
    try:
        scheme = _scheme(name, spec, secrets, settings)
    except HookmillError as error:
        faults += str(error).splitlines()
        return None
    verify_token = _verify_token(options, faults)
    basis = (options, path, url, settings.public_url, settings.clock_tolerance, secrets)
    return Source(
        name,
        path,
        scheme,
        identifier_for(preset, spec, options),
        ordered_by(options.ordered_by) if options.ordered_by else no_key,
        url,
        spec.handshake if spec else "sns" if preset == "sns" else "",
        verify_token,
        spec.acknowledge if spec else 200,
        _secret_header(spec) if spec else b"",
        secrets,
        options.trusts_trace(preset),
        options.dedup_window or 0,
        (*basis, verify_token),
    )


def _verify_token(options: SourceOptions, faults: list[str]) -> str:
    """Return the verify token, "" if there is none or if it is not usable: nothing matches that."""
    try:
        return one_secret(options.verify_token) if options.verify_token is not None else ""
    except SettingsError as error:
        faults += error.faults
        return ""


def _usable_secrets(
    name: str, spec: SignatureSpec | None, settings: Settings
) -> tuple[list[Secret], list[str]]:
    """Return the secrets that a source can verify with, and what is wrong with the others."""
    found = find_secrets(name, settings)
    usable: list[Secret] = []
    faults = [*found.faults]
    if not found.secrets and not found.faults:
        faults.append("it has no secret")
    for one in found.secrets:
        fault = _fault_of_secret(name, spec, one, settings)
        if fault:
            faults.append(fault)
        else:
            usable.append(one.secret)
    return usable, faults


def _fault_of_secret(
    name: str, spec: SignatureSpec | None, found: FoundSecret, settings: Settings
) -> str:
    """Return what is wrong with a single secret, "" if nothing is."""
    text = found.secret.text
    if text in _PUBLIC_SECRETS and not settings.development:
        return _IS_PUBLIC
    if text in _PUBLIC_SECRETS and not is_loopback(settings.host):
        return _IS_PUBLIC_AND_REACHED.format(host=settings.host)
    if spec is None and preset_of(name, settings.options_of(name)) not in QSTASH:
        return ""  # topics and IDs of webhooks are no secrets, and are judged together
    try:
        if spec is None:
            _scheme(name, spec, [found.secret], settings)
            length = len(text.encode())
        else:
            length = len(key_of(spec, text))
            _scheme(name, spec, [found.secret], settings)
    except NotInstalledError as error:
        return str(error)
    except HookmillError as error:
        return f"{error} ({found.place})"
    is_secret = spec is None or spec.algorithm not in ASYMMETRIC
    return f"{found.place} {TOO_SHORT}" if is_secret and length < SHORTEST else ""


def faults_of_table(name: str, spec: SignatureSpec | None, settings: Settings) -> list[str]:
    """Return what a source's table lacks for verifying deliveries and answering handshakes, and for
    dropping the copies of one.
    """
    fault = window_fault(name, preset_of(name, settings.options_of(name)), spec, settings)
    faults = [fault] if fault else []
    if spec is None:
        return faults
    if spec.needs_url and not url_of(name, settings):
        faults.append("it signs its URL: set HOOKMILL_PUBLIC_URL, or url in its table")
    if spec.handshake == "meta" and settings.options_of(name).verify_token is None:
        faults.append(
            "handshake: Meta asks with a token of your choice: set verify_token to where it "
            'stands (env:NAME or file:PATH), or handshake = "" if Meta does not ask'
        )
    if spec.handshake == "zoom" and not spec.algorithm.startswith("hmac-"):
        faults.append(
            f"handshake: the answer to Zoom is an HMAC, but the algorithm is {spec.algorithm}"
        )
    return faults


def window_faults(settings: Settings) -> list[str]:
    """Return for which sources the duplicate window is too short. A worker starts without these:
    it needs no secrets, but it remembers the IDs.
    """
    found = []
    for name in names_of(settings):
        options = settings.options_of(name)
        spec = spec_of(name, options)
        if fault := window_fault(name, preset_of(name, options), spec, settings):
            found.append(_with_name(name, fault))
    return found


def _scheme(
    name: str, spec: SignatureSpec | None, secrets: Sequence[Secret], settings: Settings
) -> Scheme | NetworkScheme:
    if spec is not None:
        return SpecVerifier(spec, secrets)
    preset = preset_of(name, settings.options_of(name))
    if preset in QSTASH:
        return QStash(secrets, public_url=settings.public_url, tolerance=settings.clock_tolerance)
    # These two are imported only here, because they need the extra `asymmetric`.
    if preset == "sns":
        from hookmill.signatures.sns import SNS  # noqa: PLC0415 - as above

        return SNS(secrets)
    from hookmill.signatures.paypal import PayPal  # noqa: PLC0415 - as above

    return PayPal(secrets, system_roots())


def _secret_header(spec: SignatureSpec) -> bytes:
    kind, _, name = spec.signature.partition(":")
    return name.lower().encode() if spec.algorithm == "token" and kind == "header" else b""


def _with_name(name: str, fault: str) -> str:
    return fault if fault.startswith("sources.") else f"sources.{name}: {fault}"
