#!/bin/sh
# The first two notebooks hold: a model rebuilt in numpy has r1's logits, a GRPO step rebuilt from its rollouts has r1's numbers.
set -eu
for python in /usr/bin/python3 python3; do
    "$python" -c 'import h5py, numpy' 2>/dev/null && break
    python=
done
[ -n "$python" ] || { echo "numpy and h5py are not here"; exit 77; }
mkdir -p "$TEST_DIR/runs"
NOTEBOOK_RUNS=$TEST_DIR/runs "$python" notebooks/cells.py notebooks/1-*.ipynb notebooks/2-*.ipynb
