#!/bin/sh
# A kill between a stage's summary and the removal of its state leaves STAGE.partial.h5: the next run takes it away, and repeats nothing.
. tests/lib.sh
run="$R1 run micro --threads 1 --out $TEST_DIR/m --until base --set base.steps=4 --set base.eval_after=false --set eval.n=2 --set base.lr_final=0.1"
$run >"$TEST_DIR/out" 2>&1
checkpoints=$TEST_DIR/m/checkpoints
[ ! -e "$checkpoints/base.partial.h5" ] || complain "a finished stage with a schedule keeps a state"
before=$(cksum <"$checkpoints/base.h5")
cp "$checkpoints/base.h5" "$checkpoints/base.partial.h5"
$run >"$TEST_DIR/out" 2>&1
[ ! -e "$checkpoints/base.partial.h5" ] || complain "the state that a kill left is still there"
expect "$before" "$(cksum <"$checkpoints/base.h5")"
