#!/bin/sh
# Checkpoints that say more than they hold, with a right seal: one sentence each, no crash, nothing of memory in an export.
set -eu
"$R1" run micro --until base --set base.steps=2 --set base.eval_after=false --set base.eval_every=0 --out "$TEST_DIR/run" >"$TEST_DIR/log" 2>&1 ||
    { cat "$TEST_DIR/log"; exit 1; }
python3 tests/hostile_h5.py "$R1" "$TEST_DIR/run/checkpoints/base.h5" "$TEST_DIR"
