/* A user's JSONL file: lines read, the held-out share split off. */
#include "data/dataset.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "data/dataset_row.h"
#include "data/sandbox/sandbox.h"
#include "data/text.h"
#include "data/stand_in.h"

static uint64_t row_hash(const DatasetRow *row)
{
    const char *text = row->kind == ROW_TEXT ? row->completion : row->prompt;
    return hash_spread(hash_bytes(text, strlen(text), 0));
}

/* Marks the rows whose prompt's hash lies in the lowest `heldout` of the range; where that is none, the lowest hash,
 * where that is all, all but the highest. */
static void mark_test(Dataset *d, double heldout)
{
    uint64_t lowest = UINT64_MAX, highest = 0;
    d->n_test = 0;
    if (heldout <= 0 || d->n < 2) return;
    uint64_t *hashes = malloc((size_t)d->n * sizeof *hashes);
    CHECK(hashes != NULL);
    for (int i = 0; i < d->n; i++) {
        uint64_t h = hashes[i] = row_hash(&d->rows[i]);
        lowest = h < lowest ? h : lowest;
        highest = h > highest ? h : highest;
    }
    for (int i = 0; i < d->n && lowest < highest; i++) {
        bool inside = (double)(hashes[i] >> 11) * 0x1p-53 < heldout;
        d->rows[i].test = (inside && hashes[i] < highest) || hashes[i] == lowest;
        d->n_test += d->rows[i].test;
    }
    free(hashes);
}

/* Training rows first, file order kept. */
static void split_rows(Dataset *d, double heldout)
{
    mark_test(d, heldout);
    d->n_train = d->n - d->n_test;
    DatasetRow *sorted = malloc((size_t)(d->n > 0 ? d->n : 1) * sizeof *sorted);
    CHECK(sorted != NULL);
    int train = 0, test = d->n_train;
    for (int i = 0; i < d->n; i++) sorted[d->rows[i].test ? test++ : train++] = d->rows[i];
    free(d->rows);
    d->rows = sorted;
}

static bool read_line(Dataset *d, int *capacity, const char *line, size_t length, int number, Status *st)
{
    DatasetRow row = {.line = number};
    Status fault = {0};
    row.row = json_parse_line(line, length, &fault);
    if (row.row == NULL || !row_read(&row, &fault)) {
        row_free(&row);
        return fail(st, "%s: line %d: %s (fix the line, or use --skip-bad to skip such lines)", d->path, number,
                    fault.text);
    }
    if (d->n == *capacity) {
        *capacity = *capacity * 2 + 64;
        d->rows = realloc(d->rows, (size_t)*capacity * sizeof *d->rows);
        CHECK(d->rows != NULL);
    }
    d->choices += row.verifier == VERIFIER_CHOICE;
    d->programs += row.verifier == VERIFIER_TESTS;
    d->rows[d->n++] = row;
    return true;
}

static bool read_lines(Dataset *d, FILE *file, bool skip_bad, Status *st)
{
    char *line = NULL;
    size_t size = 0;
    int capacity = 0, number = 0;
    bool ok = true;
    for (ssize_t n; ok && (n = getline(&line, &size, file)) >= 0;) {
        Status fault = {0};
        const char *start = ++number == 1 && n >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0 ? line + 3 : line;
        if (start[strspn(start, " \t\r\n")] == '\0' && strlen(start) == (size_t)(line + n - start)) continue;
        if (read_line(d, &capacity, start, (size_t)(line + n - start), number, &fault)) continue;
        d->skipped++;
        if (!skip_bad) ok = fail(st, "%s", fault.text);
    }
    if (ok && ferror(file)) ok = fail(st, "%s: reading failed: %s", d->path, strerror(errno));
    free(line);
    return ok;
}

