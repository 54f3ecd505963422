"""The files that hold settings: `hookmill.toml`, and a file for each secret.

A fault is appended to the list that the caller gives, so that all faults are reported at once.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hookmill.config.files import UnreadableError, read_bytes, read_text
from hookmill.config.redis_url import check_redis_url
from hookmill.config.secrets import EMPTY

TOML_FILE = "hookmill.toml"

SECRET_VARIABLES = {
    "qstash_current_signing_key": "QSTASH_CURRENT_SIGNING_KEY",
    "qstash_next_signing_key": "QSTASH_NEXT_SIGNING_KEY",
    "marble_webhook_secret": "MARBLE_WEBHOOK_SECRET",
    "qstash_token": "QSTASH_TOKEN",
    "console_token": "HOOKMILL_CONSOLE_TOKEN",
    "console_reader_token": "HOOKMILL_CONSOLE_READER_TOKEN",
}
"""The variable of each setting that is a secret. `<VARIABLE>_FILE` may name a file instead."""


def read_toml(faults: list[str]) -> dict[str, Any]:
    """Return what `hookmill.toml` says; nothing if there is no such file or it cannot be read."""
    try:
        return tomllib.loads(read_bytes(Path(TOML_FILE)).decode("utf-8"))
    except UnreadableError as error:
        if not error.is_missing:
            faults.append(f"{TOML_FILE} cannot be read: {error.reason}")
    except (ValueError, RecursionError) as error:
        faults.append(f"{TOML_FILE}: {error}")
    return {}


def secrets_from_files(faults: list[str]) -> dict[str, str]:
    """Return the secrets that are in files, by the name of the setting.

    An empty variable is a fault. (For other settings it counts as not set.) The operator meant to
    switch a source on, so it must not stay off without an error.
    """
    found: dict[str, str] = {}
    variables = variables_set()
    for field, variable in SECRET_VARIABLES.items():
        text, path = variables.get(variable), variables.get(f"{variable}_FILE")
        if path and text:
            faults.append(f"{variable} and {variable}_FILE are both set: keep one")
        elif path:
            try:
                found[field] = read_text(Path(path)).strip()
            except UnreadableError as error:
                faults.append(f"{variable}_FILE: {error}")
            else:
                if not found[field]:
                    faults.append(f"{variable}_FILE: {path} {empty_secret(field)}")
        elif text == "" or path == "":
            faults.append(f"{variable if text == '' else f'{variable}_FILE'} {empty_secret(field)}")
    return found


def redis_url_from_file(toml: Mapping[str, Any], faults: list[str]) -> dict[str, str | None]:
    """Return the Redis URL that is in the file of REDIS_URL_FILE; nothing where that is not set.

    A variable of the environment goes before both settings of `hookmill.toml`.
    """
    variables = variables_set()
    url, path = variables.get("REDIS_URL"), variables.get("REDIS_URL_FILE")
    if url and not path:
        return {"redis_url_file": None}
    if not path:
        url, path = toml.get("redis_url"), toml.get("redis_url_file")
    if not path:
        return {}
    if url:
        faults.append("REDIS_URL and REDIS_URL_FILE are both set: keep one")
        return {}
    try:
        url = read_text(Path(str(path))).strip()
    except UnreadableError as error:
        faults.append(f"REDIS_URL_FILE: {error}")
        return {}
    try:
        return {"redis_url": check_redis_url(url)}
    except ValueError as error:
        faults.append(f"REDIS_URL_FILE: {path}: {error}")
        return {}


def empty_secret(field: str) -> str:
    """Return what is wrong with an empty secret."""
    return "is empty" if field.endswith("_token") else EMPTY


def variables_set() -> dict[str, str]:
    """Return the environment with names in capitals: pydantic-settings ignores their case too."""
    return {name.upper(): value for name, value in os.environ.items()}
