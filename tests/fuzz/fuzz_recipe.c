/* A recipe: what is accepted must say the same when it is written and read again. */
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/config/recipe_diff.h"
#include "recipes/config/recipe_load.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (memchr(data, 0, size)) return 0;
    char *text = strndup((const char *)data, size), difference[512];
    Status st = {0}, again = {0};
    Recipe *r = recipe_parse(text, "input", NULL, 0, &st);
    CHECK(r || st.failed);
    if (r) {
        char *written = recipe_write(r);
        Recipe *same = recipe_parse(written, "written", NULL, 0, &again);
        CHECK(same != NULL);
        char *twice = recipe_write(same);
        CHECK(recipe_same(written, twice, difference, sizeof difference));
        free(twice);
        free(same);
        free(written);
        free(r);
    }
    free(text);
    return 0;
}
