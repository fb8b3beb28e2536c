/* Reading GGUF: the header checked, values and tensors looked up by name; a file in parts is one. */
#include "checkpoints/gguf/gguf.h"

/* Reading GGUF: the header checked, values and tensors looked up by name; a file in parts is one. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/gguf/ggml_type.h"
#include "checkpoints/mapping.h"
#include "core/base/check.h"

enum { NAME_LIMIT = 64, KEY_LIMIT = 65535, ENTRY_LIMIT = 1 << 20, PARTS_LIMIT = 1 << 12 };
static const uint64_t count_limit = 1ull << 30; /* of strings and arrays, as in ggml */

/* One metadata value: its place in the mapping. */
typedef struct Value {
    char *key;
    uint32_t type, element; /* element: of an array */
    uint64_t count;         /* of an array, else 1; of a string: its bytes */
    const uint8_t *at;
    char *text; /* of a string: a NUL-terminated copy */
} Value;

struct GgufFile {
    uint8_t *base;
    size_t size;
    Value *values;
    size_t nvalues;
    GgufTensor *tensors;
    size_t ntensors;
    size_t *by_name;
    struct GgufFile **parts; /* of a file in parts: the others, whose tensors are listed here too */
    int n_parts;
};

/* Reads forward within the mapping; after the first step beyond its end everything gives zeros. */
typedef struct Cursor {
    const uint8_t *at, *end;
    bool ok;
} Cursor;

static const uint8_t *take(Cursor *c, uint64_t n)
{
    if (!c->ok || n > (uint64_t)(c->end - c->at)) {
        c->ok = false;
        return NULL;
    }
    const uint8_t *p = c->at;
    c->at += n;
    return p;
}

static uint64_t integer_at(const uint8_t *p, unsigned size)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < size; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static uint64_t take_integer(Cursor *c, unsigned size)
{
    const uint8_t *p = take(c, size);
    return p ? integer_at(p, size) : 0;
}

/* A string's bytes; *length is 0 after a failure. */
static const uint8_t *take_string(Cursor *c, uint64_t *length)
{
    *length = take_integer(c, 8);
    const uint8_t *p = *length < count_limit ? take(c, *length) : NULL;
    if (!p) c->ok = false, *length = 0;
    return p;
}

/* A NUL-terminated copy; a NUL inside, or more than limit bytes, is a failure. */
static char *take_name(Cursor *c, uint64_t limit)
{
    uint64_t n;
    const uint8_t *p = take_string(c, &n);
    if (!p || n > limit || memchr(p, 0, n)) {
        c->ok = false;
        return NULL;
    }
    char *text = malloc(n + 1);
    CHECK(text);
    memcpy(text, p, n);
    text[n] = 0;
    return text;
}

/* Bytes of a fixed-size value type; 0 for strings, arrays and unknown types. */
static unsigned value_size(uint32_t type)
{
    static const unsigned sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof sizes / sizeof *sizes ? sizes[type] : 0;
}

static void take_array(Cursor *c, Value *v)
{
    v->element = (uint32_t)take_integer(c, 4);
    v->count = take_integer(c, 8);
    v->at = c->at;
    if (v->count >= count_limit) c->ok = false;
    if (value_size(v->element)) {
        take(c, v->count * value_size(v->element));
    } else if (v->element == VALUE_STRING) {
        uint64_t n;
        for (uint64_t i = 0; c->ok && i < v->count; i++) take_string(c, &n);
    } else {
        c->ok = false;
    }
}

static void take_value(Cursor *c, Value *v)
{
    v->key = take_name(c, KEY_LIMIT);
    v->type = (uint32_t)take_integer(c, 4);
    v->at = c->at;
    v->count = 1;
    if (v->type == VALUE_STRING) {
        const uint8_t *p = take_string(c, &v->count);
        if (!p) return;
        v->text = calloc(1, v->count + 1);
        CHECK(v->text);
        memcpy(v->text, p, v->count);
    } else if (v->type == VALUE_ARRAY) {
        take_array(c, v);
    } else if (value_size(v->type)) {
        take(c, value_size(v->type));
    } else {
        c->ok = false;
    }
}

