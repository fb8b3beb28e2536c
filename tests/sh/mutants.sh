#!/bin/sh
# Every mutant of tests/mutants/list.txt still applies to its source (`make test-mutants` tries them: ten minutes).
set -eu
python3 tests/mutants/run.py --check
