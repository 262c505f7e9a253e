"""Every dependency has a licence that is allowed, a place in the bill of materials, and a hash."""

from __future__ import annotations

import hashlib
import re
from importlib.metadata import distribution

import pytest

from scripts.supply_chain import (
    CONSTRAINTS,
    installed,
    is_allowed,
    licence_of,
    licences,
    pinned_hashes,
    sbom,
)
from tests.requirements import REPOSITORY


def test_the_licences_of_what_is_installed_are_allowed():
    packages = installed()
    assert {"numpy", "aiohttp", "cryptography", "torch"} <= set(packages)
    assert "pytest" not in packages, "what only tests need is no part of it"
    assert [f"{name}: {told}" for name, _, told, fine in licences(packages) if not fine] == []


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", True),
        ("GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("unknown", False),
        ("Proprietary", False),
    ],
)
def test_which_licences_are_allowed(licence: str, allowed: bool):
    assert is_allowed("anything", licence) is allowed


def test_the_bill_of_materials_names_packages_and_weights():
    packages = {"numpy": distribution("numpy"), "emotion-monitor": distribution("emotion-monitor")}
    bill = sbom(packages)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    numpy, compact, standard = bill["components"]
    assert numpy["purl"] == f"pkg:pypi/numpy@{distribution('numpy').version}"
    assert numpy["licenses"] == [{"license": {"name": licence_of(distribution("numpy"))}}]
    assert [compact["name"], standard["name"]] == ["compact", "standard"]
    weights = REPOSITORY / "ser_engine" / "models" / "compact" / "weights.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert compact["hashes"] == [{"alg": "SHA-256", "content": digest}]


def test_what_a_server_needs_is_pinned_with_its_hashes():
    pins = CONSTRAINTS.read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([A-Za-z0-9._-]+==[^\s;]+)", pins, re.MULTILINE))
    hashes = pinned_hashes()
    assert len(hashes) > 30 and all(hashes.values())
    assert set(hashes) <= pinned, "bash scripts/pin.sh makes both files"
    needed = {name for name, _, _, _ in licences(installed())}
    for name in ("aiohttp", "cryptography", "numpy", "sqlalchemy", "uvloop"):
        assert name in needed
        assert any(each.startswith(f"{name}==") for each in hashes)
    assert not any(each.startswith(("torch==", "nvidia-")) for each in hashes)
