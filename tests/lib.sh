# shellcheck shell=sh disable=SC2034
# What shell tests share: `. tests/lib.sh` at the root of the repository. The output of the command tried last lies in $out,
# what it wrote to stderr in $said.
out=$TEST_DIR/out
said=$TEST_DIR/said

complain() { # WHY: fails the test, and shows what was said last
    echo "$1"
    [ ! -e "$said" ] || cat "$said"
    exit 1
}

expect() { # WANTED GOT
    [ "$1" = "$2" ] && return
    printf 'expected: %s\ngot:      %s\n' "$1" "$2"
    exit 1
}

expect_exit() { # CODE COMMAND...
    want=$1
    shift
    code=0
    "$@" >"$out" 2>"$said" </dev/null || code=$?
    [ "$code" = "$want" ] || complain "$*: exit code $code, expected $want"
}

expect_error() { # CODE WORDS COMMAND...: the exit code, and one line on stderr that holds WORDS
    words=$2
    code=$1
    shift 2
    expect_exit "$code" "$@"
    expect 1 "$(wc -l <"$said" | tr -d ' ')"
    grep -qF -e "$words" "$said" || expect "$words" "$(cat "$said")"
}

expect_says() { # PATTERN: on stderr
    grep -q -- "$1" "$said" || complain "did not say \"$1\""
}

expect_prints() { # PATTERN: on stdout
    grep -q -- "$1" "$out" && return
    echo "did not print \"$1\":"
    cat "$out"
    exit 1
}

instruction_sets() { # those that this machine has, best first
    for isa in avx512bf16 avx512 avx2 plain; do
        if R1_ISA=$isa "$R1" plan micro >/dev/null 2>&1; then echo $isa; fi
    done
}

start_until() { # PATTERN FILE COMMAND...: starts it as $child, and waits until a line of FILE holds PATTERN, or it ended
    pattern=$1
    file=$2
    shift 2
    "$@" >"$out" 2>"$said" &
    child=$!
    until grep -qs -e "$pattern" "$file"; do
        kill -0 $child 2>/dev/null || break
        sleep 0.003
    done
}

end_child() { # SIGNAL
    kill "-$1" "$child" 2>/dev/null || true
    wait "$child" 2>/dev/null || true
}

kill_when() { # PATTERN FILE COMMAND...: starts it, and kills it as soon as a line of FILE holds PATTERN
    start_until "$@"
    end_child KILL
}

kill_after() { # the same up to 10 ms later, by no clock of the test
    start_until "$@"
    sleep "0.00$(($(date +%N | cut -c1-2 | sed 's/^0//') % 10))"
    end_child KILL
}
