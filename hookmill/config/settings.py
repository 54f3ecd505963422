"""The settings: read once from the environment and `hookmill.toml`, checked whole, then frozen.

Every fault is reported at once, by the name the operator wrote and without showing a secret.
A secret comes from its variable, or from the file that `<VARIABLE>_FILE` names.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from hookmill.config.secrets import EMPTY
from hookmill.config.source_options import SourceOptions, spec_of
from hookmill.errors import SettingsError
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.qstash import DEVELOPMENT_KEYS

PREFIX = "HOOKMILL_"
TOML_FILE = "hookmill.toml"

_SECRETS = {
    "qstash_current_signing_key": "QSTASH_CURRENT_SIGNING_KEY",
    "qstash_next_signing_key": "QSTASH_NEXT_SIGNING_KEY",
    "marble_webhook_secret": "MARBLE_WEBHOOK_SECRET",
    "qstash_token": "QSTASH_TOKEN",
}

# Not shown in a fault: what may be a secret, or hold one.
_HIDDEN = {*_SECRETS, "redis_url", "qstash_url", "sources"}

# Shown of a source's table. Whoever writes a secret there may write it behind any other word.
_SHOWN_OF_SOURCES = {
    "acknowledge", "algorithm", "encoding", "handshake", "ordered_by", "path", "preset",
    "timestamped", "tolerance", "unit", "url",
}  # fmt: skip

_YEAR = 366 * 86_400
"""The longest that anything may be asked to take, in seconds."""


def _check_redis_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = bool(parts.path if parts.scheme == "unix" else parts.hostname) and parts.port != 0
    except ValueError:  # its text could show a piece of the password
        usable = False
    if not usable or parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError(
            "give redis://HOST:PORT/NUMBER, rediss:// for TLS, or unix://PATH; "
            "special characters in a password are written as %XX"
        )
    return url


def _check_public_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("give the base URL the senders were given, such as https://app.example")
    return url.rstrip("/")


def check_qstash_url(url: str) -> str:
    """Return the base URL of QStash's API. Raises `ValueError`, which does not show it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    is_plain = url.isascii() and url.isprintable() and not set(url) & set(" ?#@")
    if not usable or not is_plain:
        raise ValueError(
            "give the base URL of QStash's API, such as https://qstash-us-east-1.upstash.io; "
            "the token belongs into QSTASH_TOKEN"
        )
    return url.rstrip("/")


def _check_word(word: str) -> str:
    if not word or not word.isascii() or any(c in word for c in "{}: \t\r\n\0"):
        raise ValueError("use ASCII letters, digits, - _ and . (it becomes part of Redis keys)")
    return word


def _check_durability(level: str) -> str:
    kind, _, count = level.partition(":")
    if kind == "replicas" and count.isascii() and count.isdecimal() and 1 <= int(count) <= 99:
        return f"replicas:{int(count)}"
    if level not in {"memory", "aof"}:
        raise ValueError("use memory, aof, or replicas:N with N from 1 to 99")
    return level


_Word = Annotated[str, AfterValidator(_check_word)]


