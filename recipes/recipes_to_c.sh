#!/bin/sh
# Writes C source that holds the files named on the command line: a style sheet as report_style (recipes/report/html.h
# declares it), files of a folder `paper` as claims, every
# other file as a recipe (recipes/config/embedded.h).
as_strings() {
    # A question mark is escaped because C11 still reads trigraphs.
    sed 's/[\\"?]/\\&/g; s/^/"/; s/$/\\n"/' "$1"
}

recipes=0
echo '#include "recipes/config/embedded.h"'
echo '#include "recipes/report/html.h"'
for file in "$@"; do
    case $file in *.css) ;; *) continue ;; esac
    echo 'const char report_style[] ='
    as_strings "$file"
    echo ';'
done
echo 'const EmbeddedRecipe embedded_recipes[] = {'
for file in "$@"; do
    case $file in *.css | */paper/*) continue ;; esac
    recipes=$((recipes + 1))
    printf '{"%s",\n' "$(basename "$file" .yaml)"
    as_strings "$file"
    echo '""},'
done
echo '{0, 0}};'
echo "const int embedded_recipes_count = $recipes;"
echo 'const EmbeddedRecipe embedded_claims[] = {'
for file in "$@"; do
    case $file in */paper/*) ;; *) continue ;; esac
    printf '{"%s",\n' "$(basename "$file" .yaml)"
    as_strings "$file"
    echo '""},'
done
echo '{0, 0}};'
