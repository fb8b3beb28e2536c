#!/bin/sh
# Bad input and bad luck: one sentence with what, where and what to try, the right exit code, and the last good state whole.
set -eu
export OMP_WAIT_POLICY=passive
dir=$TEST_DIR
trap 'umount "$dir/disk" 2>/dev/null || :' EXIT
good=$dir/good # a run of one stage, finished
bad=0
complain() { # WHY: and what was said
    echo "$1"
    cat "$dir/said"
    bad=1
}

# fails CODE PATTERN COMMAND...: exit code, one sentence of r1 as the last line of stderr, and PATTERN in it.
fails() {
    want=$1 pattern=$2 code=0
    shift 2
    "$@" >"$dir/out" 2>"$dir/said" || code=$?
    [ "$code" = "$want" ] || complain "exit code $code, not $want: $*"
    [ "$(grep -c '^r1' "$dir/said")" = 1 ] || complain "not one sentence: $*"
    tail -n 1 "$dir/said" | grep -qE "^r1[a-z ]*: .*$pattern" || complain "did not say '$pattern': $*"
}
small() { # FOLDER ARGUMENT...: micro's first stage, six steps of it
    out=$1
    shift
    set -- run micro --threads 1 --quiet --checkpoint-seconds 0 --set 'stages=[base, zero]' --set base.steps=6 --set zero.steps=2 \
        --set eval.n=2 --set eval.k=2 --set eval.general_n=0 --out "$out" "$@"
    "$R1" "$@"
}
recipe() { # LINE...: a recipe of ours on top of micro; its own lines start at 2
    { echo 'extends: micro'; printf '%s\n' "$@"; } >"$dir/mine.yaml"
    echo "$dir/mine.yaml"
}
small "$good" --until base >"$dir/out" 2>"$dir/said"

# ---- what a person types
fails 2 "unknown option --threds, did you mean '?--threads"  "$R1" run micro --threds 2
fails 2 "--threads 0: expected a whole number from 1"           "$R1" run micro --threads 0
fails 1 "expected gradient is 0 as a term of the loss"          "$R1" run micro --set zero.kl=k1 --set zero.beta=0.1 --out "$dir/k1"
fails 2 "--checkpoint-seconds soon: expected a number"    "$R1" run micro --checkpoint-seconds soon
fails 2 "--set needs KEY=VALUE"                           "$R1" run micro --set
fails 2 "needs a recipe"                                  "$R1" run
fails 2 "no command 'rum', did you mean 'run'"            "$R1" rum micro
fails 1 'matmul "fast" is not in this build, nor is it a file; try one of'  small "$dir/x" --matmul fast
fails 1 "no recipe 'mikro'.*did you mean 'micro'"         "$R1" run mikro
fails 1 "nowhere/mine.yaml: cannot be read: No such file" "$R1" run nowhere/mine.yaml

# ---- recipes
fails 1 "mine.yaml:3: unknown key 'seeed'.*did you mean 'seed'"        "$R1" run "$(recipe '# mine' 'seeed: 1')"
fails 1 "mine.yaml:2: seed must be an integer 0 or more, not 'many'"   "$R1" run "$(recipe 'seed: many')"
fails 1 "mine.yaml:2: stages must be a list.*not '5'"                  "$R1" run "$(recipe 'stages: 5')"
fails 1 "mine.yaml:2: model must be a mapping of keys, not a list"     "$R1" run "$(recipe 'model: [1]')"
fails 1 "mine.yaml:[0-9]*: not valid YAML"                             "$R1" run "$(recipe 'model: {')"
echo 'extends: tinny' >"$dir/tinny.yaml"
fails 1 "extends.*no recipe 'tinny'.*did you mean 'tiny'"              "$R1" run "$dir/tinny.yaml"
fails 1 "unknown key 'stepz'.*did you mean 'steps'"                    small "$dir/x" --set base.stepz=5
fails 1 "'bse' is no key.*did you mean 'base'"                         small "$dir/x" --set bse.steps=5
fails 1 "base.steps must be an integer 1 or more, not '0'"             small "$dir/x" --set base.steps=0
fails 1 "num_experts_per_tok is 9.*only n_routed_experts = 4"          small "$dir/x" --set model.num_experts_per_tok=9
fails 1 "num_attention_heads is 4.*not a multiple of num_key_value_heads, 3" small "$dir/x" --set student.num_key_value_heads=3
fails 1 "max_position_embeddings is 30"                                small "$dir/x" --set model.max_position_embeddings=30
fails 1 "max_length 8; raise max_length"                               small "$dir/x" --set base.max_length=8
fails 1 "--until nothing: the recipe has no stage"                     small "$dir/x" --until nothing

# ---- a user's file
printf '{"prompt": "2+2", "answer": "4"}\n\n{"prompt": "3+3", "answer": 6}\n{"prompt": "1+1",\n{"prompt": 7}\n' >"$dir/rows.jsonl"
rows="tasks={rows: {file: $dir/rows.jsonl}}"
mine() { # FROM ARGUMENT...: one step from that model in a new folder
    from=$1
    shift
    rm -rf "$dir/x"
    small "$dir/x" --set 'stages=[zero]' --set "zero.from=$from" --set zero.steps=1 --set zero.eval_every=0 "$@"
}
fails 1 "cannot read the dataset $dir/none.jsonl: No such file"  mine "$good/base" --set "tasks={none: {file: $dir/none.jsonl}}"
fails 1 "rows.jsonl: line 4: "                                   mine "$good/base" --set "$rows"
mine "$good/base" --set "$rows" --skip-bad >"$dir/out" 2>"$dir/said" || complain "--skip-bad did not help"
grep -q 'rows.jsonl: 2 broken lines skipped' "$dir/said" || complain "the broken lines were not counted"

