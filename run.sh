#!/usr/bin/env bash
# Sets up on first use, then serves: bash run.sh [--demo]. Other commands: bash run.sh COMMAND ...
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/scripts/setup.sh"

# The hub clients fetch models; OpenVINO runs them on a CPU.
if has_cuda_gpu; then setup run server hub; else setup run server hub openvino; fi

case "${1:-}" in
  --setup-only) exit 0 ;;
  "" | --demo | --host* | --port* | --http-port*) set -- serve "$@" ;;
esac
exec "$venv/bin/emotion-monitor" "$@"