/* Name, dimensions, type, and the offset in the data section. */
static void take_tensor(Cursor *c, GgufTensor *t, uint64_t *offset)
{
    t->name = take_name(c, NAME_LIMIT - 1);
    t->ndim = (int)take_integer(c, 4);
    if (t->ndim < 0 || t->ndim > 4) c->ok = false;
    t->count = 1;
    for (int i = 0; i < 4; i++) {
        t->ne[i] = c->ok && i < t->ndim ? take_integer(c, 8) : 1;
        if (__builtin_mul_overflow(t->count, t->ne[i], &t->count)) c->ok = false;
    }
    t->type = (uint32_t)take_integer(c, 4);
    *offset = take_integer(c, 8);
    unsigned elements, bytes;
    if (!c->ok || !ggml_block(t->type, &elements, &bytes) || t->ne[0] % elements ||
        __builtin_mul_overflow(t->count / elements, (uint64_t)bytes, &t->bytes))
        c->ok = false;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const Value *)a)->key, ((const Value *)b)->key);
}

static int compare_tensor_names(const void *a, const void *b, void *tensors)
{
    const GgufTensor *t = tensors;
    return strcmp(t[*(const size_t *)a].name, t[*(const size_t *)b].name);
}

static bool sort_values(GgufFile *f, const char *path, Status *st)
{
    qsort(f->values, f->nvalues, sizeof *f->values, compare_keys);
    for (size_t i = 1; i < f->nvalues; i++)
        if (!strcmp(f->values[i - 1].key, f->values[i].key))
            return fail(st, "%s: key %.100s occurs twice: the file is damaged", path, f->values[i].key);
    return true;
}

/* Of all parts, when there are several. */
static bool sort_tensors(GgufFile *f, const char *path, Status *st)
{
    f->by_name = malloc((f->ntensors + 1) * sizeof *f->by_name);
    CHECK(f->by_name);
    for (size_t i = 0; i < f->ntensors; i++) f->by_name[i] = i;
    qsort_r(f->by_name, f->ntensors, sizeof *f->by_name, compare_tensor_names, f->tensors);
    for (size_t i = 1; i < f->ntensors; i++)
        if (!strcmp(f->tensors[f->by_name[i - 1]].name, f->tensors[f->by_name[i]].name))
            return fail(st, "%s: tensor %s occurs twice: the file is damaged", path, f->tensors[f->by_name[i]].name);
    return true;
}

/* Tensors lie one behind the other in listing order, each padded to the alignment. */
static bool place_tensors(GgufFile *f, const uint64_t *offsets, size_t header, const char *path, Status *st)
{
    int64_t alignment = 32;
    gguf_int(f, "general.alignment", &alignment);
    if (alignment < 8 || alignment > 1 << 20 || alignment & (alignment - 1))
        return fail(st, "%s: general.alignment is %lld, no power of two from 8", path, (long long)alignment);
    uint64_t a = (uint64_t)alignment, start = (header + a - 1) / a * a, at = 0;
    for (size_t i = 0; i < f->ntensors; i++) {
        GgufTensor *t = &f->tensors[i];
        if (offsets[i] != at)
            return fail(st, "%s: tensor %s is not where its neighbours end: the file is damaged", path, t->name);
        if (start > f->size || t->bytes > f->size - start || at > f->size - start - t->bytes)
            return fail(st, "%s is truncated: tensor %s reaches beyond its end; fetch it again", path, t->name);
        t->data = f->base + start + at;
        at += (t->bytes + a - 1) / a * a;
    }
    return true;
}