# ---- checkpoints
cp "$good/checkpoints/base.h5" "$dir/base.h5"
size=$(wc -c <"$dir/base.h5")
head -c $((size / 2)) "$dir/base.h5" >"$dir/half.h5"
cp "$dir/base.h5" "$dir/flipped.h5"
old=$(od -An -tu1 -j $((size / 2)) -N1 "$dir/base.h5" | tr -d ' ')
# shellcheck disable=SC2059
printf "$(printf '\\%03o' $((old ^ 16)))" | dd of="$dir/flipped.h5" bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
echo 'model: no' >"$dir/text.h5"
fails 1 "half.h5 is damaged: its length"          mine "$dir/half.h5"
fails 1 "flipped.h5 .*(checksum|damaged|altered|changed|corrupt)" mine "$dir/flipped.h5"
fails 1 "text.h5 .*"                             mine "$dir/text.h5"
fails 1 "nowhere/base"                           mine "$dir/nowhere/base"
fails 1 "flipped.h5 .*"                          "$R1" inspect "$dir/flipped.h5"

# Another model's checkpoint in the place of this run's own.
cp -r "$good" "$dir/mixed"
small "$dir/other" --set model.hidden_size=32 --until base >"$dir/out" 2>&1
cp "$dir/other/checkpoints/base.h5" "$dir/mixed/checkpoints/base.h5"
fails 1 "mixed/checkpoints/base.h5 .*hidden_size is 64 here and 32 there" small "$dir/mixed"
small "$dir/bpe" --until base --set 'tokenizer={kind: bpe, vocab: 320, documents: 50}' >"$dir/out" 2>&1
fails 1 "another tokenizer"                       mine "$dir/bpe/base"

# ---- the run folder
cp -r "$good" "$dir/torn"
echo '{"seed": 1, "sta' >"$dir/torn/summary.json"
fails 1 "torn/summary.json"                       small "$dir/torn"
fails 1 "file: Not a directory"                   small "$dir/rows.jsonl/file"
mkdir "$dir/results"
cp "$good/metrics.jsonl" "$dir/results"
fails 1 "results has results but no recipe.yaml"  small "$dir/results"

# ---- a diverging run: nothing but the last good checkpoint is left, and it still opens
fails 1 "step [0-9]* of base: .*(gradient norm|loss).* try a lower learning rate" \
    small "$dir/nan" --set base.lr=10 --set base.weight_decay=10 --set base.warmup=0 --set base.steps=40
"$R1" inspect "$dir/nan/checkpoints/base.partial.h5" >"$dir/out" 2>"$dir/said" || complain "the last checkpoint does not open"

# ---- no room, no permission: base stays whole, and the run goes on as soon as it can
goes_on() { # FOLDER
    small "$1" >"$dir/out" 2>"$dir/said" || complain "did not go on"
    [ -z "$(find "$1" -name '*.tmp*')" ] || complain "left over: $(find "$1" -name '*.tmp*')"
    cmp "$1/checkpoints/base.h5" "$good/checkpoints/base.h5" || complain "base changed"
}
full() { (trap '' XFSZ && ulimit -f 200 && small "$1"); } # files of at most 100 or 200 KiB: less than a checkpoint
cp -r "$good" "$dir/full"
fails 1 "$dir/full/.*(No space left|File too large)" full "$dir/full"
goes_on "$dir/full"
if mkdir "$dir/disk" && mount -t tmpfs -o size=2m none "$dir/disk" 2>/dev/null; then
    cp -r "$good" "$dir/disk/run"
    head -c 2m /dev/zero >"$dir/disk/filler" 2>/dev/null || :
    fails 1 "$dir/disk/run.*No space left" small "$dir/disk/run"
    for format in hf gguf; do
        fails 1 "$dir/disk/$format needs .* GB, and .* GB are free there" "$R1" export "$good/base" --format $format -o "$dir/disk/$format"
        [ -z "$(ls "$dir/disk/$format" 2>/dev/null)" ] || complain "export to a full disk left files"
    done
    rm "$dir/disk/filler"
    [ -e "$dir/disk/run/recipe.yaml" ] && cmp "$dir/disk/run/checkpoints/base.h5" "$good/checkpoints/base.h5" || complain "damage on the full disk"
    umount "$dir/disk"
fi
cp -r "$good" "$dir/locked"
chmod -R a-w "$dir/locked"
denied=$dir
[ "$(id -u)" != 0 ] || denied=
if [ -n "$denied" ]; then
    fails 1 "$dir/locked.*Permission denied" small "$dir/locked"
elif chmod a+x "$dir" "$dir/.." && setpriv --reuid 65534 --regid 65534 --clear-groups "$R1" --help >/dev/null 2>&1; then
    fails 1 "$dir/locked.*Permission denied" setpriv --reuid 65534 --regid 65534 --clear-groups \
        "$R1" run "$dir/locked/recipe.yaml" --out "$dir/locked"
else
    echo "no write permission: not tested, root cannot become somebody else who sees $R1"
fi
chmod -R u+w "$dir/locked"
goes_on "$dir/locked"
exit $bad
