#!/bin/sh
# tests/arrows.sh [ROOT]: who may include whom, and that each outside library has one home (README, "layout").
# Prints one line for each arrow that is not allowed; exits 1 when there is one.
cd "${1:-.}" || exit 2
files=$(find core cpu gpu data checkpoints recipes tests -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cc' 2>/dev/null)
# shellcheck disable=SC2086
awk '
BEGIN {
    may["core"] = "core"
    may["cpu"] = "core cpu"
    may["gpu"] = "core gpu"
    may["data"] = "core data"
    may["checkpoints"] = "core data checkpoints"
    may["recipes"] = may["tests"] = "core cpu gpu data checkpoints recipes tests"
    sub(/ tests$/, "", may["recipes"])

    # what core/ may include of the world: the C library
    libc = "^(assert|ctype|dirent|errno|fcntl|fenv|float|fnmatch|inttypes|limits|locale|math|signal|stdalign|stdarg|stdatomic|stdbool" \
           "|stddef|stdint|stdio|stdlib|string|strings|time|unistd|sys/[a-z]+)\\.h$"

    home["^(dnnl|oneapi/)"] = "^cpu/matmul/onednn"
    home["^(cblas|openblas)"] = "^cpu/matmul/openblas"
    home["^omp\\.h$"] = "^cpu/"
    home["^([a-z]+intrin|cpuid)\\.h$"] = "^cpu/"
    home["^(cuda|cublas|nccl|driver_types)"] = "^gpu/"
    home["^hdf5"] = "^(checkpoints/|tests/fuzz/fuzz_h5)"
    home["^xxhash"] = "^checkpoints/state_file\\.c$"
    home["^openssl/"] = "^checkpoints/hash\\.c$"
    home["^jansson\\.h$"] = "^data/json\\.c$"
    home["^pcre2\\.h$"] = "^data/"
    home["^utf8proc\\.h$"] = "^data/"
    home["^gmp\\.h$"] = "^data/"
    home["^yaml\\.h$"] = "^recipes/"
    home["^cmocka\\.h$"] = "^tests/"
}
function wrong(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; bad = 1 }
function folder(path) { sub(/\/.*/, "", path); return path }
/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, part, "\"")
    to = part[2]
    if (to !~ /\//) wrong("\"" to "\" is not written from the root of the repository")
    else if (index(" " may[folder(FILENAME)] " ", " " folder(to) " ") == 0)
        wrong(folder(FILENAME) "/ may not include " to)
}
/^[ \t]*#[ \t]*include[ \t]*</ {
    to = $0
    sub(/^[^<]*</, "", to)
    sub(/>.*/, "", to)
    for (h in home) if (to ~ h && FILENAME !~ home[h]) wrong("<" to "> belongs to files like " home[h])
    if (folder(FILENAME) == "core" && to !~ libc) wrong("core/ includes nothing but the C library, not <" to ">")
    if (to == "yaml.h") yaml[FILENAME] = 1
}
/^[ \t]*#[ \t]*pragma[ \t]+omp/ && folder(FILENAME) != "cpu" { wrong("OpenMP is for cpu/ only") }
END {
    for (f in yaml) if (++yaml_files > 1) { print f ": <yaml.h> has more than one home in recipes/"; bad = 1 }
    exit bad
}' $files /dev/null