static bool parse(GgufFile *f, const char *path, Status *st)
{
    Cursor c = {f->base, f->base + f->size, true};
    const uint8_t *magic = take(&c, 4);
    if (!magic || memcmp(magic, "GGUF", 4)) return fail(st, "%s is no GGUF file", path);
    uint64_t version = take_integer(&c, 4), tensors = take_integer(&c, 8), values = take_integer(&c, 8);
    if (version != 2 && version != 3)
        return fail(st, "%s has GGUF version %llu (or is big-endian): only 2 and 3 are read", path,
                    (unsigned long long)version);
    if (tensors > ENTRY_LIMIT || values > ENTRY_LIMIT || tensors > f->size / 24 || values > f->size / 13)
        return fail(st, "%s is truncated or damaged: its header announces more than the file can hold", path);
    f->values = calloc(values + 1, sizeof *f->values);
    f->tensors = calloc(tensors + 1, sizeof *f->tensors);
    uint64_t *offsets = calloc(tensors + 1, sizeof *offsets);
    CHECK(f->values && f->tensors && offsets);
    while (c.ok && f->nvalues < values) take_value(&c, &f->values[f->nvalues++]);
    while (c.ok && f->ntensors < tensors) {
        take_tensor(&c, &f->tensors[f->ntensors], &offsets[f->ntensors]);
        f->ntensors++;
    }
    bool ok = c.ok ? sort_values(f, path, st) && place_tensors(f, offsets, (size_t)(c.at - f->base), path, st)
                   : fail(st, "%s: entry %zu of its header is truncated or damaged; fetch it again", path,
                          f->nvalues + f->ntensors);
    free(offsets);
    return ok;
}

/* One file, without the parts beside it. */
static GgufFile *open_one(const char *path, Status *st)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info)) {
        fail(st, "cannot read %s: %s; check the path", path, strerror(errno));
        if (fd >= 0) close(fd);
        return NULL;
    }
    void *base = S_ISREG(info.st_mode) && info.st_size > 0
                     ? mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0)
                     : MAP_FAILED;
    close(fd);
    if (base == MAP_FAILED) {
        fail(st, "cannot map %s: it is empty or no regular file", path);
        return NULL;
    }
    GgufFile *f = calloc(1, sizeof *f);
    CHECK(f);
    f->base = base;
    f->size = (size_t)info.st_size;
    if (parse(f, path, st)) return f;
    gguf_close(f);
    return NULL;
}

/* Part `no` (from 0) beside part 0: its path, and that it is what its name says. */
static GgufFile *open_part(const char *first, size_t stem, int64_t no, int64_t count, Status *st)
{
    char path[8192];
    int64_t its_no = -1, its_count = 0;
    snprintf(path, sizeof path, "%.*s-%05d-of-%05d.gguf", (int)stem, first, (int)no + 1, (int)count);
    GgufFile *f = open_one(path, st);
    if (!f) return NULL;
    gguf_int(f, "split.no", &its_no);
    gguf_int(f, "split.count", &its_count);
    if (its_no == no && its_count == count) return f;
    fail(st, "%s says that it is part %lld of %lld: the parts do not belong together", path, (long long)its_no + 1,
         (long long)its_count);
    gguf_close(f);
    return NULL;
}

/* Takes over a part's list of tensors; the part keeps the mapping. */
static void take_tensors(GgufFile *f, GgufFile *part)
{
    f->tensors = realloc(f->tensors, (f->ntensors + part->ntensors + 1) * sizeof *f->tensors);
    CHECK(f->tensors);
    memcpy(f->tensors + f->ntensors, part->tensors, part->ntensors * sizeof *f->tensors);
    f->ntensors += part->ntensors;
    part->ntensors = 0;
}