/* JSON or a table that is no JSON lines, by the file's first line or name: what it is, in the place of what was wrong in it. */
static bool other_format(const char *path, Status *st)
{
    char line[4096] = "";
    FILE *file = fopen(path, "rb");
    bool some = file != NULL && fgets(line, sizeof line, file) != NULL;
    if (file != NULL) fclose(file);
    const char *start = line + strspn(line, " \t\r\n\xef\xbb\xbf"), *dot = strrchr(path, '.');
    if (!some) return false;
    bool table = dot != NULL && (strcasecmp(dot, ".csv") == 0 || strcasecmp(dot, ".tsv") == 0);
    bool open = *start == '{' && start[1 + strspn(start + 1, " \t\r\n")] == '\0';
    if (*start != '[' && !open && !table) return false;
    status_clear(st);
    if (table) fail(st, "%s is a table by its name: convert it to JSON lines first, an object a row", path);
    else
        fail(st, "%s is JSON, but not JSON lines: write one object a line (jq -c '%s' FILE)", path,
             *start == '[' ? ".[]" : ".");
    return true;
}

/* The file's name without folder and ending. */
static char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    return text_copy(name, dot != NULL && dot > name ? (size_t)(dot - name) : strlen(name));
}

Dataset *dataset_read(const char *path, double heldout, bool skip_bad, Status *st)
{
    if (!(heldout >= 0 && heldout <= 0.5)) {
        fail(st, "%s: the held-out share is %g, it must be between 0 and 0.5", path, heldout);
        return NULL;
    }
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail(st, "cannot read the dataset %s: %s", path, strerror(errno));
        return NULL;
    }
    Dataset *d = calloc(1, sizeof *d);
    CHECK(d != NULL);
    d->path = text_copy(path, strlen(path));
    d->name = base_name(path);
    d->heldout = heldout;
    d->task = (Task){
        .name = d->name,
        .help = "rows of a file",
        .example = "",
        .separator = ",",
        .levels = 1,
        .verify = row_verify,
    };
    bool ok = read_lines(d, file, skip_bad, st);
    fclose(file);
    if (ok && d->n == 0) ok = fail(st, "%s holds no usable row (%d broken)", path, d->skipped);
    if (d->n == 0 || d->skipped > 0) ok = !other_format(path, st) && ok;
    if (!ok) {
        stand_in(path, st);
        dataset_free(d);
        return NULL;
    }
    split_rows(d, heldout);
    return d;
}

bool dataset_judges(const Dataset *d, Status *st)
{
    return d->programs == 0 || sandbox_ready(st) || fail_prefix(st, "%s", d->path);
}

void dataset_free(Dataset *d)
{
    if (d == NULL) return;
    for (int i = 0; i < d->n; i++) row_free(&d->rows[i]);
    free(d->rows);
    free(d->path);
    free(d->name);
    free(d);
}

int dataset_rows(const Dataset *d, Split split)
{
    return split == SPLIT_TEST && d->n_test > 0 ? d->n_test : d->n_train;
}

const DatasetRow *dataset_row(const Dataset *d, Split split, uint64_t index)
{
    if (split == SPLIT_TEST && d->n_test > 0) return &d->rows[d->n_train + (int)(index % (uint64_t)d->n_test)];
    return &d->rows[index % (uint64_t)d->n_train];
}

void dataset_problem(Problem *out, const Dataset *d, Split split, uint64_t index)
{
    const DatasetRow *row = dataset_row(d, split, index);
    *out = (Problem){
        .task = &d->task,
        .index = index,
        .level = 1,
        .language = row->language,
        .kind = row->prompt_kind,
        .key = row_hash(row),
        .prompt = text_copy(row->prompt, strlen(row->prompt)),
        .messages = row->messages != NULL ? json_copy(row->messages) : NULL,
        .tools = row->tools != NULL ? json_copy(row->tools) : NULL,
        .verifier = row->verifier,
        .answer = text_copy(row->answer, strlen(row->answer)),
        .row = json_copy(row->row),
    };
}
