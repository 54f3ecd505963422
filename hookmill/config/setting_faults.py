"""Faults that show only when several settings are seen together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hookmill.config.setting_files import SECRET_VARIABLES, empty_secret
from hookmill.config.source_options import spec_of
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.qstash import DEVELOPMENT_KEYS

if TYPE_CHECKING:
    from hookmill.config.settings import Settings


def faults_between(settings: Settings) -> list[str]:
    """Return every fault of settings that are each right by themselves."""
    return [
        *_secret_faults(settings),
        *_limit_faults(settings),
        *_source_faults(settings),
    ]


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
    public = {*DEVELOPMENT_KEYS, DEVELOPMENT_SECRET}
    if not settings.development and public.intersection(
        [*settings.qstash_keys, *settings.marble_secrets]
    ):
        yield (
            "the signing keys are public development keys: anyone can sign with them. "
            "Set HOOKMILL_DEVELOPMENT=1 to accept them on a developer's machine"
        )


def _limit_faults(settings: Settings) -> Iterator[str]:
    if settings.queue_bytes < settings.body_limit:
        yield ("HOOKMILL_QUEUE_BYTES is less than HOOKMILL_BODY_LIMIT: give it as many bytes")


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
