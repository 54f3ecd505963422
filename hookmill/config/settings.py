"""The settings: read once from the environment and `hookmill.toml`, checked, then frozen.

All faults are reported at once, each under the name that the operator used, and no secret is shown.
A secret comes from its variable, or from the file that `<VARIABLE>_FILE` names.
"""

# Long because: it has one field for each setting, with what its documentation says.

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
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

from hookmill.config.redis_url import check_redis_url
from hookmill.config.setting_faults import faults_between, field_of, toml_faults, value_fault
from hookmill.config.setting_files import (
    SECRET_VARIABLES,
    read_toml,
    redis_url_from_file,
    secrets_from_files,
    variables_set,
)
from hookmill.config.setting_values import (
    check_addresses,
    check_durability,
    check_header_name,
    check_host,
    check_key_part,
    check_processes,
    check_public_url,
    check_qstash_url,
    check_target,
)
from hookmill.config.source_options import SourceOptions
from hookmill.errors import SettingsError, see

PREFIX = "HOOKMILL_"

_YEAR = 366 * 86_400
"""The longest time that a setting accepts, in seconds."""

_toml: ContextVar[Mapping[str, Any] | None] = ContextVar("toml", default=None)
"""What `hookmill.toml` says, while `settings_with` makes settings from it."""

_KeyPart = Annotated[str, AfterValidator(check_key_part)]

DEFAULT_GROUP = "main"
"""The one consumer group that its first worker makes."""


