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

small_v2() { # LAYERS EXPERTS WIDTH: the key `model` of a recipe: DeepSeek-V2's architecture, few numbers but for the experts' width
    cat <<END
model: {architecture: deepseek_v2, hidden_size: 32, num_hidden_layers: $1, num_attention_heads: 2, kv_lora_rank: 16,
        qk_nope_head_dim: 8, qk_rope_head_dim: 8, v_head_dim: 8, intermediate_size: 48, n_routed_experts: $2,
        num_experts_per_tok: 2, moe_intermediate_size: $3, max_position_embeddings: 256}
END
}

# $gb = the least --memory that works, as the refusal says; a hundredth less is refused. What a process has allocated counts in steps of 8 MB
# and moves a little with huge pages and threads, so from here on it is said to be 24 MB.
find_least() { # COMMAND...
    export R1_OWN=24000000
    gb=$("$@" --memory 0.001 2>&1 >"$out" </dev/null | sed -n 's/.*--memory \([0-9.]*\) is the least.*/\1/p')
    [ -n "$gb" ] || complain "$* --memory 0.001 does not say what would fit"
    expect_exit 1 "$@" --memory "$(awk "BEGIN { print 0.99 * $gb }")"
    expect_says "--memory $gb is the least"
}

input=/dev/null # of same_placed

same_placed() { # COMMAND...: prints the same in memory and at the least memory, with experts on disk; standard input is $input
    "$@" --memory 4 <"$input" >"$TEST_DIR/all" 2>"$said" || complain "$*: in memory"
    find_least "$@"
    R1_STRICT=1 R1_RING=2 "$@" --memory "$gb" <"$input" >"$TEST_DIR/some" 2>"$said" || complain "$* --memory $gb, which it said"
    expect_says 'stay on disk'
    cmp "$TEST_DIR/all" "$TEST_DIR/some" || complain "$*: other bytes from disk than from memory"
}
