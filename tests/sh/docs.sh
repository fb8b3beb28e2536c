#!/bin/sh
# Pages tell the truth about the tree: files and functions that README, docs/ and the folders' READMEs name are there, and a folder's
# README covers its files.
set -u
bad=0
complain() {
    echo "$1"
    bad=1
}

# path:function, and paths of files, in README, CONTRIBUTING and docs/.
for page in README.md CONTRIBUTING.md docs/*.md; do
    grep -oE '(core|cpu|gpu|data|checkpoints|recipes|tests|notebooks)/[A-Za-z0-9_/.-]*\.(c|h|cu|cuh|sh|py|yaml|md|ipynb)(:[A-Za-z_][A-Za-z0-9_]*)?' "$page" | sort -u |
        while IFS=: read -r file name; do
            case $file in */NAME.* | */cmd_NAME.*) continue ;; esac
            if [ ! -e "$file" ]; then
                echo "$page: $file is not there"
            elif [ -n "${name:-}" ] && ! grep -qE "\b$name\b" "$file"; then
                echo "$page: $file has no $name"
            fi
        done
    grep -oE '\]\([A-Za-z0-9_./-]+\.(md|svg|png)' "$page" | sed 's/](//' | while read -r link; do
        [ -e "$(dirname "$page")/$link" ] || echo "$page: $link is not there"
    done
done >"$TEST_DIR/wrong"
[ ! -s "$TEST_DIR/wrong" ] || complain "$(cat "$TEST_DIR/wrong")"

# A folder's README names every file of its own folder, by its name without suffix or by its room's name.
for readme in core cpu data checkpoints recipes tests notebooks; do
    for file in "$readme"/*; do
        base=$(basename "$file")
        case $base in README.md | __pycache__) continue ;; esac
        stem=${base%.*}
        grep -qE "\b$stem\b" "$readme/README.md" || complain "$readme/README.md does not name $base"
    done
done
exit $bad
