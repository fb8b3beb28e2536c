#!/bin/sh
# Every C file is as `make format` leaves it. Versions of clang-format differ in detail, so only the one that formatted the
# tree (14, Debian 12's) is asked.
set -eu
version=$(clang-format --version 2>/dev/null | sed 's/.*version \([0-9]*\).*/\1/') || version=
[ "$version" = 14 ] || { echo "clang-format 14 is not here (found: ${version:-none})"; exit 77; }
make -s format-check || { echo "run: make format"; exit 1; }
