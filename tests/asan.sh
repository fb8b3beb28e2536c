#!/bin/sh
# A recipe of a few seconds under the sanitizers (make test-asan): every stage of tests/asan.yaml, then its report.
set -eu
[ -x "$R1" ] || { echo "there is no $R1"; exit 77; }
[ -e tests/asan.yaml ] || { echo "there is no tests/asan.yaml"; exit 77; }
"$R1" run tests/asan.yaml --out "$TEST_DIR/run"
"$R1" report "$TEST_DIR/run"
