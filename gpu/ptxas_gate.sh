#!/bin/sh
# gpu/ptxas_gate.sh LOG...: reads what `nvcc -Xptxas -v` said. Fails on a warning, a spill, a stack frame (local memory), or more
# registers than a block of the kernel's threads may have; prints one line of sums.
set -eu
cat "$@" | awk '
/warning|error/ { print; bad = 1 }
/Compiling entry function/ { split($0, part, "\047"); name = part[2] }
/bytes stack frame/ {
    if ($1 != 0 || !/ 0 bytes spill stores/ || !/ 0 bytes spill loads/) { print name ": " $0; bad = 1 }
}
/Used [0-9]+ registers/ {
    for (i = 1; i < NF; i++) if ($i == "Used") registers = $(i + 1)
    kernels++
    if (registers > most) most = registers
    shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART, RLENGTH) + 0 : 0
    if (shared > 49152) { print name ": " shared " bytes of static shared memory, 49152 are there"; bad = 1 }
}
END {
    if (kernels == 0) { print "no kernel was compiled"; bad = 1 }
    if (!bad) printf "%d kernels, no more than %d registers, no spill, no local memory\n", kernels, most
    exit bad
}'
