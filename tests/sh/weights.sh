#!/bin/sh
# The weights that micro and keys.yaml (every key of the stages) end in, and the numbers of their metrics and evaluations, are
# stored: f32 gives the same bits on every instruction set, so that any change of what a stage does or says shows. A line of
# tests/weights.txt changes with a reason in docs/log.md. `STORE=yes make test T=weights` writes tests/numbers.txt anew.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh

check() { # RECIPE FILE_OF_RECIPE ISA
    R1_ISA=$3 expect_exit 0 "$R1" run "$2" --quiet --out "$TEST_DIR/$1-$3"
    python3 tests/run_check.py weights "$TEST_DIR/$1-$3" "$1" tests/weights.txt || { echo "$1 with R1_ISA=$3"; exit 1; }
    python3 tests/run_check.py numbers "$TEST_DIR/$1-$3" "$1" tests/numbers.txt ${STORE:+store} || { echo "$1 with R1_ISA=$3"; exit 1; }
}
for isa in $(instruction_sets); do
    check keys tests/keys.yaml "$isa"
    # Without vectors micro takes minutes.
    [ "$isa" = plain ] || check micro micro "$isa"
done
