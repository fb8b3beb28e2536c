/* Whole files read. */
#include "data/file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/check.h"

char *file_read(const char *path, size_t *length, Status *st)
{
    FILE *f = fopen(path, "rb");
    struct stat info;
    if (!f || fstat(fileno(f), &info) || S_ISDIR(info.st_mode)) {
        int code = f ? EISDIR : errno;
        if (f) fclose(f);
        fail(st, "%s: cannot be read: %s", path, strerror(code));
        return NULL;
    }
    size_t capacity = (size_t)info.st_size + 1, n = 0, got;
    char *text = malloc(capacity + 1);
    CHECK(text);
    while ((got = fread(text + n, 1, capacity - n, f)) > 0) {
        n += got;
        if (n == capacity) CHECK((text = realloc(text, (capacity *= 2) + 1)));
    }
    bool bad = ferror(f);
    fclose(f);
    if (bad) {
        free(text);
        fail(st, "%s: cannot be read to its end: %s", path, strerror(errno));
        return NULL;
    }
    text[n] = 0;
    *length = n;
    return text;
}
