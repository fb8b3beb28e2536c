#!/bin/sh
# The command line: help, unknown names, exit codes, Ctrl-C, the examples that --help prints.
set -eu
cd "$TEST_DIR"
ln -s "$OLDPWD/tests" tests
mkdir bin
ln -s "$R1" bin/r1
PATH=$PWD/bin:$PATH

expect_code() { # CODE COMMAND...
    want=$1
    shift
    code=0
    "$@" >out 2>err </dev/null || code=$?
    [ "$code" = "$want" ] || { echo "$*: exit code $code, expected $want"; cat err; exit 1; }
}
expect_says() { # FILE WORDS
    grep -q -- "$2" "$1" || { echo "$1 does not say \"$2\":"; cat "$1"; exit 1; }
}

expect_code 2 r1
expect_code 0 r1 --help
commands=$(sed -n 's/^  \([a-z]*\)  *[a-zA-Z].*/\1/p' out)
expect_code 0 r1 --version
expect_says out '^r1 0\.2 (commit [0-9a-f]*+*)$\|^r1 0\.2 (commit unknown)$'
expect_says out '^kernels [0-9]*, made by [a-zA-Z]'
for library in native HDF5 libyaml jansson PCRE2 utf8proc GMP OpenSSL; do expect_says out "$library"; done
expect_code 2 r1 scroe
expect_says err "did you mean 'score'"
expect_code 2 r1 xyzzy
[ "$(wc -l <err)" = 1 ]

for command in $commands; do
    expect_code 0 r1 "$command" --help
    expect_says out '^Example:'
    expect_code 2 r1 "$command" --no-such-option
    [ "$(wc -l <err)" = 1 ]
done
[ "$(echo "$commands" | wc -w)" -ge 13 ]

# Examples, as typed. Training and timing have tests of their own.
for command in eval generate chat score inspect report data tokenize template import plan; do
    r1 "$command" --help | sed '1,/^Example:/d' >example.sh
    sh -e example.sh >out 2>err || { echo "the example of r1 $command fails:"; cat example.sh err; exit 1; }
    [ -s out ]
done

printf 'sort 312\n\nsort 231\n' | r1 chat runs/micro/zero --max-tokens 30 --temperature 0 >out
[ "$(wc -l <out)" -ge 2 ]

# Ctrl-C: the sentence, exit code 130.
code=0
timeout --preserve-status -s INT 4 r1 eval runs/micro/zero --task sort --levels 4 --n 200000 --k 16 --threads 1 >out 2>err || code=$?
[ "$code" = 130 ] || { echo "Ctrl-C: exit code $code"; cat err; exit 1; }
expect_says err interrupted

# A full standard output is a failure.
code=0
r1 data --list >/dev/full 2>err || code=$?
[ "$code" = 1 ]
expect_says err 'cannot be written'
