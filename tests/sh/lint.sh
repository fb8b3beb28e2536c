#!/bin/sh
# clang and shellcheck have nothing to say (`make lint`).
set -eu
command -v clang >/dev/null || { echo "clang is not here"; exit 77; }
command -v shellcheck >/dev/null || { echo "shellcheck is not here"; exit 77; }
make -s lint