class Settings(BaseSettings):
    """All settings. A field's variable is its name in capitals after `HOOKMILL_`, unless named."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        allow_inf_nan=False,
    )

    redis_url: Annotated[str, AfterValidator(_check_redis_url)] | None = Field(
        default=None,
        repr=False,  # it may hold a password
        validation_alias=AliasChoices("REDIS_URL", "redis_url"),
        description="Redis or Valkey, such as redis://host:6379/0; rediss:// for TLS",
    )
    host: str = Field(default="0.0.0.0", description="address the receiver listens on")  # noqa: S104 - it stands behind a load balancer
    port: int = Field(
        default=8080,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("PORT", "port"),
        description="port the receiver listens on",
    )
    qstash_current_signing_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("QSTASH_CURRENT_SIGNING_KEY", "qstash_current_signing_key"),
        description="switches POST /qstash on",
    )
    qstash_next_signing_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("QSTASH_NEXT_SIGNING_KEY", "qstash_next_signing_key"),
        description="accepted as well, so that keys can be rolled",
    )
    marble_webhook_secret: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("MARBLE_WEBHOOK_SECRET", "marble_webhook_secret"),
        description="switches POST /marble on",
    )
    qstash_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("QSTASH_TOKEN", "qstash_token"),
        description="what `Sender` may publish with",
    )
    qstash_url: Annotated[str, AfterValidator(check_qstash_url)] = Field(
        default="https://qstash.upstash.io",
        validation_alias=AliasChoices("QSTASH_URL", "qstash_url"),
        description="QStash's API, as `Sender` reaches it: your region's, or a stand-in's",
    )
    public_url: Annotated[str, AfterValidator(_check_public_url)] | None = Field(
        default=None,
        description="base URL that senders were given; a token's `sub` must equal it plus the "
        "received path and query. Unset: not checked",
    )
    development: bool = Field(default=False, description="accept the public development keys")
    clock_tolerance: float = Field(
        default=3.0, ge=0, le=300, description="seconds a sender's clock may differ (QStash)"
    )
    sources: Annotated[Mapping[str, SourceOptions], NoDecode, AfterValidator(MappingProxyType)] = (
        Field(
            default_factory=lambda: MappingProxyType({}),
            description="[sources.NAME] tables: a sender each, see docs/sources.md",
        )
    )
    body_limit: int = Field(
        default=10 * 1024 * 1024, ge=1, description="bytes a body may have; beyond: 413"
    )
    read_timeout: float = Field(
        default=10.0, gt=0, le=_YEAR, description="seconds a sender may take to send a body"
    )
    append_timeout: float = Field(
        default=1.5, gt=0, le=_YEAR, description="seconds an append may take; beyond: 503"
    )
    retry_after: int = Field(
        default=5, ge=1, le=_YEAR, description="seconds the `Retry-After` of a 503 asks for"
    )
    durability: Annotated[str, AfterValidator(_check_durability)] = Field(
        default="memory",
        description="what a 200 waits for: `memory` (Redis has it), `aof` (and synced it to its "
        "disk), `replicas:N` (and N replicas have it)",
    )
    spool: Path | None = Field(
        default=None,
        description="file on a local disk that takes deliveries while Redis is away. Unset: 503",
    )
    spool_limit: int = Field(
        default=1024**3, ge=1024**2, description="bytes the spool may hold; beyond: 503"
    )
    queue_messages: int = Field(
        default=10_000,
        ge=1,
        description="messages that may wait in a receiver to be stored; beyond: 503",
    )
    queue_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1,
        description="bytes of bodies a receiver may hold at a time; beyond: 503",
    )
    backlog_messages: int = Field(
        default=1_000_000,
        ge=0,
        description="unfinished messages at which appends are refused with 503. 0: no limit",
    )
    backlog_bytes: int = Field(
        default=1024**3,
        ge=0,
        description="bytes of unfinished messages at which appends are refused. 0: no limit",
    )
    prefix: _Word = Field(default="hookmill", description="what all keys in Redis begin with")
    partitions: int = Field(
        default=1,
        ge=1,
        le=64,
        description="into how many partitions the stream is split; the same for receivers and "
        "workers",
    )
    handlers: str | None = Field(
        default=None, description="where the worker finds its handlers: MODULE:ATTRIBUTE"
    )
    group: _Word = Field(default="main", description="consumer group of the worker")
    concurrency: int = Field(
        default=100, ge=1, le=10_000, description="messages a worker handles at the same time"
    )
    threads: int = Field(
        default=16, ge=1, le=1000, description="threads for handlers that are plain functions"
    )
    lease: float = Field(
        default=60.0,
        ge=0.5,
        le=_YEAR,
        description="seconds until a silent worker's messages are taken over",
    )
    dedup_window: int = Field(
        default=72 * 3600,
        ge=1,
        le=_YEAR,
        description="seconds a message ID is remembered, at least",
    )
    retention: float = Field(
        default=0.0, ge=0, le=_YEAR, description="seconds that handled messages stay in the stream"
    )
    grace: float = Field(
        default=600.0,
        ge=0,
        le=_YEAR,
        description="seconds a message waits for a release that knows its event type",
    )
    shutdown: float = Field(
        default=25.0,
        ge=0,
        le=_YEAR,
        description="seconds that running work may take after SIGTERM",
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: readable on a terminal, JSON otherwise"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is logged"
    )

    @classmethod
    def settings_customise_sources(  # noqa: D102 - pydantic-settings' hook
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - we read no .env file
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - see *_FILE
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        public = {
            key: value for key, value in _read_toml([]).items() if key.lower() not in _SECRETS
        }
        return init_settings, env_settings, InitSettingsSource(settings_cls, public)

    @property
    def qstash_keys(self) -> list[str]:
        """QStash's signing keys, the current one first."""
        return _reveal(self.qstash_current_signing_key, self.qstash_next_signing_key)

    @property
    def marble_secrets(self) -> list[str]:
        """Marble's secrets."""
        return _reveal(self.marble_webhook_secret)

    @property
    def token(self) -> str | None:
        """QStash's token."""
        return next(iter(_reveal(self.qstash_token)), None)

    def options_of(self, source: str) -> SourceOptions:
        """Return what `[sources.NAME]` says."""
        return self.sources.get(source) or SourceOptions()

    def path_of(self, source: str) -> str:
        """Return the path of a source: `/NAME`, unless its table says otherwise."""
        return self.options_of(source).path or f"/{source}"

    def need_redis_url(self) -> str:
        """Return the Redis URL; raise `SettingsError` where none is set."""
        if self.redis_url is None:
            raise SettingsError(
                ["REDIS_URL is not set: give the Redis that receivers and workers share"]
            )
        return self.redis_url


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; what the command line gave (`overrides`, None: not given) goes first.

    Raises `SettingsError` with every fault.
    """
    options = {name: value for name, value in overrides.items() if value is not None}
    faults: list[str] = []
    _check_toml(_read_toml(faults), faults)
    given = _secrets_given(faults) | options
    try:
        settings = Settings(**given)
    except ValidationError as error:
        faults += [_fault(dict(found), options) for found in error.errors()]
        settings = Settings(**given | _defaults_of(found["loc"][0] for found in error.errors()))
    faults += _cross_faults(settings)
    if faults:
        raise SettingsError(faults)
    return settings


def variable_of(field: str) -> str:
    """Return the environment variable of a setting."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else PREFIX + field.upper()


