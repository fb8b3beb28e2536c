#!/bin/sh
# A recipe or style sheet in the binary is that of the file, byte for byte, whatever is in it.
set -eu
cat >"$TEST_DIR/odd.yaml" <<'END'
# "quotes" \n \\ ??/ trigraph, 语言, a	tab, 100% 'single'

key: "a\tb"   
END
printf 'name: second\n' >"$TEST_DIR/second.yaml"
printf 'a::before { content: "\\2014"; }\n' >"$TEST_DIR/style.css"
sh recipes/recipes_to_c.sh "$TEST_DIR/style.css" "$TEST_DIR/odd.yaml" "$TEST_DIR/second.yaml" >"$TEST_DIR/embedded.c"
cat >"$TEST_DIR/main.c" <<'END'
#include <stdio.h>
#include <string.h>
#include "recipes/config/embedded.h"
#include "recipes/report/html.h"
int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "style") == 0) return fputs(report_style, stdout) < 0;
    for (int i = 0; argc == 2 && i < embedded_recipes_count; i++)
        if (strcmp(embedded_recipes[i].name, argv[1]) == 0) return fputs(embedded_recipes[i].text, stdout) < 0;
    return embedded_recipes[embedded_recipes_count].name == NULL ? 3 : 4;
}
END
${CC:-cc} -std=c11 -Wall -Wextra -Werror -I. "$TEST_DIR/embedded.c" "$TEST_DIR/main.c" -o "$TEST_DIR/main"
"$TEST_DIR/main" style | cmp - "$TEST_DIR/style.css"
"$TEST_DIR/main" odd | cmp - "$TEST_DIR/odd.yaml"
"$TEST_DIR/main" second | cmp - "$TEST_DIR/second.yaml"
code=0
"$TEST_DIR/main" third || code=$?
[ "$code" = 3 ]
