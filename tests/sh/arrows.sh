#!/bin/sh
# The include arrows of this repository hold, and the check sees each kind of arrow that does not.
set -eu
sh tests/arrows.sh .

tree=$TEST_DIR/tree
expect_caught() { # FILE LINE: a tree with this one line is refused, by the file's name
    rm -rf "$tree"
    for folder in core cpu gpu data checkpoints recipes tests; do mkdir -p "$tree/$folder"; done
    mkdir -p "$tree/$(dirname "$1")"
    printf '%s\n' "$2" >"$tree/$1"
    if sh tests/arrows.sh "$tree" >"$TEST_DIR/said"; then
        echo "not caught: $1 with $2"
        exit 1
    fi
    grep -q "^$1:" "$TEST_DIR/said"
}
expect_caught core/model.c '#include "cpu/cpu.h"'
expect_caught core/model.c '#include "data/json.h"'
expect_caught core/model.c '#include <jansson.h>'
expect_caught core/model.c '#include <pthread.h>'
expect_caught core/model.c '#pragma omp parallel for'
expect_caught core/model.c '#include "status.h"'
expect_caught cpu/backend.c '#include "data/task.h"'
expect_caught cpu/backend.c '#include "gpu/gpu.h"'
expect_caught cpu/backend.c '#include <dnnl.h>'
expect_caught cpu/kernels/rmsnorm.c '#  include "recipes/run/run.h"'
expect_caught gpu/backend.cu '#include "cpu/cpu.h"'
expect_caught data/task.c '#include "checkpoints/hf/hf.h"'
expect_caught data/task.c '#include <jansson.h>'
expect_caught data/tasks/add.c '#include "cpu/cpu.h"'
expect_caught checkpoints/hf/hf.c '#include "recipes/run/run.h"'
expect_caught checkpoints/hf/hf.c '#include <openssl/evp.h>'
expect_caught recipes/run.c '#include <hdf5.h>'
expect_caught recipes/run.c '#include <cblas.h>'
expect_caught recipes/run.c '#include "tests/unit/support.h"'

printf '#include <yaml.h>\n' >"$tree/recipes/run.c"
sh tests/arrows.sh "$tree"
printf '#include <yaml.h>\n' >"$tree/recipes/schema.c"
if sh tests/arrows.sh "$tree" >"$TEST_DIR/said"; then echo "two homes of yaml.h were not caught"; exit 1; fi
