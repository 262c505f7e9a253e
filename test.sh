#!/usr/bin/env bash
# Sets up with everything, checks style, spelling and types, then runs the tests: bash test.sh [pytest args]
# Three processes run the tests, a file each at a time; `-n 0` among the arguments makes it one.
# With REQUIRE_ALL=1 a test that is skipped because the machine lacks something fails instead.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/scripts/setup.sh"

setup everything all,dev
cd "$root"

# A container's image may forbid it; then each of hundreds of processes compiles the packages anew.
unset PYTHONDONTWRITEBYTECODE
# pytest rewrites the assertions of every file before a process can begin: once, beside mypy.
"$venv/bin/python" -m pytest --collect-only --quiet >/dev/null 2>&1 &

failed=""
step() { "$@" || failed="$failed ${*##*/}"; }
step "$venv/bin/ruff" check .
step "$venv/bin/ruff" format --check .
step "$venv/bin/codespell"
step "$venv/bin/mypy"
[ -z "$failed" ] || say "failed before the tests:$failed"

status=0
# One thread each: processes that both calculate on every core wait for one another. One process
# more than a small machine has cores: tests wait for servers, pages and sockets a sixth of their time.
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" \
  "$venv/bin/python" -m pytest -n 3 --no-loadscope-reorder "$@" || status=$?
if [ -n "$failed" ] && [ "$status" = 0 ]; then status=1; fi
exit "$status"
