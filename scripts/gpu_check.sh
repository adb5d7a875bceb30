#!/usr/bin/env bash
# Check and measure p_rnn on a GPU: the tests that need one, then a grid of steps. At most 8 minutes.
# Writes Markdown and the tests' output to $OUT (default outputs/gpu_check).
#   bash scripts/gpu_check.sh [a python with p_rnn's packages; default .venv/bin/python or python3]
set -uo pipefail
cd "$(dirname "$0")/.."
OUT="${OUT:-outputs/gpu_check}"
PYTHON="${1:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}"
mkdir -p "$OUT"
export PYTHONPATH="$PWD"
if ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "no GPU that PyTorch can use here; nothing is checked" | tee "$OUT/gpu_check.md"
  exit 1
fi
status=0
if "$PYTHON" -c 'import pytest' 2>/dev/null; then
  timeout 150 "$PYTHON" -m pytest -q -p no:cacheprovider tests/fast/test_door.py \
    tests/training/test_gpu.py >"$OUT/tests.txt" 2>&1 || status=$?
  tail -5 "$OUT/tests.txt"
fi
timeout 330 "$PYTHON" scripts/benchmark/gpu_grid.py --out "$OUT" --seconds 300 || status=$?
exit "$status"
