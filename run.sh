#!/usr/bin/env bash
# Sets up on first use, then analyses the given audio files.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/scripts/setup.sh"

# The hub clients fetch models; OpenVINO runs them in int8 on a CPU.
if has_cuda_gpu; then setup run server hub; else setup run server hub openvino; fi

case "${1:-}" in
  --setup-only) exit 0 ;;
  "")
    cat <<'USAGE'
Analyse the emotion of speech in an audio file:

  bash run.sh FILE            the emotion timeline of a recording
  bash run.sh --help          formats, models and other options

  bash run.sh --setup-only    only install
USAGE
    exit 0
    ;;
esac
exec "$venv/bin/emotion-monitor" analyze "$@"
