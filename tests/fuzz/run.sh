#!/bin/sh
# Runs every fuzz target (T=pattern: some) of BUILD for SECONDS, one after the other; what is found stays in BUILD/found.
#   sh tests/fuzz/run.sh BUILD SECONDS
set -eu
cd "$(dirname "$0")/../.."
build=$1 seconds=$2 bad=0
mkdir -p "$build/found"
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    case $name in *"${T:-}"*) ;; *) continue ;; esac
    seeds=tests/fuzz/seeds/${name#fuzz_}
    mkdir -p "$build/corpus/$name"
    if "$build/fuzz/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1 \
        -artifact_prefix="$build/found/$name-" "$build/corpus/$name" "$seeds" >"$build/found/$name.log" 2>&1; then
        echo "ok   $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$build/found/$name.log") inputs in $seconds s"
    else
        echo "FAIL $name"
        grep -E -m 5 'ERROR|SUMMARY|CHECK|Test unit' "$build/found/$name.log" || tail -5 "$build/found/$name.log"
        bad=1
    fi
done
exit $bad
