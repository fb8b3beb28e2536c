#!/bin/sh
# gpu/ptxas_gate.sh [--table] LOG...: reads what `nvcc -Xptxas -v` said. Fails on a warning, a spill, a stack frame (local memory), more
# than 48 KB of static shared memory, or a kernel that takes a tenth more registers than gpu/kernels/limits.txt has seen; prints one
# line of sums. --table: prints that file anew (`make gpu` leaves logs of all four architectures in build/gpu/cuda).
set -eu
table=
if [ "$1" = --table ]; then table=1; shift; fi
limits=$(dirname "$0")/kernels/limits.txt
names=cat
if command -v c++filt >/dev/null; then names=c++filt; fi
[ -e "$limits" ] && [ $names = c++filt ] || limits=/dev/null
cat "$@" | $names | awk -v limits="$limits" -v table="$table" '
# "void flash<FlashShape<192, 128> >(SequenceCall)" is flash<FlashShape<192,128>>
function short(s) {
    sub(/^void /, "", s)
    sub(/\(.*/, "", s)
    gsub(/ /, "", s)
    return s
}
BEGIN {
    while (!table && (getline line < limits) > 0) {
        n = split(line, word, " ")
        if (line ~ /^#/) { if (word[2] == "kernel") for (i = 3; i <= n; i++) arch_of[i - 1] = word[i]; continue }
        for (i = 2; i <= n; i++) seen[word[1], arch_of[i]] = word[i]
    }
}
/warning|error/ { print; bad = 1 }
/Compiling entry function/ { split($0, part, "\047"); name = short(part[2]); arch = part[4] }
/bytes stack frame/ {
    if ($1 != 0 || !/ 0 bytes spill stores/ || !/ 0 bytes spill loads/) { print name " " arch ": " $0; bad = 1 }
}
/Used [0-9]+ registers/ {
    for (i = 1; i < NF; i++) if ($i == "Used") registers = $(i + 1)
    kernels++
    if (registers > most) most = registers
    if (registers > took[name, arch]) took[name, arch] = registers
    all[name] = archs[arch] = 1
    shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART, RLENGTH) + 0 : 0
    if (shared > 49152) { print name ": " shared " bytes of static shared memory, 49152 are there"; bad = 1 }
    if (seen[name, arch] > 0 && registers > 1.1 * seen[name, arch]) {
        print name " " arch ": " registers " registers, " seen[name, arch] " were seen (gpu/kernels/limits.txt)"; bad = 1
    }
}
END {
    if (kernels == 0) { print "no kernel was compiled"; bad = 1 }
    if (table) {
        print "# Registers of every kernel, as `sh gpu/ptxas_gate.sh --table` wrote them from the logs of `make gpu`."
        print "# kernel sm_80 sm_90 sm_100 sm_120"
        for (name in all) print name, took[name, "sm_80"] + 0, took[name, "sm_90"] + 0, took[name, "sm_100"] + 0, took[name, "sm_120"] + 0 | "LC_ALL=C sort"
    } else if (!bad) printf "%d kernels, no more than %d registers, no spill, no local memory\n", kernels, most
    exit bad
}'
