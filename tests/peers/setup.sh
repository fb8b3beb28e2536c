#!/bin/sh
# Makes .venv with the peers of `r1 bench --peers`, from the root of the repository. Several GB: PyTorch's wheel brings its
# CUDA libraries. `sh tests/peers/setup.sh llama` adds llama-cpp-python, which is compiled here (minutes).
set -eu
cd "$(dirname "$0")/../.."
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/pip install -q -r tests/peers/requirements.txt
if [ "${1:-}" = llama ]; then CMAKE_ARGS="-DGGML_NATIVE=ON" .venv/bin/pip install -q -r tests/peers/requirements-llama.txt; fi
.venv/bin/python -c 'import torch, transformers, trl; print("peers:", "torch", torch.__version__, "transformers", transformers.__version__, "trl", trl.__version__)'
