#include "tests/unit/scratch.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/check.h"

static char folder[64];

int scratch_make(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/r1_test_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info, (void)type, (void)where;
    return remove(path);
}

int scratch_remove(void **state)
{
    (void)state;
    return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *scratch_folder(void)
{
    return folder;
}

const char *scratch_path(const char *name)
{
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

void scratch_put(const char *name, const void *bytes, size_t n)
{
    FILE *out = fopen(scratch_path(name), "wb");
    CHECK(out && fwrite(bytes, 1, n, out) == n && fclose(out) == 0);
}

char *scratch_read(const char *path, size_t *n)
{
    FILE *in = fopen(path, "rb");
    CHECK(in && fseek(in, 0, SEEK_END) == 0);
    *n = (size_t)ftell(in);
    rewind(in);
    char *bytes = malloc(*n + 1);
    CHECK(bytes && fread(bytes, 1, *n, in) == *n);
    fclose(in);
    bytes[*n] = 0;
    return bytes;
}

int scratch_count(const char *part)
{
    DIR *dir = opendir(folder);
    CHECK(dir);
    int n = 0;
    for (struct dirent *e; (e = readdir(dir));) n += strstr(e->d_name, part) != NULL;
    closedir(dir);
    return n;
}

bool says(const Status *st, const char *words)
{
    if (st->failed && strstr(st->text, words)) return true;
    fprintf(stderr, "\"%s\" does not say \"%s\"\n", st->text, words);
    return false;
}
