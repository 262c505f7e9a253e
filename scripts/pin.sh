#!/usr/bin/env bash
# Pins every package of every extra, for all supported Python versions and systems at once.
# What is pinned stays unless it must move; `bash scripts/pin.sh --upgrade` takes the newest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# No header, annotations or index options: they would name the machine this was run on.
uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras \
  --no-emit-package emotion-monitor --no-header --no-annotate --no-emit-index-url \
  --no-emit-find-links --quiet "$@" --output-file requirements/constraints.txt >/dev/null
