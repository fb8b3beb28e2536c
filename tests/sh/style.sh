#!/bin/sh
# What a reader would stumble on: paths of one machine, left-over notes, files, functions and lines that are too long.
set -eu
bad=0
list() { find Makefile README.md install.sh .ci core cpu gpu data checkpoints recipes tests notebooks -type f 2>/dev/null |
    grep -v -e '^tests/golden/' -e '^tests/tokenizers/' -e '__pycache__' | sort; }
list | grep -E '\.(c|h|cc|cu|cuh|sh|py|yaml|md|ipynb)$|^Makefile$|^\.ci/' >"$TEST_DIR/text"
grep -E '\.(c|h|cc|cu|cuh)$' "$TEST_DIR/text" >"$TEST_DIR/source"

refuse() { # LIST PATTERN WHY
    if xargs grep -nE -e "$2" <"$1"; then
        echo "^ $3"
        bad=1
    fi
}
refuse "$TEST_DIR/text" '(^|[^A-Za-z0-9._-])/(work|root|home)/' "a path of one machine"
refuse "$TEST_DIR/text" '\b(TO''DO|FIX''ME)\b' "a note to oneself: do it, or open an issue"
LC_ALL=C.UTF-8
export LC_ALL
refuse "$TEST_DIR/source" '^.{131}' "far longer than 120 characters"
refuse "$TEST_DIR/source" "$(printf '\t')|[[:space:]]+\$" "a tab or white space at the end of a line"

# A function opens and closes with a brace in the first column.
xargs awk '
    function wrong(text) { print FILENAME ": " text; bad = 1 }
    FNR == 1 { start = 0 }
    FNR == 701 { wrong("more than 700 lines: find the seam") }
    /^\{/ { start = FNR }
    /^\}/ { if (start && FNR - start > 120) wrong("the function at line " start " is longer than 120 lines"); start = 0 }
    END { exit bad }' <"$TEST_DIR/source" || bad=1
exit $bad
