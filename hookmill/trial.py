"""Which keys `hookmill send` signs with: the configured ones, or those of `hookmill dev`."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from hookmill.errors import SettingsError
from hookmill.settings import Settings, variable_of
from hookmill.signatures import Scheme
from hookmill.signatures.marble import DEVELOPMENT_SECRET, marble_scheme
from hookmill.signatures.qstash import DEVELOPMENT_KEYS, QStash

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def scheme_for(source: str, url: str, settings: Settings) -> Scheme:
    """Return the scheme to sign a delivery to `url` with.

    Raises `SettingsError` where no key is set and `url` is not this machine: a delivery that
    strangers could forge as well proves nothing.
    """
    base, is_local = _base_of(url)
    if source == "qstash":
        keys = _keys(
            settings.qstash_keys, DEVELOPMENT_KEYS, "qstash_current_signing_key", is_local=is_local
        )
        # A receiver on this machine expects the URL that senders were given, not the one it is
        # reached by here.
        public_url = settings.public_url if is_local else None
        return QStash(keys, public_url=public_url or base)
    secrets = _keys(
        settings.marble_secrets, [DEVELOPMENT_SECRET], "marble_webhook_secret", is_local=is_local
    )
    return marble_scheme(secrets, with_time=settings.options_of("marble").timestamped)


def _base_of(url: str) -> tuple[str, bool]:
    """Return a URL's scheme and host as they are written, and whether that is this machine."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError([f"{url}: give an http or https URL"])
    return f"{parts.scheme}://{parts.netloc}", parts.hostname in _LOOPBACK


def _keys(
    configured: list[str], development: Sequence[str], field: str, *, is_local: bool
) -> Sequence[str]:
    if configured:
        return configured
    if is_local:
        return development
    raise SettingsError([f"{variable_of(field)} is not set: there is nothing to sign with"])