static bool join_parts(GgufFile *f, const char *path, Status *st)
{
    int64_t no = 0, count = 1, tensors;
    if (!gguf_int(f, "split.count", &count) || count < 2) return true;
    char ending[40];
    snprintf(ending, sizeof ending, "-00001-of-%05lld.gguf", (long long)count);
    size_t length = strlen(path), end = strlen(ending);
    gguf_int(f, "split.no", &no);
    if (count > PARTS_LIMIT || no != 0 || length <= end || length > 4096 || strcmp(path + length - end, ending))
        return fail(
            st,
            "%s is part %lld of a file in %lld parts: give the first, whose name ends in %s, with the others beside "
            "it",
            path, (long long)no + 1, (long long)count, ending);
    f->parts = calloc((size_t)count, sizeof *f->parts);
    CHECK(f->parts);
    for (int64_t i = 1; i < count; i++) {
        GgufFile *part = open_part(path, length - end, i, count, st);
        if (!part) return fail_prefix(st, "%s is the first of %lld parts", path, (long long)count);
        f->parts[f->n_parts++] = part;
        take_tensors(f, part);
    }
    if (gguf_int(f, "split.tensors.count", &tensors) && tensors != (int64_t)f->ntensors)
        return fail(st, "%s: its parts hold %zu tensors of %lld: one is truncated", path, f->ntensors,
                    (long long)tensors);
    return true;
}

GgufFile *gguf_open(const char *path, Status *st)
{
    GgufFile *f = open_one(path, st);
    if (!f) return NULL;
    if (join_parts(f, path, st) && sort_tensors(f, path, st)) return f;
    gguf_close(f);
    return NULL;
}

void gguf_close(GgufFile *f)
{
    if (!f) return;
    for (int i = 0; i < f->n_parts; i++) gguf_close(f->parts[i]);
    free(f->parts);
    for (size_t i = 0; i < f->nvalues; i++) {
        free(f->values[i].key);
        free(f->values[i].text);
    }
    for (size_t i = 0; i < f->ntensors; i++) free(f->tensors[i].name);
    free(f->values);
    free(f->tensors);
    free(f->by_name);
    munmap(f->base, f->size);
    free(f);
}

size_t gguf_count(const GgufFile *f)
{
    return f->ntensors;
}

const GgufTensor *gguf_at(const GgufFile *f, size_t i)
{
    CHECK(i < f->ntensors);
    return &f->tensors[i];
}

