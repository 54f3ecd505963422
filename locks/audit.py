"""Compares the locked versions with the published advisories.

    make audit
    python -m locks.audit [--url URL] [--database FILE] [LOCK ...]

It asks OSV, or without a network reads OSV's file of all PyPI advisories. The exit status is 0: no
advisory is known; 1: some are; 3: it could not be found out, which is never "none". (pip-audit ends
with 0 and "No known vulnerabilities found" where it could look none of the packages up.)
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from locks.advisories import Found, concerns, found, packages_of
from locks.lockfile import FOLDER, Locked, read_lock

URL = "https://api.osv.dev"
FILE_OF_ALL = "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"
TIMEOUT = 30.0
"""Seconds for each request."""

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MOST_PAGES = 100

OLDEST_DATABASE = timedelta(days=30)
"""OSV's file changes daily. An older copy does not know the advisories of the last weeks."""

_NO_RECORD = (AttributeError, KeyError, TypeError, ValueError)
"""What reading a record raises if it is none."""

NONE_KNOWN, SOME_KNOWN, NOT_CHECKED = 0, 1, 3


class NotCheckedError(Exception):
    """It could not be found out whether there are advisories. The text says why."""


def ask(url: str, packages: list[Locked]) -> list[Found]:
    """Ask an OSV server about each package. Raises `NotCheckedError`."""
    questions = [
        {"package": {"ecosystem": "PyPI", "name": one.name}, "version": one.version}
        for one in packages
    ]
    results = _request(f"{url}/v1/querybatch", {"queries": questions}).get("results")
    if not isinstance(results, list) or len(results) != len(packages):
        raise NotCheckedError(f"{url} did not answer for each package")
    concerned = [
        (advisory, package)
        for package, result in zip(packages, results, strict=True)
        for advisory in _all_pages(url, package, result or {})
    ]
    records = {
        advisory: _request(f"{url}/v1/vulns/{urllib.parse.quote(advisory, safe='')}")
        for advisory, _ in concerned
    }
    return _all_found([(records[advisory], package) for advisory, package in concerned])


def _all_pages(url: str, package: Locked, result: dict[str, Any]) -> list[str]:
    """Return the IDs of the advisories of a package; an answer may have several pages."""
    names: list[str] = []
    for _ in range(MOST_PAGES):
        try:
            names += [str(one["id"]) for one in result.get("vulns") or []]
            page = result.get("next_page_token")
        except (AttributeError, KeyError, TypeError) as error:
            raise NotCheckedError(f"{url} gave an answer that is not OSV's") from error
        if not page:
            return names
        about = {"package": {"ecosystem": "PyPI", "name": package.name}}
        result = _request(
            f"{url}/v1/query", {**about, "version": package.version, "page_token": page}
        )
    raise NotCheckedError(f"{url} gave {MOST_PAGES} pages for {package.name}, and more")


def _request(url: str, question: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the JSON object that a server answers with. Raises `NotCheckedError`."""
    body = None if question is None else json.dumps(question).encode()
    try:
        request = urllib.request.Request(  # noqa: S310 - the operator chose the URL
            url, body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
            answer = json.loads(response.read(MAX_ANSWER_BYTES))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotCheckedError(f"{url}: {getattr(error, 'reason', None) or error}") from error
    if not isinstance(answer, dict):
        raise NotCheckedError(f"{url} gave an answer that is not OSV's")
    return answer


def read_database(file: Path, packages: list[Locked], now: datetime) -> list[Found]:
    """Search OSV's file of all advisories of PyPI. Raises `NotCheckedError`."""
    concerned: list[tuple[dict[str, Any], Locked]] = []
    newest = ""
    try:
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                record = json.loads(archive.read(name))
                newest = max(newest, record["modified"])
                names = set(packages_of(record))
                concerned += [
                    (record, one) for one in packages if one.name in names and concerns(record, one)
                ]
        age = now - datetime.fromisoformat(newest)
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, *_NO_RECORD) as error:
        raise NotCheckedError(f"{file} cannot be read as OSV's file: {error!r}") from error
    if age > OLDEST_DATABASE:
        raise NotCheckedError(f"{file} is old: its newest advisory was changed {newest}")
    return _all_found(concerned)


def _all_found(concerned: list[tuple[dict[str, Any], Locked]]) -> list[Found]:
    try:
        said = [found(record, package) for record, package in concerned]
    except _NO_RECORD as error:
        raise NotCheckedError(f"an advisory cannot be read: {error!r}") from error
    return [one for one in said if one]


def main(arguments: list[str]) -> int:
    """Compare, print what was found, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m locks.audit", description=__doc__)
    every = [FOLDER / f"{name}.txt" for name in ("production", "build", "run", "develop")]
    parser.add_argument("locks", nargs="*", type=Path, default=every)
    parser.add_argument("--url", default=URL, help="an OSV server")
    parser.add_argument("--database", type=Path, help=f"OSV's file of all: {FILE_OF_ALL}")
    given = parser.parse_args(arguments)
    try:
        locked = [one for lock in given.locks for one in read_lock(lock)]
        packages = [*{(one.name, one.version): one for one in locked}.values()]
        if given.database:
            advisories = read_database(given.database, packages, datetime.now(UTC))
        else:
            advisories = ask(given.url.rstrip("/"), packages)
    except (NotCheckedError, OSError, ValueError) as error:
        print(f"NOT CHECKED: {error}", file=sys.stderr)
        print(f"Without a network, give --database FILE, a copy of {FILE_OF_ALL}", file=sys.stderr)
        return NOT_CHECKED
    for one in advisories:
        fixed = f"fixed in {', '.join(one.fixed)}" if one.fixed else "not fixed yet"
        print(f"{one.package.name} {one.package.version}: {one.advisory}: {one.summary}; {fixed}")
    print(f"{len(packages)} packages checked, {len(advisories)} advisories")
    return SOME_KNOWN if advisories else NONE_KNOWN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
