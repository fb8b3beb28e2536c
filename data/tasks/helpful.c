/* A helpful answer has parts: a greeting, every thing asked for in order, thanks, and nothing else:
 * say cat dog -> hello cat dog thanks. The oracle of quality counts them, so that there are many degrees. */
#include <stdlib.h>
#include <string.h>

#include "data/tasks/common.h"
#include "data/tasks/vocabulary.h"
#include "data/verify.h"

enum { WANTED_MAX = 3, SHORT = 5, READ_MAX = 32, VARIANT_MAX = 8 };

static Word random_noun(Language language, Rng *r)
{
    return (Word){WORD_NOUN, (int)rng_below(r, (uint32_t)word_count(WORD_NOUN)), language};
}

/* Where w stands in list[0 .. n), -1: nowhere. */
static int find(Word w, const Word *list, int n)
{
    for (int i = 0; i < n; i++) {
        if (list[i].class == w.class && list[i].index == w.index && list[i].language == w.language) return i;
    }
    return -1;
}

static int best_answer(Word *out, const Word *wanted, int n, Language language)
{
    out[0] = word_of("hello", language);
    memcpy(out + 1, wanted, (size_t)n * sizeof wanted[0]);
    out[n + 1] = word_of("thanks", language);
    return n + 2;
}

static void generate(Problem *p, Rng *r)
{
    Word wanted[WANTED_MAX], answer[WANTED_MAX + 2];
    int key[WANTED_MAX], n = p->level + 1;
    for (int i = 0; i < n; i++) {
        do {
            wanted[i] = random_noun(p->language, r);
        } while (find(wanted[i], wanted, i) >= 0);
        key[i] = wanted[i].index;
    }
    char *list = words_write(wanted, n), *best = words_write(answer, best_answer(answer, wanted, n, p->language));
    problem_prompt(p, "say", "%s", list);
    problem_answer(p, best, key, (size_t)n * sizeof key[0]);
    free(list);
    free(best);
}

/* The nouns a prompt asks for, in order. */
static int read_wanted(const Problem *p, Word *wanted)
{
    Word words[READ_MAX];
    int n = words_read(p->prompt, words, READ_MAX), found = 0;
    for (int i = 0; i < n && i < READ_MAX && found < WANTED_MAX; i++) {
        if (words[i].class == WORD_NOUN) wanted[found++] = words[i];
    }
    return found;
}

/* Quality: 0.45 * share of the wanted words named + 0.15 when they are all there, once each and in order + 0.15 for a
 * greeting first + 0.1 for thanks last + 0.15 for nothing else (half for one word too many), once something is named;
 * beyond SHORT words it is multiplied by SHORT / words. Words of the other language count as something else. */
static float oracle(const Problem *p, const char *answer)
{
    Word wanted[WANTED_MAX], words[READ_MAX];
    int n = read_wanted(p, wanted), total = words_read(answer, words, READ_MAX);
    int read = total < READ_MAX ? total : READ_MAX, named = 0, extra = total - read, last = -1;
    bool seen[WANTED_MAX] = {false}, in_order = true;
    bool greets = read > 0 && words[0].language == p->language && word_is(words[0], "hello");
    bool thanks =
        total == read && read > 1 && words[read - 1].language == p->language && word_is(words[read - 1], "thanks");
    for (int i = greets; i < read - thanks; i++) {
        int at = find(words[i], wanted, n);
        if (at < 0 || seen[at]) {
            extra++;
            continue;
        }
        in_order &= at > last;
        last = at;
        seen[at] = true;
        named++;
    }
    float quality = 0.45f * (float)named / (float)n + 0.15f * greets + 0.1f * thanks;
    if (named == n && in_order) quality += 0.15f;
    if (named > 0 && extra < 2) quality += extra == 0 ? 0.15f : 0.075f;
    if (total > SHORT) quality *= (float)SHORT / (float)total;
    return quality;
}

static Verdict verify(const Problem *p, const char *answer)
{
    float quality = oracle(p, answer);
    return (Verdict){quality, quality > 0.999f ? REASON_CORRECT : REASON_NOT_HELPFUL, 0.0f};
}

/* One change for the worse of an answer of n words; returns the new number. */
static int worsen(Word *words, int n, Language language, Rng *r)
{
    int at = (int)rng_below(r, (uint32_t)n);
    Word kept = words[at];
    switch (rng_below(r, 5)) {
    case 0: /* a word missing */
        if (n > 1) memmove(words + at, words + at + 1, (size_t)(--n - at) * sizeof words[0]);
        break;
    case 1: /* two words exchanged */
        words[at] = words[(at + 1) % n];
        words[(at + 1) % n] = kept;
        break;
    case 2: /* another word */ words[at] = random_noun(language, r); break;
    case 3: /* a word of the other language */
        words[at].language = language == LANGUAGE_EN ? LANGUAGE_ZH : LANGUAGE_EN;
        break;
    default: /* one too many */
        if (n < VARIANT_MAX) {
            memmove(words + at + 1, words + at, (size_t)(n - at) * sizeof words[0]);
            words[at] = rng_below(r, 3) == 0 ? kept : random_noun(language, r);
            n++;
        }
    }
    return n;
}

static int trace(const Problem *p, Language language, int slip, Rng *r, char **steps, int max, char **answer)
{
    Word wanted[WANTED_MAX], words[VARIANT_MAX];
    int n = read_wanted(p, wanted);
    Trace t = {steps, 0, max, language};
    for (int i = 0; i < n; i++) trace_step(&t, "%s", word_text(WORD_NOUN, wanted[i].index, language));
    int length = best_answer(words, wanted, n, p->language);
    if (slip >= 0) {
        for (int i = (int)rng_below(r, 4); i >= 0; i--) length = worsen(words, length, p->language, r);
    }
    *answer = words_write(words, length);
    return t.n;
}

const Task task_helpful = {
    .name = "helpful",
    .help = "answer politely: greeting, the words asked for in order, thanks; level + 1 words (2-3); partial credit",
    .example = "say cat dog -> hello cat dog thanks",
    .separator = ",",
    .kind = KIND_HELPFUL,
    .levels = WANTED_MAX - 1,
    .generate = generate,
    .verify = verify,
    .trace = trace,
    .oracle = oracle,
};
