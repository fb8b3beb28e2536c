/* Byte-pair encoding learned from text (Sennrich et al. 2016, arXiv:1508.07909, algorithm 1, over bytes): join the most
 * frequent adjacent pair, count again, until the vocabulary is full. */
#include "data/tokenizer/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/check.h"
#include "data/tokenizer/byte_alphabet.h"
#include "data/utf8.h"

enum { FIRST_BYTE = SPECIAL_TOKENS, FIRST_MERGE = SPECIAL_TOKENS + 256, SMALLEST_COUNT = 2 };

typedef struct Word {
    Ids ids;
    int64_t count;
} Word;

/* How often a pair occurs now, and the words it was ever seen in. */
typedef struct Pair {
    uint64_t key; /* left << 32 | right */
    int64_t count;
    Ids words;
    bool used;
} Pair;

typedef struct Ranked {
    int64_t count;
    uint64_t key;
} Ranked;

typedef struct Trainer {
    ByteMap known; /* words by their bytes */
    Word *words;
    size_t words_capacity;
    Pair *pairs; /* hash table */
    size_t pairs_capacity, pairs_n;
    Ranked *heap; /* counts that may be out of date: too high, never too low */
    size_t heap_n, heap_capacity;
    Json *vocab, *merges;
    char **texts; /* by id, in the byte alphabet */
    int n;        /* ids so far */
} Trainer;

static void count_word(void *context, const char *piece, size_t length)
{
    Trainer *t = context;
    int32_t at = bytemap_get(&t->known, piece, length);
    if (at >= 0) {
        t->words[at].count++;
        return;
    }
    at = (int32_t)t->known.n;
    if ((size_t)at == t->words_capacity) {
        t->words_capacity = t->words_capacity ? 2 * t->words_capacity : 256;
        t->words = realloc(t->words, t->words_capacity * sizeof *t->words);
        CHECK(t->words);
    }
    bytemap_add(&t->known, piece, length, at);
    t->words[at] = (Word){.count = 1};
    for (size_t i = 0; i < length; i++) ids_push(&t->words[at].ids, FIRST_BYTE + (unsigned char)piece[i]);
}

static Pair *find_pair(const Trainer *t, uint64_t key)
{
    for (size_t i = hash_spread(key);; i++) {
        Pair *p = &t->pairs[i & (t->pairs_capacity - 1)];
        if (!p->used || p->key == key) return p;
    }
}

static Pair *get_pair(Trainer *t, uint64_t key)
{
    if (2 * (t->pairs_n + 1) > t->pairs_capacity) {
        Pair *old = t->pairs;
        size_t old_capacity = t->pairs_capacity;
        t->pairs_capacity = old_capacity ? 2 * old_capacity : 1024;
        t->pairs = calloc(t->pairs_capacity, sizeof *t->pairs);
        CHECK(t->pairs);
        for (size_t i = 0; i < old_capacity; i++)
            if (old[i].used) *find_pair(t, old[i].key) = old[i];
        free(old);
    }
    Pair *p = find_pair(t, key);
    if (!p->used) {
        *p = (Pair){.key = key, .used = true};
        t->pairs_n++;
    }
    return p;
}

/* The most frequent first, then the lowest pair of ids. */
static bool before(Ranked a, Ranked b)
{
    return a.count != b.count ? a.count > b.count : a.key < b.key;
}

static void heap_push(Trainer *t, Ranked r)
{
    if (t->heap_n == t->heap_capacity) {
        t->heap_capacity = t->heap_capacity ? 2 * t->heap_capacity : 1024;
        t->heap = realloc(t->heap, t->heap_capacity * sizeof *t->heap);
        CHECK(t->heap);
    }
    size_t i = t->heap_n++;
    for (; i > 0 && before(r, t->heap[(i - 1) / 2]); i = (i - 1) / 2) t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = r;
}

static Ranked heap_pop(Trainer *t)
{
    Ranked top = t->heap[0], last = t->heap[--t->heap_n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < t->heap_n; i = child) {
        if (child + 1 < t->heap_n && before(t->heap[child + 1], t->heap[child])) child++;
        if (!before(t->heap[child], last)) break;
        t->heap[i] = t->heap[child];
    }
    if (t->heap_n) t->heap[i] = last;
    return top;
}