class Settings(BaseSettings):
    """All settings. The variable of a field is `HOOKMILL_` and its name in capitals, unless the
    field names another. `description` is what the settings table of the documentation says.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        allow_inf_nan=False,
    )

    redis_url: Annotated[str, AfterValidator(check_redis_url)] | None = Field(
        default=None,
        repr=False,  # it may hold a password
        validation_alias=AliasChoices("REDIS_URL", "redis_url"),
        description="URL of Redis or Valkey, such as redis://host:6379/0; rediss:// for TLS, "
        "redis+cluster:// and redis+sentinel:// for several servers",
    )
    redis_url_file: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("REDIS_URL_FILE", "redis_url_file"),
        description="file that holds the URL instead. Receivers and workers read user and password "
        "from it again for each new connection",
    )
    host: str = Field(default="0.0.0.0", description="address that the receiver listens on")  # noqa: S104 - a load balancer is in front of it
    port: int = Field(
        default=8080,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("PORT", "port"),
        description="port that the receiver listens on",
    )
    admin_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="port at which a receiver or a worker answers /healthz, /readyz and /metrics "
        "to those who run it. Unset: it does not. 0: a port that is free, which the log names",
    )
    admin_host: Annotated[str, AfterValidator(check_host)] = Field(
        default="127.0.0.1", description="address that a program listens on with that port"
    )
    metrics_types: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="event types that the metrics of a program tell apart; all that come beyond so "
        "many are shown as `other`",
    )
    qstash_current_signing_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("QSTASH_CURRENT_SIGNING_KEY", "qstash_current_signing_key"),
        description="switches POST /qstash on",
    )
    qstash_next_signing_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("QSTASH_NEXT_SIGNING_KEY", "qstash_next_signing_key"),
        description="accepted as well, so that keys can be rotated",
    )
    marble_webhook_secret: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("MARBLE_WEBHOOK_SECRET", "marble_webhook_secret"),
        description="switches POST /marble on",
    )
    qstash_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("QSTASH_TOKEN", "qstash_token"),
        description="token that `Sender` publishes with",
    )
    qstash_url: Annotated[str, AfterValidator(check_qstash_url)] = Field(
        default="https://qstash.upstash.io",
        validation_alias=AliasChoices("QSTASH_URL", "qstash_url"),
        description="URL of QStash's API for `Sender`: your region's, or that of the emulator",
    )
    public_url: Annotated[str, AfterValidator(check_public_url)] | None = Field(
        default=None,
        description="base URL that senders were given. The `sub` of a QStash token must be this "
        "URL with the received path and query. Unset: `sub` is not checked",
    )
    development: bool = Field(
        default=False,
        description="accept the public development keys, where `HOOKMILL_HOST` is a loopback "
        "address such as 127.0.0.1",
    )
    clock_tolerance: float = Field(
        default=3.0, ge=0, le=300, description="seconds that the clock of QStash may differ"
    )
    sources: Annotated[Mapping[str, SourceOptions], NoDecode, AfterValidator(MappingProxyType)] = (
        Field(
            default_factory=lambda: MappingProxyType({}),
            description="`[sources.NAME]` tables, one for each sender: "
            + see("reference/sources.md"),
        )
    )
    processes: Annotated[int, BeforeValidator(check_processes)] = Field(
        default=1,
        ge=1,
        le=256,
        description="processes that `hookmill receiver` and `hookmill worker` run, under a parent. "
        "`auto`: as many as there are CPUs that they may use. Other limits are for each process",
    )
    body_limit: int = Field(
        default=10 * 1024 * 1024,
        ge=1,
        description="bytes that a body may have; a larger one gets 413",
    )
    read_timeout: float = Field(
        default=10.0, gt=0, le=_YEAR, description="seconds that a sender may take to send a body"
    )
    append_timeout: float = Field(
        default=1.5,
        gt=0,
        le=_YEAR,
        description="seconds that an append may take; after that the answer is 503",
    )
    retry_after: int = Field(
        default=5, ge=1, le=_YEAR, description="seconds that the `Retry-After` of a 503 asks for"
    )
    durability: Annotated[str, AfterValidator(check_durability)] = Field(
        default="memory",
        description="what a 200 waits for: `memory` (Redis has the message), `aof` (Redis has also "
        "synced it to its disk), `replicas:N` (N replicas have it too)",
    )
    spool: Path | None = Field(
        default=None,
        description="file on a local disk that stores deliveries while Redis cannot be reached. "
        "Unset: they get 503",
    )
    spool_limit: int = Field(
        default=1024**3, ge=1024**2, description="bytes that the spool may hold; more get 503"
    )
    queue_messages: int = Field(
        default=10_000,
        ge=1,
        description="messages that may wait in a receiver to be stored; more get 503",
    )
    queue_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1,
        description="bytes of bodies that a receiver may hold at a time; more get 503. Of bodies "
        "that arrive in parts, a source may hold half of what the others leave free, or one body",
    )
    connections: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="connections that a receiver keeps open at a time; beyond that, each new one "
        "closes an idle or an unfinished one. Unset: as many as the limit of open files allows, at "
        "most 10,000",
    )
    backlog_messages: int = Field(
        default=1_000_000,
        ge=0,
        description="unfinished messages from which on deliveries get 503. 0: no limit",
    )
    backlog_bytes: int = Field(
        default=1024**3,
        ge=0,
        description="bytes of unfinished messages from which on deliveries get 503. 0: no limit",
    )
    prefix: _KeyPart = Field(
        default="hookmill", description="text that all keys in Redis begin with"
    )
    partitions: int = Field(
        default=1,
        ge=1,
        le=64,
        description="partitions of the stream; receivers and workers need the same number",
    )
    handlers: str | None = Field(
        default=None, description="where the worker finds its handlers: MODULE:ATTRIBUTE"
    )
    group: _KeyPart = Field(default=DEFAULT_GROUP, description="consumer group of the worker")
    concurrency: int = Field(
        default=100, ge=1, le=10_000, description="messages that a worker handles at the same time"
    )
    take_bytes: int = Field(
        default=16 * 1024 * 1024,
        ge=1,
        description="bytes of unfinished messages that a worker holds. The message that passes it "
        "is the last one that it takes until it has finished others",
    )
    threads: int = Field(
        default=16, ge=1, le=1000, description="threads for handlers that are a plain `def`"
    )
    stuck_threads: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="when so many threads run beyond the `timeout` of their handler, the worker "
        "ends, so that a fresh one can start. Unset: half of `HOOKMILL_THREADS`. 0: never",
    )
    keep_refused: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="refused deliveries that receivers keep in Redis for an hour, with an "
        "explanation, so that `hookmill refused` can show them. 0: none",
    )
    lease: float = Field(
        default=60.0,
        ge=0.5,
        le=_YEAR,
        description="seconds that a worker may be silent before others take over its messages",
    )
    dedup_window: int = Field(
        default=72 * 3600,
        ge=1,
        le=_YEAR,
        description="seconds that a message ID is remembered at least, so that duplicates are "
        "dropped. A source's `dedup_window` may be shorter",
    )
    retention: float = Field(
        default=0.0,
        ge=0,
        le=_YEAR,
        description="seconds that a handled message stays in the stream",
    )
    dead_age: float = Field(
        default=0.0,
        ge=0,
        le=100 * _YEAR,
        description="seconds after which a worker drops a dead letter. 0: never",
    )
    dead_messages: int = Field(
        default=0,
        ge=0,
        description="dead letters that a group may have; a worker drops the oldest beyond that. "
        "0: no limit",
    )
    dead_bytes: int = Field(
        default=0,
        ge=0,
        description="bytes of Redis' memory that a group's dead letters may take; a worker drops "
        "the oldest beyond that. 0: no limit",
    )
    history: int = Field(
        default=100_000,
        ge=0,
        le=100_000_000,
        description="messages of which a group keeps what became of each attempt, for `hookmill "
        "message`; the oldest make room for new ones. 0: none",
    )
    history_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024**2,
        description="bytes of Redis' memory that this may take for a group, about. Half of them "
        "are for failed attempts with their errors",
    )
    grace: float = Field(
        default=600.0,
        ge=0,
        le=_YEAR,
        description="seconds that messages whose event type no handler knows wait for a newer "
        "release, from the first one of the type on; then they become dead letters",
    )
    shutdown: float = Field(
        default=25.0,
        ge=0,
        le=_YEAR,
        description="seconds that a stop may take after SIGTERM. In a worker, handlers have all "
        "but the last 5 of them (or all but the last quarter, if that is less)",
    )
    console_host: Annotated[str, AfterValidator(check_host)] = Field(
        default="127.0.0.1",
        description="address that `hookmill console` listens on. Beyond this machine it needs a "
        "token",
    )
    console_port: int = Field(
        default=8090, ge=0, le=65535, description="port that `hookmill console` listens on"
    )
    console_token: SecretStr | None = Field(
        default=None,
        description="token with which a person logs in to the console and may act. Unset: the "
        "console shows, and changes nothing",
    )
    console_reader_token: SecretStr | None = Field(
        default=None, description="token with which a person logs in and may only look"
    )
    console_url: Annotated[str, AfterValidator(check_public_url)] | None = Field(
        default=None,
        description="URL at which browsers reach the console through a proxy, such as "
        "https://hookmill.example",
    )
    console_session: float = Field(
        default=8 * 3600.0,
        ge=60,
        le=_YEAR,
        description="seconds after which a person has to log in to the console again; an eighth "
        "of that without a request is enough",
    )
    console_trusted_header: Annotated[str, AfterValidator(check_header_name)] | None = Field(
        default=None,
        description="header with the name of a person whom the proxy in front of the console has "
        "logged in. It counts only from the addresses of `HOOKMILL_CONSOLE_TRUSTED_PROXIES`",
    )
    console_trusted_proxies: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(check_addresses)
    ] = Field(
        default=(),
        description="addresses of these proxies, with commas between them. The proxy has to remove "
        "this header from what it is sent",
    )
    console_trusted_role: Literal["reader", "operator"] = Field(
        default="reader", description="what a person may do whom the proxy has logged in"
    )
    traces: Literal["off", "linked", "joined"] = Field(
        default="off",
        description="make spans with OpenTelemetry (needs the extra `otel`). `joined`: one trace "
        "from the delivery to the last attempt. `linked`: each attempt begins a trace of its own, "
        "with a link to the delivery's",
    )
    traces_sample: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="share of deliveries that are traced, such as 0.01. 1: OpenTelemetry's sampler "
        "is asked for each, which costs more",
    )
    traces_setup: Annotated[str, AfterValidator(check_target)] | None = Field(
        default=None,
        description="function that receiver and worker call once when they start, to set up "
        "OpenTelemetry's SDK: MODULE:FUNCTION",
    )
    operator: str | None = Field(
        default=None,
        description="who is recorded for the commands that act, see `hookmill audit`. Unset: the "
        "user of this machine, and its name",
    )
    drain: float = Field(
        default=0.0,
        ge=0,
        le=_YEAR,
        description="seconds of `HOOKMILL_SHUTDOWN` for which a receiver that is asked to stop "
        "still accepts deliveries, while `/readyz` says no, so that load balancers notice. A "
        "second signal ends them. 0: it stops listening at once",
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto`: text on a terminal, JSON otherwise"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="lowest level that is logged"
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
        toml = _toml.get()
        public = {
            key: value
            for key, value in (read_toml([]) if toml is None else toml).items()
            if key.lower() not in SECRET_VARIABLES
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

    @property
    def console_tokens(self) -> tuple[str | None, str | None]:
        """The tokens of the console: the operator's and the reader's."""
        operator, reader = self.console_token, self.console_reader_token
        return next(iter(_reveal(operator)), None), next(iter(_reveal(reader)), None)

    def options_of(self, source: str) -> SourceOptions:
        """Return the table `[sources.NAME]`, an empty one if there is none."""
        return self.sources.get(source) or SourceOptions()

    def path_of(self, source: str) -> str:
        """Return the path of a source: `/NAME`, or the `path` of its table."""
        return self.options_of(source).path or f"/{source}"

    @property
    def stuck_limit(self) -> int:
        """The number of stuck threads at which a worker ends; 0: it never does."""
        return max(1, self.threads // 2) if self.stuck_threads is None else self.stuck_threads

    @property
    def redis_variable(self) -> str:
        """The variable that says where Redis is."""
        return "REDIS_URL" if self.redis_url_file is None else "REDIS_URL_FILE"

    def need_redis_url(self) -> str:
        """Return the Redis URL. Raises `SettingsError` if none is set."""
        if self.redis_url is None:
            raise SettingsError(
                ["REDIS_URL is not set: give the Redis that receivers and workers share"]
            )
        return self.redis_url


def load_settings(**overrides: Any) -> Settings:
    """Read the settings. `overrides` are the options of the command line, which go before all
    else; None means that an option was not given.

    Raises `SettingsError` with every fault.
    """
    options = {name: value for name, value in overrides.items() if value is not None}
    faults: list[str] = []
    names = variables()
    toml = read_toml(faults)
    faults += toml_faults(toml, names)
    given = secrets_from_files(faults) | redis_url_from_file(toml, faults) | options
    try:
        settings = settings_with(toml, given)
    except ValidationError as error:
        faults += [value_fault(dict(found), options, names) for found in error.errors()]
        faulty = {field_of(found["loc"][0], names) for found in error.errors()}
        settings = settings_with(toml, given | _defaults_of(faulty))
    faults += faults_between(settings)
    if faults:
        raise SettingsError(faults)
    return settings


def settings_with(toml: Mapping[str, Any], given: Mapping[str, Any]) -> Settings:
    """Return the settings of a `hookmill.toml` that was read, the environment, and what is `given`.

    Raises pydantic's `ValidationError`.
    """
    token = _toml.set(toml)
    try:
        return Settings(**given)
    finally:
        _toml.reset(token)


def variables() -> dict[str, str]:
    """Return the environment variable of each setting."""
    return {field: variable_of(field) for field in Settings.model_fields}


def variable_of(field: str) -> str:
    """Return the environment variable of a setting."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else PREFIX + field.upper()


def setting_given(field: str) -> Any:
    """Return one setting as it is given, not checked; None if it is not. Nothing else is read."""
    variable, toml = variable_of(field), read_toml([])
    return variables_set().get(variable) or toml.get(field) or toml.get(variable)


def unknown_variables() -> list[str]:
    """Return the variables that begin with `HOOKMILL_` but are no setting: probably misspelt."""
    known = {variable_of(field) for field in Settings.model_fields}
    known |= {f"{variable}_FILE" for variable in SECRET_VARIABLES.values()}
    return sorted(
        name
        for name in os.environ
        if name.startswith(PREFIX)
        and name not in known
        and not name.startswith(f"{PREFIX}SOURCES__")
    )


def _defaults_of(fields: Iterable[str]) -> dict[str, Any]:
    """Return the defaults of faulty settings, so that faults between settings are found as well."""
    return {
        name: Settings.model_fields[name].get_default(call_default_factory=True) for name in fields
    }


def _reveal(*secrets: SecretStr | None) -> list[str]:
    return [secret.get_secret_value().strip() for secret in secrets if secret is not None]
