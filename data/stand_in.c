/* Files known by their first bytes or the end of their name. */
#include "data/stand_in.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

typedef struct Kind {
    const char *start; /* first bytes, blanks before them left out, letters of either case */
    size_t n;
    const char *what;
} Kind;

#define KIND(start, what)                                                                                              \
    {                                                                                                                  \
        start, sizeof start - 1, what                                                                                  \
    }
static const Kind kinds[] = {
    KIND("version https://git-lfs.github.com/spec/",
         "a Git LFS pointer, not the file itself: fetch that with `git lfs pull`"),
    KIND("/annex/objects/", "a git-annex pointer, not the file itself: fetch that with `git annex get`"),
    KIND("<!doctype html", "a web page (an error, or a log-in?), not the file itself: download it again"),
    KIND("<html", "a web page (an error, or a log-in?), not the file itself: download it again"),
    KIND("<?xml", "an XML document (a server's error?), not the file itself: download it again"),
    KIND("\x1f\x8b", "compressed by gzip: unpack it first (gunzip)"),
    KIND("\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first (unzstd)"),
    KIND("\xfd\x37zXZ", "compressed by xz: unpack it first (unxz)"),
    KIND("BZh", "compressed by bzip2: unpack it first (bunzip2)"),
    KIND("PK\x03\x04",
         "a zip archive (PyTorch's .bin and .pt are such): r1 reads safetensors, GGUF, .h5 and JSON lines"),
    KIND("PAR1", "a Parquet file: convert it to JSON lines first"),
    KIND("ARROW1", "an Arrow file: convert it to JSON lines first"),
    KIND("\xff\xfe", "UTF-16 text: convert it to UTF-8 first (iconv -f UTF-16 -t UTF-8)"),
    KIND("\xfe\xff", "UTF-16 text: convert it to UTF-8 first (iconv -f UTF-16 -t UTF-8)"),
};

static const char *kind_of(const char *bytes, size_t n)
{
    size_t blank = 0;
    while (blank < n && (isspace((unsigned char)bytes[blank]))) blank++;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (n - blank >= kinds[i].n && !strncasecmp(bytes + blank, kinds[i].start, kinds[i].n)) return kinds[i].what;
    return NULL;
}

/* ".part2", ".part-ab", ".part1of3", ".00", ".aa": the end that split(1) and download tools give; NULL: none. */
static const char *part_end(const char *path)
{
    const char *dot = strrchr(path, '.'), *slash = strrchr(path, '/');
    if (!dot || (slash && dot < slash) || strlen(dot) < 3) return NULL;
    if (!strncasecmp(dot, ".part", 5)) return dot;
    size_t digits = strspn(dot + 1, "0123456789");
    bool letters = strlen(dot) == 3 && dot[1] == 'a' && islower((unsigned char)dot[2]);
    return (digits >= 2 && !dot[1 + digits]) || letters ? dot : NULL;
}

bool stand_in(const char *path, Status *st)
{
    char bytes[512];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(bytes, 1, sizeof bytes, f) : 0;
    if (f) fclose(f);
    const char *what = kind_of(bytes, n), *end = f ? part_end(path) : NULL;
    if (!st->failed || (!what && !end)) return false;
    status_clear(st);
    if (what) return fail(st, "%s is %s", path, what);
    return fail(st, "%s is by its name a part of a split file: put the parts together first (cat %.*s.* >%.*s)", path,
                (int)(end - path), path, (int)(end - path), path);
}
