"""Writes the list of what a deployed program consists of, as CycloneDX JSON (an SBOM).

    make sbom
    python -m locks.sbom [FILE]

The packages and their hashes are those of the production lock. Licences and dependencies are those
of the installed packages. The same lock and environment give the same bytes: no time, no paths.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from locks.lockfile import FOLDER, Locked, read_lock

PROJECT = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("asymmetric", "console", "metrics", "otel")
"""The extras that are in the production lock."""

LONGEST_LICENCE = 100
"""Characters. A longer field is the text of a licence, not its name."""


def sbom(packages: list[Locked]) -> str:
    """Return the SBOM of these packages as JSON."""
    whole = Bom()
    root = Component(
        name=PROJECT["name"],
        version=PROJECT["version"],
        type=ComponentType.APPLICATION,
        bom_ref=PROJECT["name"],
        licenses=[LicenseFactory().make_from_string(PROJECT["license"])],
        purl=PackageURL("pypi", None, PROJECT["name"], PROJECT["version"]),
    )
    whole.metadata.component = root
    components = {one.name: _component(one) for one in packages}
    whole.components.update(components.values())
    direct = PROJECT["dependencies"] + [
        need for extra in EXTRAS for need in PROJECT["optional-dependencies"][extra]
    ]
    for component, needs in [
        (root, direct),
        *((components[one.name], _requires(one)) for one in packages),
    ]:
        found = [components[name] for name in _names(needs) if name in components]
        whole.register_dependency(component, found)
    return _with_fixed_identity(json.loads(JsonV1Dot6(whole).output_as_string()))


def _component(one: Locked) -> Component:
    where = Property(name="hookmill:marker", value=str(one.marker)) if one.marker else None
    return Component(
        name=one.name,
        version=one.version,
        type=ComponentType.LIBRARY,
        bom_ref=one.name,
        licenses=_licences(one),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=text) for text in one.hashes],
        purl=PackageURL("pypi", None, one.name, one.version),
        properties=[where] if where else [],
    )


def _licences(one: Locked) -> list[License]:
    """Return what a package says of its licence; nothing if it is not installed here."""
    said = _installed(one)
    if said is None:
        return []
    make = LicenseFactory().make_from_string
    fields = said.metadata.json
    for field in ("license_expression", "license"):
        text = str(fields.get(field, ""))
        if 0 < len(text) <= LONGEST_LICENCE:
            return [make(text)]
    rows = map(str, fields.get("classifier", []))
    return [make(row.rpartition(" :: ")[2]) for row in rows if row.startswith("License ::")]


def _requires(one: Locked) -> list[str]:
    found = _installed(one)
    return (found.requires or []) if found else []


def _installed(one: Locked) -> importlib.metadata.Distribution | None:
    """Return the installed package; None if this version is not installed here."""
    try:
        found = importlib.metadata.distribution(one.name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return found if found.version == one.version else None


def _names(needs: list[str]) -> set[str]:
    """Return the names of the requirements that hold here, without extras."""
    found = map(Requirement, needs)
    return {
        canonicalize_name(one.name)
        for one in found
        if one.marker is None or one.marker.evaluate({"extra": ""})
    }


def _with_fixed_identity(content: dict[str, Any]) -> str:
    """Return the JSON without its time, and with a serial number that follows from the rest."""
    del content["metadata"]["timestamp"], content["serialNumber"]
    text = json.dumps(content, sort_keys=True)
    content["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_OID, text).urn
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def main(arguments: list[str]) -> int:
    """Write the SBOM to the file that is named, else into `dist/`."""
    parser = argparse.ArgumentParser(prog="python -m locks.sbom", description=__doc__)
    default = Path("dist") / f"{PROJECT['name']}-{PROJECT['version']}.cdx.json"
    parser.add_argument("file", nargs="?", type=Path, default=default)
    file = parser.parse_args(arguments).file
    packages = read_lock(FOLDER / "production.txt")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(sbom(packages), encoding="utf-8")
    print(f"{file}: {len(packages)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
