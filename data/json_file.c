/* JSON in files: read, and written beside, flushed and renamed. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/check.h"
#include "core/base/durable.h"
#include "data/file.h"
#include "data/json.h"
#include "data/stand_in.h"

Json *json_read(const char *path, Status *st)
{
    size_t length;
    char *text = file_read(path, &length, st);
    if (!text) return NULL;
    Json *v = json_parse(text, length, path, st);
    free(text);
    if (!v) stand_in(path, st);
    return v;
}

bool json_write_file(const Json *v, const char *path, Status *st)
{
    char *text = json_write(v, true), *line = NULL;
    int n = asprintf(&line, "%s\n", text);
    CHECK(n > 0);
    bool ok = durable_write(path, line, (size_t)n, st);
    free(line);
    free(text);
    return ok;
}
