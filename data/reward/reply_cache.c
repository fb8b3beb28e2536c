/* Replies by key, in memory and as JSON lines. */
#include "data/reward/reply_cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/durable.h"
#include "core/base/hash.h"
#include "data/json.h"
#include "data/text.h"

ReplyKey reply_key(uint64_t program, const char *line)
{
    ReplyKey key;
    for (uint64_t i = 0; i < 2; i++) {
        uint64_t h = hash_bytes(&program, sizeof program, hash_spread(i + 1));
        key.word[i] = hash_spread(hash_bytes(line, strlen(line), h));
    }
    return key;
}

/* The slot that holds the key or that it would take. */
static int find_slot(const ReplyCache *c, ReplyKey key)
{
    int slot = (int)(key.word[0] & (uint64_t)(c->slots - 1));
    while (c->table[slot] != 0) {
        const ReplyKey *k = &c->entries[c->table[slot] - 1].key;
        if (k->word[0] == key.word[0] && k->word[1] == key.word[1]) break;
        slot = (slot + 1) & (c->slots - 1);
    }
    return slot;
}

static void grow(ReplyCache *c)
{
    c->capacity = c->capacity == 0 ? 256 : c->capacity * 2;
    c->slots = c->capacity * 2;
    c->entries = realloc(c->entries, (size_t)c->capacity * sizeof *c->entries);
    free(c->table);
    c->table = calloc((size_t)c->slots, sizeof *c->table);
    CHECK(c->entries != NULL && c->table != NULL);
    for (int i = 0; i < c->n; i++) c->table[find_slot(c, c->entries[i].key)] = i + 1;
}

ReplyEntry *reply_cache_entry(ReplyCache *c, ReplyKey key)
{
    if (c->n == c->capacity) grow(c);
    int slot = find_slot(c, key);
    if (c->table[slot] == 0) {
        c->entries[c->n] = (ReplyEntry){.key = key, .pending = REPLY_FAILED};
        c->table[slot] = ++c->n;
    }
    return &c->entries[c->table[slot] - 1];
}

void reply_entry_set(ReplyEntry *e, float score, const char *reason)
{
    free(e->reason);
    e->score = score;
    e->reason = text_copy(reason, strlen(reason));
    e->pending = REPLY_HOLDS;
}

void reply_cache_free(ReplyCache *c)
{
    for (int i = 0; i < c->n; i++) free(c->entries[i].reason);
    free(c->entries);
    free(c->table);
    *c = (ReplyCache){0};
}

static bool write_entry(FILE *file, const ReplyEntry *e)
{
    char key[40];
    snprintf(key, sizeof key, "%016llx%016llx", (unsigned long long)e->key.word[0], (unsigned long long)e->key.word[1]);
    Json *v = json_new_object();
    json_set(v, "key", json_new_text(key));
    json_set(v, "score", json_new_number(e->score));
    json_set(v, "reason", json_new_text(e->reason));
    char *line = json_write(v, false);
    bool ok = fprintf(file, "%s\n", line) > 0;
    free(line);
    json_free(v);
    return ok;
}

bool reply_cache_save(const ReplyCache *c, const char *path, Status *st)
{
    Durable d;
    if (!durable_begin(&d, path, st)) return false;
    FILE *file = fopen(d.temp, "wb");
    bool ok = file != NULL;
    for (int i = 0; ok && i < c->n; i++) ok = c->entries[i].pending != REPLY_HOLDS || write_entry(file, &c->entries[i]);
    if (file != NULL) ok = fclose(file) == 0 && ok;
    if (ok) return durable_commit(&d, st);
    durable_fail(path, errno, st);
    durable_abandon(&d);
    return fail_prefix(st, "the reply cache");
}

static bool load_line(ReplyCache *c, const char *line, size_t length)
{
    Status ignored = {0};
    Json *v = json_parse(line, length, "a reply", &ignored);
    const char *key = json_get_string(v, "key", ""), *reason = json_get_string(v, "reason", "");
    unsigned long long word[2];
    bool ok = strlen(key) == 32 && sscanf(key, "%16llx%16llx", &word[0], &word[1]) == 2 &&
              json_is_number(json_get(v, "score"));
    if (ok)
        reply_entry_set(reply_cache_entry(c, (ReplyKey){{word[0], word[1]}}), (float)json_number(json_get(v, "score")),
                        reason);
    json_free(v);
    return ok;
}

bool reply_cache_load(ReplyCache *c, const char *path, Status *st)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) return errno == ENOENT || fail(st, "cannot read the reply cache %s: %s", path, strerror(errno));
    char *line = NULL;
    size_t size = 0;
    int number = 0;
    bool ok = true;
    for (ssize_t n; ok && (n = getline(&line, &size, file)) >= 0;) {
        number++;
        if (!load_line(c, line, (size_t)n))
            ok = fail(st, "%s: line %d is no cached reply: delete the file to ask the programs again", path, number);
    }
    free(line);
    fclose(file);
    return ok;
}
