#!/usr/bin/env bash
# Pins every package of every extra, for all supported Python versions and systems at once; and the
# SHA-256 of every file of all but what developers use (hashes.txt), torch aside, whose build depends
# on the machine.
# What is pinned stays unless it must move; `bash scripts/pin.sh --upgrade` takes the newest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# No header or index options: they would name the machine this was run on.
compile() {
  uv pip compile pyproject.toml --universal --python-version 3.11 \
    --no-emit-package emotion-monitor --no-header --no-emit-index-url --no-emit-find-links \
    --quiet "$@" >/dev/null
}

compile --all-extras "$@" --no-annotate --output-file requirements/constraints.txt
apart=$(sed -n 's/^\(torch\|triton\|nvidia-[a-z0-9-]*\|cuda-[a-z0-9-]*\)==.*/--no-emit-package=\1/p' \
  requirements/constraints.txt | sort -u)
# Standard input: what builds this package. scripts/hashed_requirements.py reads the annotations.
# shellcheck disable=SC2086  # One argument a line.
sed -n 's/^requires = \["\(.*\)"\]$/\1/p' pyproject.toml |
  compile - --extra all $apart --generate-hashes --annotation-style line \
    --constraint requirements/constraints.txt --output-file requirements/hashes.txt
