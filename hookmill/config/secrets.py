"""Signing secrets: where the secrets of a source stand, and in which time each one is valid.

A secret is in an environment variable or a file, never in `hookmill.toml`. Both may hold
several secrets, one a line. A file is read again on demand, so that a new secret can be added
beside the old one without a restart.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hookmill.config.files import UnreadableError, read_text
from hookmill.errors import SettingsError
from hookmill.signatures import Secret

EMPTY = "is empty: anyone could sign with it"

SHORTEST = 8
"""A secret with fewer bytes is refused, because it could be guessed."""

TOO_SHORT = f"has fewer than {SHORTEST} bytes: it could be guessed"


class SecretRef(BaseModel):
    """Where a secret stands: `env:NAME`, `file:PATH`, or a table that also says in which time it is
    valid (`from`, `until`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    env: str | None = None
    file: Path | None = None
    starts: datetime | None = Field(default=None, alias="from")
    until: datetime | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_short_form(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        kind, _, rest = given.partition(":")
        if kind not in {"env", "file"} or not rest:
            # The error does not show the text, because it may be the secret itself.
            raise ValueError("write env:NAME or file:PATH: a secret does not belong in this file")
        return {kind: rest}

    @model_validator(mode="after")
    def _check(self) -> SecretRef:
        if (self.env is None) == (self.file is None):
            raise ValueError("give either env or file")
        return self

    @property
    def place(self) -> str:
        """Where it stands, for errors."""
        return f"env:{self.env}" if self.env is not None else f"file:{self.file}"

    @property
    def label(self) -> str:
        """Its name in logs, metrics and reports: that of a file is shown without its path."""
        return self.place if self.file is None else f"file:{self.file.name}"


class FoundSecret(NamedTuple):
    """A secret, and where it stands, for errors."""

    secret: Secret
    place: str


class FoundSecrets(NamedTuple):
    """The secrets that could be read, and what is wrong with the others."""

    secrets: tuple[FoundSecret, ...]
    faults: tuple[str, ...] = ()


def default_refs(source: str) -> tuple[SecretRef, ...]:
    """Return where a source's secret stands if its table does not say it: in the variable
    `<NAME>_WEBHOOK_SECRET`, or in the file that `<NAME>_WEBHOOK_SECRET_FILE` names.
    """
    variable = secret_variable_of(source)
    if path := os.environ.get(f"{variable}_FILE"):
        return (SecretRef(file=Path(path)),)
    return (SecretRef(env=variable),)


def secret_variable_of(source: str) -> str:
    """Return the variable that holds a source's secret if its table names no other."""
    return "".join(c if c.isalnum() else "_" for c in source.upper()) + "_WEBHOOK_SECRET"


def find(refs: Iterable[SecretRef]) -> FoundSecrets:
    """Read secrets. Raises nothing: what is wrong is in `faults`."""
    found: list[FoundSecret] = []
    faults: list[str] = []
    for ref in refs:
        window = _moment(ref.starts, -math.inf), _moment(ref.until, math.inf)
        lines = _lines(ref, faults)
        found += [FoundSecret(Secret(line, ref.label, *window), ref.place) for line in lines]
    return FoundSecrets(tuple(found), tuple(faults))


def secrets_in(text: str, place: str, faults: list[str]) -> list[str]:
    """Return the secrets in a text, one a line. `place` says where the text stands, for `faults`.

    A comment is a fault: it would count as a secret that everybody can guess.
    """
    if "-----BEGIN " in text:
        faults.append(f"{place} holds a PEM file: give the secret as the sender shows it")
        return []
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        faults.append(f"{place} {EMPTY}")
    # A variable with one line holds no comment, so there it may be the secret's first character.
    is_variable = place.startswith("env:") and len(lines) == 1
    comments = {number for number, line in lines if line.startswith("#") and not is_variable}
    faults += [
        f"{place}, line {number}: it begins with # like a comment, but each line is a secret: "
        "remove it"
        for number in sorted(comments)
    ]
    return [line for number, line in lines if number not in comments]


def _lines(ref: SecretRef, faults: list[str]) -> list[str]:
    if ref.file is not None:
        try:
            return secrets_in(read_text(ref.file), ref.place, faults)
        except UnreadableError as error:
            faults.append(str(error))
            return []
    text = os.environ.get(ref.env or "")
    if text is None:
        faults.append(f"{ref.env} is not set: it must hold the signing secret")
        return []
    return secrets_in(text, ref.place, faults)


def one_secret(ref: SecretRef) -> str:
    """Return the first secret that stands somewhere. Raises `SettingsError` with every fault."""
    found = find([ref])
    faults = [*found.faults]
    faults += [f"{one.place} {TOO_SHORT}" for one in found.secrets if is_too_short(one.secret.text)]
    if faults:
        raise SettingsError(faults)
    return found.secrets[0].secret.text


def is_too_short(text: str) -> bool:
    """Return whether a text has so few bytes that it could be guessed."""
    return len(text.encode("utf-8", "surrogatepass")) < SHORTEST


def _moment(moment: datetime | None, otherwise: float) -> float:
    if moment is None:
        return otherwise
    # Without a zone it means UTC; timestamp() alone would read it as local time.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
