#!/bin/sh
# Writes C source that holds the recipes named on the command line (recipes/config/embedded.h declares it).
echo '#include "recipes/config/embedded.h"'
echo 'const EmbeddedRecipe embedded_recipes[] = {'
for file in "$@"; do
    printf '{"%s",\n' "$(basename "$file" .yaml)"
    # A question mark is escaped because C11 still reads trigraphs.
    sed 's/[\\"?]/\\&/g; s/^/"/; s/$/\\n"/' "$file"
    echo '""},'
done
echo '{0, 0}};'
echo "const int embedded_recipes_count = $#;"