/* Adds (sign 1) or takes away (-1) what a word contributes; only pairs with `fresh` in them can have grown. */
static void count_pairs(Trainer *t, int word, int sign, int32_t fresh)
{
    const Word *w = &t->words[word];
    for (int i = 0; i + 1 < w->ids.n; i++) {
        uint64_t key = (uint64_t)w->ids.ids[i] << 32 | (uint32_t)w->ids.ids[i + 1];
        Pair *p = get_pair(t, key);
        p->count += sign * w->count;
        if (sign < 0 || (fresh >= 0 && w->ids.ids[i] != fresh && w->ids.ids[i + 1] != fresh)) continue;
        if (!p->words.n || p->words.ids[p->words.n - 1] != word) ids_push(&p->words, word);
        heap_push(t, (Ranked){p->count, key});
    }
}

static void join_in_word(Trainer *t, int word, int32_t left, int32_t right, int32_t joined)
{
    count_pairs(t, word, -1, -1);
    Ids *ids = &t->words[word].ids;
    int n = 0;
    for (int i = 0; i < ids->n; i++) {
        bool here = i + 1 < ids->n && ids->ids[i] == left && ids->ids[i + 1] == right;
        ids->ids[n++] = here ? joined : ids->ids[i];
        i += here;
    }
    ids->n = n;
    count_pairs(t, word, 1, joined);
}

static int32_t add_token(Trainer *t, const char *text)
{
    t->texts[t->n] = text_copy(text, strlen(text));
    json_set(t->vocab, text, json_new_int(t->n));
    return t->n++;
}

/* Two merges can spell the same token; it keeps its first id. */
static void add_merge(Trainer *t, uint64_t key)
{
    int32_t left = (int32_t)(key >> 32), right = (int32_t)(uint32_t)key;
    Text line = {0}, joined = {0};
    text_addf(&line, "%s %s", t->texts[left], t->texts[right]);
    text_addf(&joined, "%s%s", t->texts[left], t->texts[right]);
    json_append(t->merges, json_new_text(line.p));
    const Json *known = json_get(t->vocab, joined.p);
    int32_t id = known ? (int32_t)json_integer(known) : add_token(t, joined.p);
    free(line.p);
    free(joined.p);
    Ids words = get_pair(t, key)->words;
    get_pair(t, key)->words = (Ids){0};
    for (int i = 0; i < words.n; i++) join_in_word(t, words.ids[i], left, right, id);
    free(words.ids);
}

static void learn(Trainer *t, int vocab)
{
    for (int i = 0; i < SPECIAL_TOKENS; i++) add_token(t, special_tokens[i]);
    for (int byte = 0; byte < 256; byte++) {
        Text text = {0};
        byte_alphabet_encode((char[]){(char)byte}, 1, &text);
        add_token(t, text.p);
        free(text.p);
    }
    for (size_t i = 0; i < t->known.n; i++) count_pairs(t, (int)i, 1, -1);
    while (t->n < vocab && t->heap_n) {
        Ranked top = heap_pop(t);
        int64_t now = get_pair(t, top.key)->count;
        if (now != top.count) {
            if (now > 0 && now < top.count) heap_push(t, (Ranked){now, top.key});
            continue;
        }
        if (now < SMALLEST_COUNT) break;
        add_merge(t, top.key);
    }
}

static void trainer_free(Trainer *t)
{
    for (size_t i = 0; i < t->known.n; i++) free(t->words[i].ids.ids);
    for (size_t i = 0; i < t->pairs_capacity; i++) free(t->pairs[i].words.ids);
    for (int i = 0; i < t->n; i++) free(t->texts[i]);
    bytemap_free(&t->known);
    free(t->words);
    free(t->pairs);
    free(t->heap);
    free(t->texts);
}

Tokenizer *tokenizer_train_bpe(const char *text, size_t length, int vocab, Status *st)
{
    if (vocab < FIRST_MERGE || vocab > TOKENIZER_MAX_IDS) {
        fail(st, "a tokenizer of %d ids cannot be trained: bytes and special tokens need %d, and %d is the most", vocab,
             FIRST_MERGE, TOKENIZER_MAX_IDS);
        return NULL;
    }
    Json *pre = pretokenizer_value("qwen2");
    Pretokenizer *words = pretokenizer_new(pre, st);
    CHECK(words);
    Trainer t = {.vocab = json_new_object(), .merges = json_new_array()};
    t.texts = malloc((size_t)vocab * sizeof *t.texts);
    CHECK(t.texts);
    size_t n;
    char *valid = utf8_repair(text, length, &n);
    pretokenize(words, valid, n, true, count_word, &t);
    learn(&t, vocab);
    Json *model = bpe_value(t.vocab, t.merges, NULL, false, false);
    Json *root = tokenizer_value(special_tokens_value(), NULL, pre, byte_level_value(false), model);
    trainer_free(&t);
    pretokenizer_free(words);
    free(valid);
    return tokenizer_from_values(root, own_config_value(), "the trained tokenizer", st);
}
