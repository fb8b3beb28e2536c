#!/bin/sh
# Kernels compile for sm_80 and sm_90 without warnings, spills or local memory. The logs are made by `make test`.
set -eu
logs=$(find "$BUILD/gpu/gate" -name "*.log" 2>/dev/null || true)
[ -n "$logs" ] || { echo "no nvcc: kernels were not compiled for a card"; exit 77; }
find gpu/kernels -name '*.cu' | while read -r kernel; do
    log=$BUILD/gpu/gate/${kernel%.cu}.log
    [ -e "$log" ] || { echo "$kernel was not compiled: make gpu-gate"; exit 1; }
done
# shellcheck disable=SC2086
sh gpu/ptxas_gate.sh $logs

printf "ptxas info : Compiling entry function 'k' for 'sm_80'\n 8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads\nptxas info : Used 9 registers\n" >"$TEST_DIR/spill"
if sh gpu/ptxas_gate.sh "$TEST_DIR/spill" >/dev/null; then echo "the gate lets a spill pass"; exit 1; fi
