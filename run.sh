#!/usr/bin/env bash
# Sets up on first use, then serves: bash run.sh [--demo]. Other commands: bash run.sh COMMAND ...
# bash run.sh --cluster-demo: several servers on this machine, with NATS and PostgreSQL.
# bash run.sh --extras tables,embeddings ... installs these extras too, once.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/scripts/setup.sh"

# The hub clients fetch models; FFmpeg's wheels decode what browsers, telephones and cameras send;
# OpenVINO runs models on a CPU.
if has_cuda_gpu; then setup run server hub media; else setup run server hub media openvino; fi

if [ "${1:-}" = --extras ]; then
  [ -n "${2:-}" ] || fail "got --extras without names, expected some of pyproject.toml's, as in --extras tables,embeddings"
  setup "extras-$2" "$2"
  shift 2
fi

# Settings may stand before the command, or before nothing at all.
settings=()
while true; do
  case "${1:-}" in
    --config | --set) [ $# -ge 2 ] || fail "got $1 without a value"; settings+=("$1" "$2"); shift 2 ;;
    --config=* | --set=*) settings+=("$1"); shift ;;
    *) break ;;
  esac
done

case "${1:-}" in
  --setup-only) exit 0 ;;
  --cluster-demo)
    setup extras-cluster,postgresql cluster,postgresql
    shift
    set -- cluster-demo "$@"
    ;;
  "" | --demo | --host* | --port* | --http-port*) set -- serve "$@" ;;
esac
# The bash of macOS takes an empty array for an unset one.
exec "$venv/bin/emotion-monitor" ${settings[@]+"${settings[@]}"} "$@"
