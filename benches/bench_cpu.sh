#!/bin/sh
# Compares the network on the CPU with PyTorch f32 in one run; see benches/cpu.rs.
# BENCH_PYTHON: a Python with torch; otherwise one is set up in .venv-bench (PIP_EXTRA_INDEX_URL can name PyTorch's
# index of processor-only packages, which are smaller).
set -eu
cd "$(dirname "$0")/.."
if [ -z "${BENCH_PYTHON:-}" ]; then
    if ! .venv-bench/bin/python -c 'import torch, numpy, safetensors' 2>/dev/null; then
        python3 -m venv .venv-bench
        .venv-bench/bin/pip install --quiet torch numpy safetensors
    fi
    BENCH_PYTHON=$PWD/.venv-bench/bin/python
fi
export BENCH_PYTHON
exec cargo bench --bench cpu
