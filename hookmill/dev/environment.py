"""The environment of `hookmill dev`, which its programs inherit.

What the user has set stays, with two exceptions. The Redis of REDIS_URL is used only if that was
asked for, and then under a prefix of this user's own. The spool is this user's own as well. Both
could be those of production, and a developer's handlers would take the messages in them.
"""

from __future__ import annotations

import getpass
import os
from typing import NamedTuple

from hookmill.config import dev_files
from hookmill.config.setting_files import TOML_FILE, read_toml, variables_set
from hookmill.config.settings import Settings
from hookmill.emulator.credentials import PUBLIC_TOKENS, fresh_key, fresh_token
from hookmill.errors import SettingsError
from hookmill.runtime.embedded_redis import free_port
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.qstash import DEVELOPMENT_KEYS

_DEFAULTS = {
    "HOOKMILL_LEASE": "5",  # short, so that one can watch a killed worker's messages move on
    "HOOKMILL_SHUTDOWN": "5",
    "HOOKMILL_RETENTION": "3600",  # so that one can look at handled messages, and replay them
    "HOOKMILL_LOG_FORMAT": "console",
    "HOOKMILL_KEEP_REFUSED": "100",  # `hookmill refused` says why a signature does not match
    "HOOKMILL_HOST": "127.0.0.1",
    "HOOKMILL_CONSOLE_HOST": "127.0.0.1",
    "HOOKMILL_SOURCES__qstash-callbacks__path": "/qstash-callbacks",
}

_KEYS = ("QSTASH_CURRENT_SIGNING_KEY", "QSTASH_NEXT_SIGNING_KEY", "MARBLE_WEBHOOK_SECRET")

SENDERS_SECRETS = frozenset({*_KEYS, "QSTASH_TOKEN"})
"""What the console does not get: it needs none of them."""

_REDIS = ("REDIS_URL", "REDIS_URL_FILE")

_OWN_PREFIX = "dev-"
"""How a prefix begins that belongs to one developer."""

_PUBLISHED = (
    "QSTASH_TOKEN is a published token of QStash's development server: anyone could have the keys "
    "of this run sign. Unset it (each run makes one), or set HOOKMILL_DEVELOPMENT=1 to use the "
    "published keys too"
)


class Made(NamedTuple):
    """What was made for this run: `variables`, and whether the emulator of QStash has to run,
    because QSTASH_URL names no service.
    """

    has_emulator: bool
    variables: dict[str, str]


def set_defaults(*, on_redis_url: bool) -> str:
    """Set what the settings are read with. Unless `on_redis_url` is true, no Redis that the user
    has set is used; return which setting names one ("" if none does).
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PORT", str(free_port(preferred=8080)))
    os.environ.setdefault("HOOKMILL_PUBLIC_URL", f"http://127.0.0.1:{os.environ['PORT']}")
    if on_redis_url:
        return ""
    ignored = [name for name in _REDIS if _remove(name)]
    ignored += [f"{name} in {TOML_FILE}" for name in read_toml([]) if name.upper() in _REDIS]
    # `use_server` sets the right one. Until then, this keeps the settings of the file from being
    # read: the file that they name may be on another machine.
    use_server("unix:///embedded")
    return " and ".join(ignored)


def use_server(url: str) -> None:
    """Have all programs use this Redis."""
    os.environ["REDIS_URL"] = url


def use_own_prefix(settings: Settings) -> str:
    """Have all programs use a prefix of this user's own, because others may use this Redis, too;
    return it. Raises `SettingsError` if no Redis is set.
    """
    if settings.redis_url is None:
        raise SettingsError(["--on-redis-url: REDIS_URL is not set"])
    is_own = settings.prefix.startswith(_OWN_PREFIX)
    prefix = settings.prefix if is_own else _OWN_PREFIX + _user()
    _remove("HOOKMILL_PREFIX")
    os.environ["HOOKMILL_PREFIX"] = prefix
    return prefix


def use_own_spool(settings: Settings) -> None:
    """Have the receiver use a spool of its own, if it is to use one."""
    if settings.spool is not None:
        os.environ["HOOKMILL_SPOOL"] = str(dev_files.FOLDER / "dev.spool")


def make_secrets(settings: Settings) -> Made:
    """Make keys, and the address and token of the emulator, as far as they are not set. Raises
    `SettingsError` if its token is a published one, and the keys are not to be.
    """
    made: dict[str, str] = {}
    has_emulator = not variables_set().get("QSTASH_URL")
    if not (settings.qstash_keys or settings.marble_secrets):
        if has_emulator and settings.token in PUBLIC_TOKENS and not settings.development:
            raise SettingsError([_PUBLISHED])
        made |= _keys(settings)
    if settings.console_tokens[0] is None:
        made["HOOKMILL_CONSOLE_TOKEN"] = fresh_token()
    # Another port than the emulator's, which is beside the receiver's.
    beside = free_port(_beside(settings.port) + 1 if settings.port < 65534 else 8090)
    os.environ.setdefault("HOOKMILL_CONSOLE_PORT", str(beside))
    if has_emulator:
        made["QSTASH_URL"] = f"http://127.0.0.1:{free_port(_beside(settings.port))}"
        if not settings.token:
            made["QSTASH_TOKEN"] = fresh_token()
    os.environ.update(made)
    return Made(has_emulator, made)


def _keys(settings: Settings) -> dict[str, str]:
    """Return keys for this run. Any user of this machine could sign with the public ones, so they
    are used only where the settings ask for them.
    """
    if settings.development:
        return dict(zip(_KEYS, (*DEVELOPMENT_KEYS, DEVELOPMENT_SECRET), strict=True))
    return {name: fresh_key() for name in _KEYS}


def _beside(port: int) -> int:
    """Return the port after the receiver's, so that runs with ports of their own do not meet: a
    port still looks free until the program that was told it listens.
    """
    return port + 1 if 1024 <= port < 65535 else 8081


def _remove(name: str) -> bool:
    """Remove a variable, however its name is written; return whether it was set."""
    found = [os.environ.pop(each) for each in list(os.environ) if each.upper() == name]
    return any(found)


def _user() -> str:
    """Return the name of this user, as it can stand in a key."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # there is no such user, as in some containers
        name = str(os.getuid())
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in name)
