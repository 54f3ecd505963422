"""What is wrong with the settings, in words: unknown names, wrong values, contradictions.

`variables` is always the environment variable of each field of `Settings`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hookmill.config.setting_files import (
    SECRET_VARIABLES,
    TOML_FILE,
    empty_secret,
    variables_set,
)
from hookmill.config.source_options import spec_of
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.qstash import PUBLIC_KEYS

if TYPE_CHECKING:
    from hookmill.config.settings import Settings

# A fault does not show the value of these, because it may be a secret or hold one.
_HIDDEN = {*SECRET_VARIABLES, "redis_url", "qstash_url", "sources"}

# Of a source's table, a fault shows only these words: a secret may stand behind any other by
# mistake.
_SHOWN_OF_SOURCES = {
    "acknowledge", "algorithm", "encoding", "handshake", "ordered_by", "path", "preset",
    "timestamped", "tolerance", "trusted_trace", "unit", "url",
}  # fmt: skip


SHORTEST_TOKEN = 16
"""Characters that a token of the console has at least, because it is all that one has to guess."""

_CONSOLE_TOKENS = ("HOOKMILL_CONSOLE_TOKEN", "HOOKMILL_CONSOLE_READER_TOKEN")

_UNKNOWN = "there is no such setting, check its spelling"


def field_of(name: int | str, variables: Mapping[str, str]) -> str:
    """Return the field of a name that pydantic reports: the field's own, or its variable."""
    by_variable = {variable: field for field, variable in variables.items()}
    return by_variable.get(str(name), str(name))


def value_fault(
    error: dict[str, Any], options: Mapping[str, Any], variables: Mapping[str, str]
) -> str:
    """Return what is wrong with a value, under the name that the operator used for the setting.

    `error` is one of pydantic's, `options` are those of the command line.
    """
    field, rest = field_of(error["loc"][0], variables), [str(part) for part in error["loc"][1:]]
    given = variables_set()
    nested = "__".join([variables[field], *rest]).upper()
    if field in options:
        name = f"--{field}"
    elif nested in given:
        name = nested
    elif variables[field] in given:
        name = variables[field]
    else:
        name = f"{TOML_FILE}: {'.'.join([field, *rest])}"
    if error["type"] == "extra_forbidden":
        return f"{name}: {_UNKNOWN}"
    may_show = rest[-1] in _SHOWN_OF_SOURCES if rest else field not in _HIDDEN
    shown = f" (got {error['input']!r})" if may_show else ""
    return f"{name}: {error['msg'].removeprefix('Value error, ')}{shown}"


def toml_faults(given: Iterable[str], variables: Mapping[str, str]) -> list[str]:
    """Return the names in `hookmill.toml` that are unknown, or that are secrets."""
    faults = []
    for key in given:
        if variable := SECRET_VARIABLES.get(key.lower()):
            faults.append(
                f"{TOML_FILE}: {key}: a secret does not belong in a file that git may keep; "
                f"set {variable}, or {variable}_FILE to the path of a file that holds it"
            )
        elif key not in variables and key not in variables.values():
            faults.append(f"{TOML_FILE}: {key}: {_UNKNOWN}")
    return faults


def faults_between(settings: Settings) -> list[str]:
    """Return every fault of settings that are each right by themselves."""
    return [
        *_secret_faults(settings),
        *limit_faults(settings),
        *_console_faults(settings),
        *_drain_faults(settings),
        *_source_faults(settings),
    ]


def _drain_faults(settings: Settings) -> Iterator[str]:
    if settings.drain and settings.drain >= settings.shutdown:
        yield (
            f"HOOKMILL_DRAIN: {settings.drain:g} s must be less than HOOKMILL_SHUTDOWN "
            f"({settings.shutdown:g} s), of which it is a part: the rest is for the deliveries "
            "that are on their way then"
        )


def _secret_faults(settings: Settings) -> Iterator[str]:
    for field, variable in SECRET_VARIABLES.items():
        secret = getattr(settings, field)
        text = "" if secret is None else secret.get_secret_value()
        if text.isspace():
            yield (f"{variable} {empty_secret(field)}")
        if not _is_utf8(text):
            yield (f"{variable} is not text in UTF-8")
    if settings.qstash_next_signing_key and not settings.qstash_current_signing_key:
        yield ("QSTASH_NEXT_SIGNING_KEY is set, QSTASH_CURRENT_SIGNING_KEY is not: set both")
    public = {*PUBLIC_KEYS, DEVELOPMENT_SECRET}
    if not settings.development and public.intersection(
        [*settings.qstash_keys, *settings.marble_secrets]
    ):
        yield (
            "the signing keys are public development keys: anyone can sign with them. "
            "Set HOOKMILL_DEVELOPMENT=1 to accept them on a developer's machine"
        )


def limit_faults(settings: Settings) -> Iterator[str]:
    """Yield what is wrong between limits that are each right by themselves."""
    if settings.queue_bytes < settings.body_limit:
        yield ("HOOKMILL_QUEUE_BYTES is less than HOOKMILL_BODY_LIMIT: give it as many bytes")
    if settings.stuck_limit > settings.threads:
        yield (
            "HOOKMILL_STUCK_THREADS is more than HOOKMILL_THREADS: it would never be reached; "
            "give 0 if that is meant"
        )


def _console_faults(settings: Settings) -> Iterator[str]:
    tokens = dict(zip(_CONSOLE_TOKENS, settings.console_tokens, strict=True))
    for variable, token in tokens.items():
        if token is not None and 0 < len(token) < SHORTEST_TOKEN:
            yield (
                f"{variable} has fewer than {SHORTEST_TOKEN} characters: make one with "
                "`openssl rand -hex 24`"
            )
    first, second = tokens.values()
    if first is not None and first == second:
        yield (f"{' and '.join(tokens)} are the same: give readers a token of their own")
    if bool(settings.console_trusted_header) != bool(settings.console_trusted_proxies):
        yield (
            "HOOKMILL_CONSOLE_TRUSTED_HEADER and HOOKMILL_CONSOLE_TRUSTED_PROXIES belong "
            "together: set both, so that the header counts only from these proxies"
        )


def _source_faults(settings: Settings) -> Iterator[str]:
    paths: dict[str, str] = {}
    # A key alone can switch these two on, without a table.
    for name in ("qstash", "marble", *(set(settings.sources) - {"qstash", "marble"})):
        try:
            spec_of(name, settings.options_of(name))
        except ValueError as error:
            yield from str(error).splitlines()
        other = paths.setdefault(settings.path_of(name), name)
        if other != name:
            path = settings.path_of(name)
            yield f"sources.{other} and sources.{name} share {path}: give one another path"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # the bytes in the environment were not UTF-8
        return False
    return True