const GgufTensor *gguf_find(const GgufFile *f, const char *name)
{
    size_t low = 0, high = f->ntensors;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const GgufTensor *t = &f->tensors[f->by_name[middle]];
        int order = strcmp(name, t->name);
        if (order == 0) return t;
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

bool gguf_mapped(const GgufFile *f, size_t i, MappedFile *out)
{
    if (i > (size_t)f->n_parts) return false;
    const GgufFile *part = i ? f->parts[i - 1] : f;
    size_t header = part->size;
    for (size_t k = 0; k < f->ntensors; k++) {
        const uint8_t *data = f->tensors[k].data;
        if (data >= part->base && (size_t)(data - part->base) < header) header = (size_t)(data - part->base);
    }
    *out = (MappedFile){part->base, part->size, header};
    return true;
}

bool gguf_read_f32(const GgufTensor *t, uint64_t from, uint64_t n, float *out, Status *st)
{
    unsigned elements = 1, bytes = 1;
    ggml_block(t->type, &elements, &bytes);
    CHECK(from <= t->count && n <= t->count - from && from % elements == 0 && n % elements == 0);
    if (ggml_dequantise(t->type, (const char *)t->data + from / elements * bytes, n, out)) return true;
    return fail(st, "tensor %s has type %s, which is not read: convert the file to F16 or Q8_0", t->name,
                ggml_type_name(t->type));
}

/* The file of its parts whose mapping holds a tensor. */
static const GgufFile *part_of(const GgufFile *f, const GgufTensor *t)
{
    const uint8_t *data = t->data;
    for (int i = 0; i < f->n_parts; i++)
        if (data >= f->parts[i]->base && data < f->parts[i]->base + f->parts[i]->size) return f->parts[i];
    return f;
}

void gguf_forget(const GgufFile *f, const GgufTensor *t, uint64_t from, uint64_t n)
{
    unsigned elements = 1, bytes = 1;
    ggml_block(t->type, &elements, &bytes);
    const GgufFile *part = part_of(f, t);
    const uint8_t *data = t->data;
    mapping_forget_part(part->base, part->size, (size_t)(data - part->base) + from / elements * bytes,
                        n / elements * bytes);
}

/* ---- Metadata ---- */

static const Value *find_value(const GgufFile *f, const char *key)
{
    Value probe = {.key = (char *)key};
    return f->nvalues ? bsearch(&probe, f->values, f->nvalues, sizeof probe, compare_keys) : NULL;
}

static bool integer_of(uint32_t type, const uint8_t *at, int64_t *out)
{
    unsigned size = value_size(type);
    if (type == VALUE_BOOL || type == 6 || type == 12 || size == 0) return false;
    uint64_t v = integer_at(at, size);
    bool is_signed = type == 1 || type == 3 || type == 5 || type == 11;
    if (is_signed && size < 8 && v >> (8 * size - 1)) v |= ~0ull << (8 * size);
    if (!is_signed && v > INT64_MAX) return false;
    *out = (int64_t)v;
    return true;
}

bool gguf_int(const GgufFile *f, const char *key, int64_t *out)
{
    const Value *v = find_value(f, key);
    return v && integer_of(v->type, v->at, out);
}

bool gguf_float(const GgufFile *f, const char *key, double *out)
{
    const Value *v = find_value(f, key);
    float narrow;
    if (!v || (v->type != 6 && v->type != 12)) return false;
    if (v->type == 12) memcpy(out, v->at, sizeof *out);
    else {
        memcpy(&narrow, v->at, sizeof narrow);
        *out = (double)narrow;
    }
    return true;
}

bool gguf_bool(const GgufFile *f, const char *key, bool *out)
{
    const Value *v = find_value(f, key);
    if (!v || v->type != VALUE_BOOL) return false;
    *out = *v->at != 0;
    return true;
}

const char *gguf_string(const GgufFile *f, const char *key)
{
    const Value *v = find_value(f, key);
    return v ? v->text : NULL;
}

const char **gguf_strings(const GgufFile *f, const char *key, size_t *n)
{
    const Value *v = find_value(f, key);
    if (!v || v->type != VALUE_ARRAY || v->element != VALUE_STRING) return NULL;
    Cursor c = {v->at, f->base + f->size, true}, again = c;
    uint64_t length, bytes = 0;
    for (uint64_t i = 0; i < v->count; i++) {
        take_string(&c, &length);
        bytes += length + 1;
    }
    /* The copies of the strings lie behind the array of pointers: one block. */
    const char **list = malloc((size_t)v->count * sizeof *list + bytes + 1);
    CHECK(list);
    char *to = (char *)(list + v->count);
    for (uint64_t i = 0; i < v->count; i++) {
        const uint8_t *p = take_string(&again, &length);
        list[i] = to;
        memcpy(to, p, length);
        to[length] = 0;
        to += length + 1;
    }
    *n = (size_t)v->count;
    return list;
}

int32_t *gguf_ints(const GgufFile *f, const char *key, size_t *n)
{
    const Value *v = find_value(f, key);
    unsigned size = v && v->type == VALUE_ARRAY ? value_size(v->element) : 0;
    if (!size) return NULL;
    int32_t *list = malloc((size_t)v->count * sizeof *list + 1);
    CHECK(list);
    for (uint64_t i = 0; i < v->count; i++) {
        int64_t one;
        if (!integer_of(v->element, v->at + i * size, &one) || one < INT32_MIN || one > INT32_MAX) {
            free(list);
            return NULL;
        }
        list[i] = (int32_t)one;
    }
    *n = (size_t)v->count;
    return list;
}

float *gguf_floats(const GgufFile *f, const char *key, size_t *n)
{
    const Value *v = find_value(f, key);
    if (!v || v->type != VALUE_ARRAY || v->element != VALUE_F32) return NULL;
    float *list = malloc((size_t)v->count * sizeof *list + 1);
    CHECK(list);
    memcpy(list, v->at, (size_t)v->count * sizeof *list);
    *n = (size_t)v->count;
    return list;
}
