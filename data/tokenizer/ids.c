/* A list of ids that grows. */
#include "data/tokenizer/ids.h"

#include <stdlib.h>

#include "core/base/check.h"

void ids_push(Ids *list, int32_t id)
{
    if (list->n == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 32;
        list->ids = realloc(list->ids, (size_t)list->capacity * sizeof *list->ids);
        CHECK(list->ids);
    }
    list->ids[list->n++] = id;
}
