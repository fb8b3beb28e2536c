#!/bin/sh
# Every YAML block of README.md and docs/ is a recipe (or, without `extends` and `stages`, a part of one that extends tiny) that
# resolves to what it claims in comments:
#   # resolves to: rl_reason.rewards = accuracy 1, format 0.5      (the key as `r1 run --show` prints it)
#   # refused: words of the sentence
# So are the recipes themselves. A block that is no recipe is marked ```yml.
set -eu

blocks() { # FILE: writes $TEST_DIR/block.N.yaml, N the line of the block
    awk -v dir="$TEST_DIR" '
        /^ *```yaml *$/ { open = 1; match($0, /^ */); indent = RLENGTH; out = sprintf("%s/block.%d.yaml", dir, NR); printf "" >out; next }
        /^ *```/ && open { open = 0; close(out); next }
        open { print substr($0, indent + 1) >out }' "$1"
}

claims() { # FILE NAME: checks a recipe against its own comments
    code=0
    "$R1" run "$1" --resolved >"$TEST_DIR/resolved" 2>"$TEST_DIR/said" || code=$?
    refused=$(sed -n 's/^.*# refused: *//p' "$1")
    if [ -n "$refused" ]; then
        [ $code = 1 ] && grep -qF -- "$refused" "$TEST_DIR/said" && return 0
        echo "$2: not refused with \"$refused\""; cat "$TEST_DIR/said"; return 1
    fi
    [ $code = 0 ] || { echo "$2:"; cat "$TEST_DIR/said"; return 1; }
    sed -n 's/^.*# resolves to: *//p' "$1" >"$TEST_DIR/claims"
    while IFS= read -r claim; do
        key=${claim%% = *} want=${claim#* = }
        got=$("$R1" run "$1" --show "$key" 2>&1) || true
        [ "$got" = "$want" ] || { echo "$2: $key is $got, not $want"; return 1; }
    done <"$TEST_DIR/claims"
}

document() { # FILE
    rm -f "$TEST_DIR"/block.*.yaml
    blocks "$1"
    for block in "$TEST_DIR"/block.*.yaml; do
        [ -e "$block" ] || continue
        line=${block##*/block.} line=${line%.yaml}
        grep -qE '^(extends|stages):' "$block" || { echo 'extends: tiny'; cat "$block"; } >"$block.whole"
        [ ! -e "$block.whole" ] || mv "$block.whole" "$block"
        claims "$block" "$1:$line" || return 1
    done
}

for file in README.md docs/*.md; do
    [ ! -e "$file" ] || document "$file"
done
for file in recipes/*.yaml recipes/examples/*.yaml; do
    claims "$file" "$file"
done

# The test itself: what is right passes, each wrong claim is seen.
cat >"$TEST_DIR/good.md" <<'END'
```yaml
stages: # indented text stays a recipe
  rl_reason:
    rewards: {accuracy: 1, format: 0.5}  # resolves to: rl_reason.rewards = accuracy 1, format 0.5
# resolves to: zero.rewards = accuracy 1, format 1
extends: tiny
```
   ```yaml
   rl_reason.lr: 1 # refused: unknown key 'rl_reason.lr'
   ```
```yaml
stages.zero.group: 4 # resolves to: zero.group = 4
```
END
document "$TEST_DIR/good.md"
sed 's/= accuracy 1, format 0.5/= accuracy 1, format 0.5, language 1/' "$TEST_DIR/good.md" >"$TEST_DIR/bad1.md"
sed 's/group: 4 #/group: 8 #/' "$TEST_DIR/good.md" >"$TEST_DIR/bad2.md"
sed "s/'rl_reason.lr'/'rl_raisin.lr'/" "$TEST_DIR/good.md" >"$TEST_DIR/bad3.md"
sed 's/rl_reason:/rl_raisin:/' "$TEST_DIR/good.md" >"$TEST_DIR/bad4.md"
for bad in 1 2 3 4; do
    if (document "$TEST_DIR/bad$bad.md") >/dev/null; then echo "a wrong claim passed: bad$bad.md"; exit 1; fi
done
