#!/usr/bin/env bash
# Sets up with everything, checks style, spelling and types, then runs the tests: bash test.sh [pytest args]
# Two processes run the tests, a file each at a time; `-n 0` among the arguments makes it one.
# With REQUIRE_ALL=1 a test that is skipped because the machine lacks something fails instead.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/scripts/setup.sh"

setup everything all,dev
cd "$root"

failed=""
step() { "$@" || failed="$failed ${*##*/}"; }
step "$venv/bin/ruff" check .
step "$venv/bin/ruff" format --check .
step "$venv/bin/codespell"
step "$venv/bin/mypy"
[ -z "$failed" ] || say "failed before the tests:$failed"

status=0
# One thread each: processes that both calculate on every core wait for one another.
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" \
  "$venv/bin/python" -m pytest -n 2 --dist loadfile "$@" || status=$?
if [ -n "$failed" ] && [ "$status" = 0 ]; then status=1; fi
exit "$status"
