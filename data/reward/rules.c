/* Components that are rules: what can be said of a completion without asking anybody. */
#include "data/reward/rules.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "data/text.h"
#include "data/utf8.h"

enum { GRAM = 4 };

static float overlong(const RewardSpec *s, const RewardInput *in)
{
    int free_tokens = in->max_tokens - s->buffer;
    if (in->tokens <= free_tokens && !in->truncated) return 0.0f;
    if (s->buffer == 0 || in->tokens >= in->max_tokens) return -1.0f;
    return (float)(free_tokens - in->tokens) / (float)s->buffer;
}

/* 0 blank, 1 letter, 2 digit, 3 any other sign: what makes the units of repetition. */
static int sign_class(int32_t c)
{
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') return 0;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= 0xc0 && c < 0x2e80)) return 1;
    return c >= '0' && c <= '9' ? 2 : 3;
}

/* Hashes of the units of a text: runs of letters, runs of digits, single other signs. Caller frees. */
static uint64_t *read_units(const char *text, size_t length, int *count)
{
    uint64_t *units = malloc((length + 1) * sizeof *units);
    CHECK(units != NULL);
    int n = 0, last = 0;
    for (size_t i = 0; i < length;) {
        int32_t c;
        size_t step = utf8_next(text + i, length - i, &c);
        int class = sign_class(c);
        bool goes_on = class == last && (class == 1 || class == 2);
        if (goes_on) units[n - 1] = hash_bytes(text + i, step, units[n - 1]);
        else if (class != 0) units[n++] = hash_bytes(text + i, step, 0);
        last = class;
        i += step;
    }
    *count = n;
    return units;
}

static int by_hash(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

float repetition_share(const char *text, size_t length)
{
    int n, repeated = 0;
    uint64_t *grams = read_units(text, length, &n);
    int total = n - GRAM + 1;
    for (int i = 0; i < total; i++) {
        uint64_t h = 0;
        for (int j = 0; j < GRAM; j++) h = hash_spread(h + grams[i + j]);
        grams[i] = h;
    }
    if (total > 1) qsort(grams, (size_t)total, sizeof *grams, by_hash);
    for (int i = 1; i < total; i++) repeated += grams[i] == grams[i - 1];
    free(grams);
    return total > 1 ? (float)repeated / (float)total : 0.0f;
}

static float language(const Parsed *c, const Problem *p)
{
    return c->think_length == 0 ? 0.0f : task_language_share(p, c->think, c->think_length);
}

float rule_part(const RewardSpec *s, const RewardInput *in, const Parsed *c, const Verdict *v)
{
    switch (s->kind) {
    case REWARD_ACCURACY: return v->score;
    case REWARD_FORMAT: return c->format_ok && !in->truncated ? 1.0f : 0.0f;
    case REWARD_LANGUAGE: return language(c, in->problem);
    case REWARD_LENGTH: return in->max_tokens > 0 ? 1.0f - (float)in->tokens / (float)in->max_tokens : 0.0f;
    case REWARD_OVERLONG: return overlong(s, in);
    case REWARD_REPETITION: return -repetition_share(in->completion, strlen(in->completion));
    case REWARD_HELPFUL_RM: return in->helpful;
    case REWARD_SAFETY_RM: return in->safe;
    default: return 0.0f;
    }
}