def unknown_variables() -> list[str]:
    """Return the variables that look like ours and that nothing reads: misspelt, most likely."""
    known = {variable_of(field) for field in Settings.model_fields}
    return sorted(
        name
        for name in os.environ
        if name.startswith(PREFIX)
        and name not in known
        and not name.startswith(f"{PREFIX}SOURCES__")
    )


def _read_toml(faults: list[str]) -> dict[str, Any]:
    """Return what `hookmill.toml` says; nothing, and a fault, where it cannot be read."""
    try:
        return tomllib.loads(Path(TOML_FILE).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        faults.append(f"{TOML_FILE} cannot be read: {error.strerror}")
    except ValueError as error:
        faults.append(f"{TOML_FILE}: {error}")
    return {}


def _check_toml(given: dict[str, Any], faults: list[str]) -> None:
    known = {*Settings.model_fields, *map(variable_of, Settings.model_fields)}
    for key in given:
        if variable := _SECRETS.get(key.lower()):
            faults.append(
                f"{TOML_FILE}: {key}: a secret does not belong in a file that git may keep; "
                f"set {variable}, or {variable}_FILE to the path of a file that holds it"
            )
        elif key not in known:
            faults.append(f"{TOML_FILE}: {key}: there is no such setting")


def _secrets_given(faults: list[str]) -> dict[str, str]:
    """Return the secrets that stand in files.

    An empty variable is a fault, though other settings take it for one that is not set: whoever
    set it meant to switch the source on.
    """
    found: dict[str, str] = {}
    variables = _variables()
    for field, variable in _SECRETS.items():
        text, path = variables.get(variable), variables.get(f"{variable}_FILE")
        if path and text:
            faults.append(f"{variable} and {variable}_FILE are both set: keep one")
        elif path:
            try:
                found[field] = Path(path).read_text("utf-8").strip()
            except (OSError, ValueError) as error:
                faults.append(f"{variable}_FILE: {path} cannot be read: {type(error).__name__}")
            else:
                if not found[field]:
                    faults.append(f"{variable}_FILE: {path} {_empty(field)}")
        elif text == "" or path == "":
            faults.append(f"{variable if text == '' else f'{variable}_FILE'} {_empty(field)}")
    return found


def _empty(field: str) -> str:
    return "is empty" if field == "qstash_token" else EMPTY


def _variables() -> dict[str, str]:
    # Like pydantic-settings, without regard to case.
    return {name.upper(): value for name, value in os.environ.items()}


def _defaults_of(names: Iterable[int | str]) -> dict[str, Any]:
    """Stand-ins for faulty settings, with which the faults between settings show as well."""
    fields = {_field_of(name) for name in names}
    return {
        name: Settings.model_fields[name].get_default(call_default_factory=True) for name in fields
    }


def _field_of(name: int | str) -> str:
    by_variable = {variable_of(field): field for field in Settings.model_fields}
    return by_variable.get(str(name), str(name))


def _cross_faults(settings: Settings) -> list[str]:
    faults = []
    for field, variable in _SECRETS.items():
        secret = getattr(settings, field)
        text = "" if secret is None else secret.get_secret_value()
        if text.isspace():
            faults.append(f"{variable} {_empty(field)}")
        if not _is_utf8(text):
            faults.append(f"{variable} is not text in UTF-8")
    if settings.qstash_next_signing_key and not settings.qstash_current_signing_key:
        faults.append("QSTASH_NEXT_SIGNING_KEY is set, QSTASH_CURRENT_SIGNING_KEY is not")
    public = {*DEVELOPMENT_KEYS, DEVELOPMENT_SECRET}
    if not settings.development and public.intersection(
        [*settings.qstash_keys, *settings.marble_secrets]
    ):
        faults.append(
            "the signing keys are public development keys: anyone can sign with them. "
            f"Set {PREFIX}DEVELOPMENT=1 to accept them on a developer's machine"
        )
    if settings.queue_bytes < settings.body_limit:
        faults.append(
            f"{PREFIX}QUEUE_BYTES is less than {PREFIX}BODY_LIMIT: the largest body would never fit"
        )
    faults += _source_faults(settings)
    return faults


def _source_faults(settings: Settings) -> Iterator[str]:
    paths: dict[str, str] = {}
    # These two may be switched on by their keys alone.
    for name in ("qstash", "marble", *(set(settings.sources) - {"qstash", "marble"})):
        try:
            spec_of(name, settings.options_of(name))
        except ValueError as error:
            yield from str(error).splitlines()
        other = paths.setdefault(settings.path_of(name), name)
        if other != name:
            yield f"sources.{other} and sources.{name} share {settings.path_of(name)}"


def _fault(error: dict[str, Any], options: Mapping[str, Any]) -> str:
    """Say what is wrong with a setting, by the name under which it was given."""
    field, rest = _field_of(error["loc"][0]), [str(part) for part in error["loc"][1:]]
    variables = _variables()
    nested = "__".join([variable_of(field), *rest]).upper()
    if field in options:
        name = f"--{field}"
    elif nested in variables:
        name = nested
    elif variable_of(field) in variables:
        name = variable_of(field)
    else:
        name = f"{TOML_FILE}: {'.'.join([field, *rest])}"
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such setting"
    may_show = rest[-1] in _SHOWN_OF_SOURCES if rest else field not in _HIDDEN
    shown = f" (got {error['input']!r})" if may_show else ""
    return f"{name}: {error['msg'].removeprefix('Value error, ')}{shown}"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # the environment's bytes were something else
        return False
    return True


def _reveal(*secrets: SecretStr | None) -> list[str]:
    return [secret.get_secret_value().strip() for secret in secrets if secret is not None]
