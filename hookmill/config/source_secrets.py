"""The secrets of a source: its table names them, or they stand in the variables of its sender.

`find_secrets` goes on where one of them cannot be read, because the others still verify.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hookmill.config.dev_files import DEV, of_running
from hookmill.config.secret_names import with_names
from hookmill.config.secrets import (
    FoundSecret,
    FoundSecrets,
    SecretRef,
    default_refs,
    find,
    secrets_in,
)
from hookmill.config.setting_files import SECRET_VARIABLES, variables_set
from hookmill.config.settings import Settings, variable_of
from hookmill.config.source_options import QSTASH, preset_of
from hookmill.errors import SettingsError
from hookmill.signatures import Secret
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.qstash import DEVELOPMENT_KEYS

_REGION_KEY = re.compile("([A-Z0-9]+(?:_[A-Z0-9]+)*_QSTASH_(?:CURRENT|NEXT)_SIGNING_KEY)(_FILE)?")

_QSTASH_SETTINGS = ("qstash_current_signing_key", "qstash_next_signing_key")

# The sources that a secret alone switches on: their settings, and their public secrets.
SETTINGS_OF = {"qstash": _QSTASH_SETTINGS, "marble": ("marble_webhook_secret",)}
_PUBLIC_SECRETS_OF = {"qstash": DEVELOPMENT_KEYS, "marble": (DEVELOPMENT_SECRET,)}


def is_switched_on(name: str, settings: Settings) -> bool:
    """Return whether a secret alone switches this source on. A file counts even if it is empty now,
    because the source has to stay where it is when its secret is withdrawn.
    """
    fields = SETTINGS_OF.get(name, ())
    return any(getattr(settings, field) or _file_of(field) for field in fields)


def secrets_of(name: str, settings: Settings) -> list[Secret]:
    """Read what a source verifies with: its secrets, SNS's topics or PayPal's webhook IDs.

    Returns an empty list for QStash and Marble if nothing is set. Raises `SettingsError`.
    """
    found = find_secrets(name, settings)
    if found.faults:
        raise SettingsError([f"sources.{name}: {fault}" for fault in found.faults])
    return [*with_names(one.secret for one in found.secrets)]


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
    variable = variable_of(SETTINGS_OF[name][0])
    if allow_public:
        made = of_running(DEV).get(variable)
        return [Secret(text) for text in ([made] if made else _PUBLIC_SECRETS_OF[name])]
    raise SettingsError([f"{variable} is not set: there is nothing to sign with"])


def find_secrets(name: str, settings: Settings) -> FoundSecrets:
    """Read what a source verifies with, as `secrets_of` does. Raises nothing: what cannot be read
    is in `faults`.
    """
    options = settings.options_of(name)
    preset = preset_of(name, options)
    if preset == "sns":
        fault = "topics: name the topics (their ARNs) that may send"
        return _public_names(options.topics, "", fault)
    if preset == "paypal":
        fault = "webhook_ids: give the IDs of the webhooks, as PayPal shows them"
        return _public_names(options.webhook_ids, "webhook ", fault)
    if options.secrets:
        return find(options.secrets)
    if name == "qstash":
        return _keys_of_qstash(settings)
    if preset == "qstash-callbacks":
        return _keys_of_callbacks(settings)
    if name == "marble":
        return _from_settings(SETTINGS_OF[name], settings)
    return find(default_refs(name))


def _public_names(names: Sequence[str], prefix: str, fault: str) -> FoundSecrets:
    found = [FoundSecret(Secret(one, f"{prefix}{one}"), prefix) for one in names]
    return FoundSecrets(tuple(found), () if found else (fault,))


def _from_settings(fields: Iterable[str], settings: Settings) -> FoundSecrets:
    """Return the secrets of settings. Those in files are read again."""
    parts = []
    for field in fields:
        path, value = _file_of(field), getattr(settings, field)
        if path is not None:
            parts.append(find([SecretRef(file=path)]))
        elif value is not None:
            place, faults = f"env:{SECRET_VARIABLES[field]}", list[str]()
            lines = secrets_in(value.get_secret_value(), place, faults)
            found = [FoundSecret(Secret(line, place), place) for line in lines]
            parts.append(FoundSecrets(tuple(found), tuple(faults)))
    return _joined(parts)


def _file_of(field: str) -> Path | None:
    """Return the file that the `_FILE` variable of a setting names."""
    path = variables_set().get(f"{SECRET_VARIABLES[field]}_FILE")
    return Path(path) if path else None


def _keys_of_qstash(settings: Settings) -> FoundSecrets:
    return _joined([_from_settings(_QSTASH_SETTINGS, settings), find(_region_refs())])


def _keys_of_callbacks(settings: Settings) -> FoundSecrets:
    """Return the keys of QStash's messages, because QStash signs callbacks with the same keys."""
    messages = settings.options_of("qstash")
    if messages.secrets and preset_of("qstash", messages) in QSTASH:
        return find(messages.secrets)
    found = _keys_of_qstash(settings)
    if not found.secrets and not found.faults:
        return FoundSecrets((), ("QSTASH_CURRENT_SIGNING_KEY is not set: it signs callbacks too",))
    return found


def _region_refs() -> list[SecretRef]:
    """Return where the QStash keys of regions stand, in variables such as
    `EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY`: each region has its own.
    """
    refs = []
    for name, value in sorted(os.environ.items()):
        match = _REGION_KEY.fullmatch(name)
        if match and value:
            refs.append(SecretRef(file=Path(value)) if match[2] else SecretRef(env=name))
    return refs


def _joined(parts: Iterable[FoundSecrets]) -> FoundSecrets:
    parts = list(parts)
    secrets = [one for part in parts for one in part.secrets]
    return FoundSecrets(tuple(secrets), tuple(fault for part in parts for fault in part.faults))
