"""What this installation is made of: licences, a bill of materials, hashes to install by.

::

    python scripts/supply_chain.py licences           # a line a package; exit 1 for one not allowed
    python scripts/supply_chain.py sbom > sbom.json   # CycloneDX 1.6
    bash scripts/pin.sh                               # requirements/hashes.txt, from the registry

Packages are those that the extras of ``pyproject.toml`` bring along and that are installed.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"
HASHES = ROOT / "requirements" / "hashes.txt"
_PROJECT = "emotion-monitor"

# By what a licence calls itself, in lower case. All let a work under another licence use the
# package as a library; LGPL and MPL ask that changes to the package itself are given on.
_ALLOWED = re.compile(
    r"\b(apache|bsd|mit|isc|psf|python software foundation|python-2\.0|mpl|mozilla|zlib|unlicense|"
    r"hpnd|cc0|0bsd|boost|bsl|lgpl|lesser general public|cnri|public domain|ofl|libpng)\b"
)
_NEVER = re.compile(r"\b(agpl|affero|gpl-[23]|gplv[23]|gnu general public|sspl|commons clause)\b")

# What says nothing a program can read; read by a person.
_BY_HAND: dict[str, str] = {
    "emotion-monitor": "Apache-2.0 AND CC-BY-NC-SA-4.0",
}
_RESTRICTED: dict[str, str] = {
    "kaldiio": "NTT's software evaluation licence; only with the extra funasr",
    "nvidia-": "NVIDIA's terms; only with the CUDA build of torch",
    "cuda-": "NVIDIA's terms; only with the CUDA build of torch",
}
"""Beginnings of names whose terms are not those of free software, and what brings them. They are no
part of a plain installation, and docs/explanation/law.md names them."""


def installed() -> dict[str, Distribution]:
    """Return every package that the project, with all its extras, brings along, by name."""
    found: dict[str, Distribution] = {}
    waiting = [(_PROJECT, frozenset(_extras(_PROJECT)))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # An extra that is not installed, or another system's.
        found[name] = package
        for text in package.requires or ():
            needed = Requirement(text)
            environments: list[dict[str, str]] = [{"extra": extra} for extra in (*extras, "")]
            marker = needed.marker
            if marker is None or any(marker.evaluate(each) for each in environments):
                waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return dict(sorted(found.items()))


def _extras(name: str) -> list[str]:
    try:
        # What other people's clients are held against is no part of an installation.
        every = distribution(name).metadata.get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return []
    return [each for each in every if each not in ("dev", "all")]


def licence_of(package: Distribution) -> str:
    """Return what a package says of its licence: an SPDX expression, or words."""
    metadata = package.metadata
    name = canonicalize_name(metadata["Name"])
    if name in _BY_HAND:
        return _BY_HAND[name]
    for expression in metadata.get_all("License-Expression") or []:
        return str(expression)
    classifiers = [
        each.rpartition(" :: ")[2]
        for each in metadata.get_all("Classifier") or []
        if each.startswith("License :: ") and not each.endswith("OSI Approved")
    ]
    if classifiers:
        return " OR ".join(classifiers)
    # Some packages put the whole text here.
    first = "\n".join(metadata.get_all("License") or []).strip().splitlines()
    return first[0][:80] if first else "unknown"


def is_allowed(name: str, licence: str) -> bool:
    """Whether a package may be among the dependencies."""
    if restriction(name):
        return True
    words = licence.lower()
    if _NEVER.search(words) and not _ALLOWED.search(words):
        return False
    return _ALLOWED.search(words) is not None


def restriction(name: str) -> str:
    """Return what restricts the use of a package that is known to be restricted, or ""."""
    return next((why for start, why in _RESTRICTED.items() if name.startswith(start)), "")


def licences(packages: Mapping[str, Distribution]) -> Iterator[tuple[str, str, str, bool]]:
    """Yield name, version, licence and whether it is allowed of each package."""
    for name, package in packages.items():
        licence = licence_of(package)
        told = f"RESTRICTED, {why}" if (why := restriction(name)) else licence
        yield name, package.version, told, is_allowed(name, licence)


def pinned_hashes() -> dict[str, list[str]]:
    """Return the SHA-256 of each package's files as they were pinned, by name and version."""
    found: dict[str, list[str]] = {}
    current = ""
    text = HASHES.read_text(encoding="utf-8") if HASHES.is_file() else ""
    for line in text.splitlines():
        if named := re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", line):
            current = f"{canonicalize_name(named[1])}=={named[2]}"
            found.setdefault(current, [])
        found.setdefault(current, []).extend(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    found.pop("", None)
    return found


def sbom(packages: Mapping[str, Distribution]) -> dict[str, Any]:
    """Return a bill of materials, CycloneDX 1.6 (ECMA-424): packages, weights in the wheel."""
    hashes = pinned_hashes()
    components: list[dict[str, Any]] = []
    for name, package in packages.items():
        if name == _PROJECT:
            continue
        purl = f"pkg:pypi/{name}@{package.version}"
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": package.version,
            "purl": purl,
            "licenses": [{"license": {"name": restriction(name) or licence_of(package)}}],
        }
        if files := hashes.get(f"{name}=={package.version}"):
            # Any of the files of this version; which one was installed depends on the machine.
            component["properties"] = [
                {"name": "emotion-monitor:sha256", "value": each} for each in files
            ]
        components.append(component)
    for weights in sorted((ROOT / "ser_engine" / "models").glob("*/weights.safetensors")):
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        components.append(
            {
                "type": "machine-learning-model",
                "bom-ref": f"model:{weights.parent.name}",
                "name": weights.parent.name,
                "hashes": [{"alg": "SHA-256", "content": digest}],
                "licenses": [{"license": {"id": "CC-BY-NC-SA-4.0"}}],
            }
        )
    project = packages.get(_PROJECT)
    version = "0" if project is None else project.version
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": f"pkg:pypi/{_PROJECT}@{version}",
                "name": _PROJECT,
                "version": version,
            }
        },
        "components": components,
    }


def main(arguments: list[str]) -> int:
    """Run the command that is named; return the exit status."""
    packages = installed()
    match arguments:
        case ["licences"]:
            is_fine = True
            for name, version, licence, allowed in licences(packages):
                is_fine &= allowed
                print(f"{'' if allowed else 'NOT ALLOWED: '}{name} {version}: {licence}")
            return 0 if is_fine else 1
        case ["sbom"]:
            print(json.dumps(sbom(packages), indent=1))
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
