"""The settings: read once from the environment and `hookmill.toml`, checked whole, then frozen.

Every fault is reported at once, by the name the operator wrote and without showing a secret.
A secret comes from its variable, or from the file that `<VARIABLE>_FILE` names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from hookmill.errors import SettingsError
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.qstash import DEVELOPMENT_KEYS

PREFIX = "HOOKMILL_"
TOML_FILE = "hookmill.toml"

_SECRETS = {
    "qstash_current_signing_key": "QSTASH_CURRENT_SIGNING_KEY",
    "qstash_next_signing_key": "QSTASH_NEXT_SIGNING_KEY",
    "marble_webhook_secret": "MARBLE_WEBHOOK_SECRET",
}


def _check_path(path: str) -> str:
    if not path.startswith("/") or "?" in path or "#" in path or not path.isascii():
        raise ValueError("a path begins with / and has neither ? nor #")
    return path


def _check_public_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("give the base URL the senders were given, such as https://app.example")
    return url.rstrip("/")


def _check_word(word: str) -> str:
    if not word or not word.isascii() or any(c in word for c in "{}: \t\r\n\0"):
        raise ValueError("use ASCII letters, digits, - _ and . (it becomes part of Redis keys)")
    return word


_Word = Annotated[str, AfterValidator(_check_word)]


class SourceOptions(BaseModel):
    """What a `[sources.NAME]` table may say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[str, AfterValidator(_check_path)] | None = None
    timestamped: bool = False


class Settings(BaseSettings):
    """All settings. A field's variable is its name in capitals after `HOOKMILL_`, unless named."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        toml_file=TOML_FILE,
        populate_by_name=True,
    )

    redis_url: str | None = Field(
        default=None,
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
    public_url: Annotated[str, AfterValidator(_check_public_url)] | None = Field(
        default=None,
        description="base URL that senders were given; a token's `sub` must equal it plus the "
        "received path and query. Unset: not checked",
    )
    development: bool = Field(default=False, description="accept the public development keys")
    clock_tolerance: float = Field(
        default=3.0, ge=0, le=300, description="seconds a sender's clock may differ (QStash)"
    )
    sources: Mapping[str, SourceOptions] = Field(
        default_factory=dict,
        description="[sources.NAME] tables: `path`, and for marble `timestamped`",
    )
    body_limit: int = Field(
        default=10 * 1024 * 1024, ge=1, description="bytes a body may have; beyond: 413"
    )
    read_timeout: float = Field(
        default=10.0, gt=0, description="seconds a sender may take to send a body"
    )
    append_timeout: float = Field(
        default=1.5, gt=0, description="seconds an append may take; beyond: 503"
    )
    retry_after: int = Field(
        default=5, ge=1, description="seconds the `Retry-After` of a 503 asks for"
    )
    prefix: _Word = Field(default="hookmill", description="what all keys in Redis begin with")
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
        description="seconds until a silent worker's messages are taken over",
    )
    dedup_window: int = Field(
        default=72 * 3600, ge=1, description="seconds a message ID is remembered, at least"
    )
    retention: float = Field(
        default=0.0, ge=0, description="seconds that handled messages stay in the stream"
    )
    grace: float = Field(
        default=600.0,
        ge=0,
        description="seconds a message waits for a release that knows its event type",
    )
    shutdown: float = Field(
        default=25.0, ge=0, description="seconds that running work may take after SIGTERM"
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
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def qstash_keys(self) -> list[str]:
        """QStash's signing keys, the current one first."""
        return _reveal(self.qstash_current_signing_key, self.qstash_next_signing_key)

    @property
    def marble_secrets(self) -> list[str]:
        """Marble's secrets."""
        return _reveal(self.marble_webhook_secret)

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
    given = {name: value for name, value in overrides.items() if value is not None}
    faults: list[str] = []
    given = _secrets_from_files(faults) | given
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise SettingsError(faults + [_fault(dict(e)) for e in error.errors()]) from None
    except ValueError as error:  # a TOML file that is none
        raise SettingsError([*faults, f"{TOML_FILE}: {error}"]) from None
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
        if name.startswith(PREFIX) and name.partition("__")[0] not in known
    )


def _secrets_from_files(faults: list[str]) -> dict[str, str]:
    found = {}
    for field, variable in _SECRETS.items():
        path = os.environ.get(f"{variable}_FILE")
        if not path or os.environ.get(variable):
            continue
        try:
            found[field] = Path(path).read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            faults.append(f"{variable}_FILE: {path} cannot be read: {type(error).__name__}")
    return found


def _cross_faults(settings: Settings) -> list[str]:
    faults = []
    for field, variable in _SECRETS.items():
        secret = getattr(settings, field)
        if secret is not None and not secret.get_secret_value().strip():
            faults.append(f"{variable} is empty: anyone could sign with it")
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
    faults += [
        f"sources.{name}: no such source (there are qstash and marble)"
        for name in settings.sources
        if name not in {"qstash", "marble"}
    ]
    if settings.options_of("qstash").timestamped:
        faults.append("sources.qstash.timestamped: only marble has a timestamped form")
    if settings.path_of("qstash") == settings.path_of("marble"):
        faults.append(f"sources.qstash and sources.marble share {settings.path_of('qstash')}")
    return faults


def _fault(error: dict[str, Any]) -> str:
    field, *rest = error["loc"]
    by_variable = {variable_of(name): name for name in Settings.model_fields}
    field = by_variable.get(str(field), str(field))
    name = variable_of(field) if field in Settings.model_fields else f"{TOML_FILE}: {field}"
    where = ".".join([name, *map(str, rest)])
    shown = "" if field in _SECRETS or field == "redis_url" else f" (got {error['input']!r})"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}{shown}"


def _reveal(*secrets: SecretStr | None) -> list[str]:
    return [secret.get_secret_value().strip() for secret in secrets if secret is not None]
