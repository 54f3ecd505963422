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
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hookmill.errors import SettingsError
from hookmill.signatures import Secret

EMPTY = "is empty: anyone could sign with it"

SHORTEST = 8
"""A secret with fewer characters is refused, because it could be guessed."""


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
    def label(self) -> str:
        """Its name in logs, metrics and reports."""
        return f"env:{self.env}" if self.env is not None else f"file:{self.file}"


def default_refs(source: str) -> tuple[SecretRef, ...]:
    """Return where a source's secret stands if its table does not say it: in the variable
    `<NAME>_WEBHOOK_SECRET`, or in the file that `<NAME>_WEBHOOK_SECRET_FILE` names.
    """
    variable = variable_of(source)
    if path := os.environ.get(f"{variable}_FILE"):
        return (SecretRef(file=Path(path)),)
    return (SecretRef(env=variable),)


def variable_of(source: str) -> str:
    """Return the variable that holds a source's secret if its table names no other."""
    return "".join(c if c.isalnum() else "_" for c in source.upper()) + "_WEBHOOK_SECRET"


def read(source: str, refs: Iterable[SecretRef]) -> list[Secret]:
    """Read a source's secrets. Raises `SettingsError` with every fault."""
    found: list[Secret] = []
    faults: list[str] = []
    for ref in refs:
        try:
            lines = _lines(ref)
        except ValueError as error:
            faults.append(f"sources.{source}: {error}")
            continue
        starts, ends = _moment(ref.starts, -math.inf), _moment(ref.until, math.inf)
        found += [Secret(line, ref.label, starts, ends) for line in lines]
        faults += [
            f"sources.{source}: {ref.label} has fewer than {SHORTEST} characters: it could be "
            "guessed"
            for line in lines
            if len(line) < SHORTEST
        ]
    if faults:
        raise SettingsError(faults)
    return found


def _lines(ref: SecretRef) -> list[str]:
    text = os.environ.get(ref.env or "")
    if ref.file is not None:
        try:
            text = ref.file.read_text("utf-8")
        except (OSError, ValueError) as error:
            raise ValueError(f"{ref.file} cannot be read: {type(error).__name__}") from None
    if text is None:
        raise ValueError(f"{ref.env} is not set: it must hold the signing secret")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{ref.label} {EMPTY}")
    return lines


def _moment(moment: datetime | None, otherwise: float) -> float:
    if moment is None:
        return otherwise
    # Without a zone it means UTC; timestamp() alone would read it as local time.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
