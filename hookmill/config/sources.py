"""A source is a sender as it is configured: its path, its signature scheme, and where its message
ID, event type and ordering key stand.

Reads the settings and the secrets that they name; no other I/O.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from hookmill.config.dev_files import DEV, of_running
from hookmill.config.identity import Identify, KeyOf, identifier_for, no_key, ordered_by
from hookmill.config.secrets import default_refs, read
from hookmill.config.setting_values import is_loopback
from hookmill.config.settings import Settings, variable_of
from hookmill.config.source_options import QSTASH, SourceOptions, preset_of, spec_of
from hookmill.config.trust_store import system_roots
from hookmill.errors import HookmillError, SettingsError
from hookmill.signatures import Scheme, Secret
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.qstash import DEVELOPMENT_KEYS, PUBLIC_KEYS, QStash
from hookmill.signatures.scheme import NetworkScheme
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier

_REGION_KEY = re.compile("[A-Z0-9]+(?:_[A-Z0-9]+)*_QSTASH_(CURRENT|NEXT)_SIGNING_KEY")
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

# The sources that a secret alone switches on: its setting, and its public secrets.
_SETTING_OF = {"qstash": "qstash_current_signing_key", "marble": "marble_webhook_secret"}
_PUBLIC_SECRETS_OF = {"qstash": DEVELOPMENT_KEYS, "marble": (DEVELOPMENT_SECRET,)}


class Source(NamedTuple):
    """A sender whose deliveries are accepted at `path`.

    `url` is the URL that the sender was given ("" if unknown). `handshake` names the requests that
    it makes besides its deliveries, and `verify_token` is the text that such a request must repeat.
    `status` is the status of the answer to an accepted delivery. `secret_header` (lower case) is
    the header that holds the secret itself, b"" if no header does.
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


class SourceCheck(NamedTuple):
    """The secrets of a source (none if they cannot be read), and every reason why a receiver does
    not start with this source.
    """

    secrets: tuple[Secret, ...]
    faults: tuple[str, ...]


def sources_of(settings: Settings) -> list[Source]:
    """Return the sources that are switched on. Their secrets are read again at each call.

    Raises `SettingsError` with every fault, because a source without a usable secret must not
    start.
    """
    sources: list[Source] = []
    faults: list[str] = []
    for name in names_of(settings):
        try:
            sources.append(_source(name, settings))
        except SettingsError as error:
            faults += [_with_name(name, fault) for fault in error.faults]
    if faults:
        raise SettingsError(faults)
    return sources


def names_of(settings: Settings) -> list[str]:
    """Return the names of the sources that are switched on: QStash and Marble by their keys, all
    others by a table in `hookmill.toml`.
    """
    by_keys = {"qstash": settings.qstash_keys, "marble": settings.marble_secrets}
    tables = [
        name for name, options in settings.sources.items() if name not in by_keys or options.secrets
    ]
    return [*(name for name, keys in by_keys.items() if keys and name not in tables), *tables]


def url_of(name: str, settings: Settings) -> str:
    """Return the URL that a source's sender was given, "" if it is unknown."""
    if url := settings.options_of(name).url:
        return url
    return f"{settings.public_url}{settings.path_of(name)}" if settings.public_url else ""


def secrets_of(name: str, settings: Settings) -> list[Secret]:
    """Read what a source verifies with: its secrets, SNS's topics or PayPal's webhook IDs.

    Returns an empty list for QStash and Marble if nothing is set. Raises `SettingsError`.
    """
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
        return _labelled(settings.marble_secrets, "MARBLE_WEBHOOK_SECRET")
    return read(name, default_refs(name))


def secrets_to_sign_with(name: str, settings: Settings, *, allow_public: bool) -> list[Secret]:
    """Return the secrets that `hookmill send` can sign a source's deliveries with.

    If none is set, these are the secrets of a `hookmill dev` that runs in this folder, else the
    public development keys, provided that `allow_public` is true: they prove nothing elsewhere.
    Otherwise raises `SettingsError`, which names the variable to set.
    """
    options = settings.options_of(name)
    if preset_of(name, options) == "qstash-callbacks" and not options.secrets:
        name, options = "qstash", settings.options_of("qstash")  # the same keys sign both
    found = secrets_of(name, settings)
    if found or name not in _PUBLIC_SECRETS_OF:
        return found
    variable = variable_of(_SETTING_OF[name])
    if allow_public:
        made = of_running(DEV).get(variable)
        return [Secret(text) for text in ([made] if made else _PUBLIC_SECRETS_OF[name])]
    raise SettingsError([f"{variable} is not set: there is nothing to sign with"])


