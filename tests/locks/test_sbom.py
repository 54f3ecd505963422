"""The list of what a release consists of: complete, valid, and the same each time."""

from __future__ import annotations

import importlib.resources
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing

from locks.lockfile import FOLDER, read_lock
from locks.sbom import main, sbom

PACKAGES = read_lock(FOLDER / "production.txt")


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sbom(PACKAGES))
    return found


def test_every_package_of_the_production_lock_is_in_it_with_its_hashes(
    written: dict[str, Any],
) -> None:
    found = {one["name"]: one for one in written["components"]}
    assert found.keys() == {one.name for one in PACKAGES}
    for package in PACKAGES:
        one = found[package.name]
        assert one["version"] == package.version
        assert one["purl"] == f"pkg:pypi/{package.name}@{package.version}"
        assert {each["content"] for each in one["hashes"]} == set(package.hashes)
        assert {each["alg"] for each in one["hashes"]} == {"SHA-256"}


def test_every_package_that_is_installed_here_has_its_licence(written: dict[str, Any]) -> None:
    here = {one.name for one in PACKAGES if one.marker is None or one.marker.evaluate()}
    without = {one["name"] for one in written["components"] if not one.get("licenses")}
    assert not here & without


def test_it_says_what_needs_what(written: dict[str, Any]) -> None:
    needs = {one["ref"]: set(one.get("dependsOn", [])) for one in written["dependencies"]}
    assert {"aiohttp", "redis", "cryptography", "prometheus-client"} <= needs["hookmill"]
    assert "multidict" in needs["aiohttp"]
    here = {one.name for one in PACKAGES if one.marker is None or one.marker.evaluate()}
    assert here <= set().union(*needs.values())  # each has somebody who needs it


def test_it_is_valid_cyclonedx(written: dict[str, Any]) -> None:
    folder = importlib.resources.files("cyclonedx.schema._res")

    def load(name: str) -> Any:
        return json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text())

    schema = load("bom-1.6")
    registry: referencing.Registry[Any] = referencing.Registry().with_resources(
        (f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json",
         referencing.Resource.from_contents(load(name)))
        for name in ("spdx", "jsf-0.82")
    )  # fmt: skip
    jsonschema.Draft7Validator(schema, registry=registry).validate(written)


def test_the_same_lock_gives_the_same_bytes_and_no_place_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([str(tmp_path / "one.json")]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["folder/two.json"]) == 0
    text = (tmp_path / "one.json").read_text()
    assert (tmp_path / "folder/two.json").read_text() == text
    for place in (str(tmp_path), str(FOLDER.parent), str(Path.home()), os.uname().nodename):
        assert place not in text
    assert text.count("://") == 1  # the address of the format's schema


def test_another_lock_has_another_serial_number(written: dict[str, Any]) -> None:
    other = json.loads(sbom(PACKAGES[1:]))
    assert other["serialNumber"] != written["serialNumber"]


def test_what_is_not_installed_in_its_locked_version_gets_no_licence_of_another() -> None:
    other = [one._replace(version="0.0.1") for one in PACKAGES if one.name == "aiohttp"]
    (component,) = json.loads(sbom(other))["components"]
    assert "licenses" not in component