def check_source(name: str, settings: Settings) -> SourceCheck:
    """Read a source's secrets and make its scheme, as a receiver does when it starts.

    Accepts the public development keys. Raises nothing: what is wrong is in `faults`.
    """
    options = settings.options_of(name)
    spec = spec_of(name, options)
    secrets: list[Secret] = []
    faults = _faults_of_table(name, spec, settings)
    try:
        secrets = secrets_of(name, settings)
        _scheme(name, spec, secrets, settings)
        _verify_token(name, options)
    except HookmillError as error:
        faults += str(error).splitlines()
    return SourceCheck(tuple(secrets), tuple(_with_name(name, fault) for fault in faults))


def _source(name: str, settings: Settings) -> Source:
    options = settings.options_of(name)
    spec = spec_of(name, options)
    if faults := _faults_of_table(name, spec, settings):
        raise SettingsError(faults)
    secrets = secrets_of(name, settings)
    if any(one.text in _PUBLIC_SECRETS for one in secrets):
        if not settings.development:
            raise SettingsError([_IS_PUBLIC])
        if not is_loopback(settings.host):
            raise SettingsError([_IS_PUBLIC_AND_REACHED.format(host=settings.host)])
    return Source(
        name,
        settings.path_of(name),
        _scheme(name, spec, secrets, settings),
        identifier_for(preset_of(name, options), spec, options),
        ordered_by(options.ordered_by) if options.ordered_by else no_key,
        url_of(name, settings),
        spec.handshake if spec else "sns" if preset_of(name, options) == "sns" else "",
        _verify_token(name, options),
        spec.acknowledge if spec else 200,
        _secret_header(spec) if spec else b"",
    )


def _faults_of_table(name: str, spec: SignatureSpec | None, settings: Settings) -> list[str]:
    """Return what a source's table lacks for verifying deliveries and answering handshakes."""
    if spec is None:
        return []
    faults = []
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


def _scheme(
    name: str, spec: SignatureSpec | None, secrets: list[Secret], settings: Settings
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


def _verify_token(name: str, options: SourceOptions) -> str:
    return read(name, [options.verify_token])[0].text if options.verify_token else ""


def _secret_header(spec: SignatureSpec) -> bytes:
    kind, _, name = spec.signature.partition(":")
    return name.lower().encode() if spec.algorithm == "token" and kind == "header" else b""


def _with_name(name: str, fault: str) -> str:
    return fault if fault.startswith("sources.") else f"sources.{name}: {fault}"


def _labelled(keys: list[str], variable: str) -> list[Secret]:
    return [
        Secret(key, f"env:{variable}{f' ({number})' if number > 1 else ''}")
        for number, key in enumerate(keys, 1)
    ]


def _keys_of_qstash(settings: Settings) -> list[Secret]:
    return [*_labelled(settings.qstash_keys, "QSTASH_CURRENT_SIGNING_KEY"), *_region_keys()]


def _keys_of_callbacks(settings: Settings) -> list[Secret]:
    """Return the keys of QStash's messages, because QStash signs callbacks with the same keys."""
    messages = settings.options_of("qstash")
    if messages.secrets and preset_of("qstash", messages) in QSTASH:
        return read("qstash", messages.secrets)
    if keys := _keys_of_qstash(settings):
        return keys
    raise SettingsError(["QSTASH_CURRENT_SIGNING_KEY is not set: it signs callbacks too"])


def _region_keys() -> list[Secret]:
    """Return the QStash keys of regions, from variables such as
    `EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY`: each region has its own.
    """
    names = sorted(name for name in os.environ if _REGION_KEY.fullmatch(name))
    return [Secret(os.environ[name], f"env:{name}") for name in names if os.environ[name]]
