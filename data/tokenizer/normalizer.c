/* Normal forms of a tokenizer.json: Unicode forms, and the replacements of SentencePiece. */
#include "data/tokenizer/normalizer.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/text.h"
#include "data/tokenizer/regex.h"
#include "data/tokenizer/unicode.h"

enum { MOST_STEPS = 16, DEEPEST = 8 };

struct NormalStep {
    UnicodeForm form; /* AS_IS: one of the others */
    Regex *pattern;   /* Replace: NULL for Prepend */
    char *content;    /* Prepend, Replace */
    size_t length;
};

static bool add_step(Normalizer *z, NormalStep step, Status *st)
{
    if (z->n == MOST_STEPS) return fail(st, "normalizer: there are more than %d steps", MOST_STEPS);
    z->steps = realloc(z->steps, (size_t)(z->n + 1) * sizeof *z->steps);
    CHECK(z->steps);
    z->steps[z->n++] = step;
    return true;
}

static bool add_text_step(Normalizer *z, const Json *content, Regex *pattern, const char *type, Status *st)
{
    NormalStep step = {.pattern = pattern};
    const char *text = json_string(content, &step.length);
    if (text) {
        step.content = text_copy(text, step.length);
        if (add_step(z, step, st)) return true;
        free(step.content);
    } else {
        fail(st, "normalizer: a %s has no text", type);
    }
    regex_free(pattern);
    return false;
}

static bool read_replace(Normalizer *z, const Json *v, Status *st)
{
    const Json *pattern = json_get(v, "pattern"), *regex = json_get(pattern, "Regex");
    size_t length;
    const char *text = json_string(regex ? regex : json_get(pattern, "String"), &length);
    if (!text || !length) return fail(st, "normalizer: a Replace has no \"pattern\" with a \"Regex\" or a \"String\"");
    Regex *compiled = regex_compile(text, length, !regex, st);
    return compiled && add_text_step(z, json_get(v, "content"), compiled, "Replace", st);
}

static bool read_step(Normalizer *z, const Json *v, int depth, Status *st)
{
    static const char *const forms[] = {"", "NFC", "NFD", "NFKC", "NFKD"};
    if (!v || json_is_null_value(v)) return true;
    const char *type = json_get_string(v, "type", "");
    if (!strcmp(type, "Sequence") && depth < DEEPEST) {
        const Json *list = json_get(v, "normalizers");
        for (size_t i = 0; i < json_count(list); i++)
            if (!read_step(z, json_at(list, i), depth + 1, st)) return false;
        return true;
    }
    for (int form = UNICODE_NFC; form <= UNICODE_NFKD; form++)
        if (!strcmp(type, forms[form])) return add_step(z, (NormalStep){.form = (UnicodeForm)form}, st);
    if (!strcmp(type, "Prepend")) return add_text_step(z, json_get(v, "prepend"), NULL, type, st);
    if (!strcmp(type, "Replace")) return read_replace(z, v, st);
    return fail(
        st, "normalizer: \"%.40s\" is not supported: only NFC, NFD, NFKC, NFKD, Prepend, Replace and a Sequence are",
        type);
}

bool normalizer_read(Normalizer *z, const Json *value, Status *st)
{
    return read_step(z, value, 0, st);
}

void normalizer_free(Normalizer *z)
{
    for (int i = 0; i < z->n; i++) {
        regex_free(z->steps[i].pattern);
        free(z->steps[i].content);
    }
    free(z->steps);
    *z = (Normalizer){0};
}

static char *replace(const NormalStep *s, const char *text, size_t length, size_t *out_length)
{
    size_t at = 0, start, end;
    if (!regex_next(s->pattern, text, length, 0, &start, &end)) return NULL;
    Text out = {0};
    do {
        text_add_bytes(&out, text + at, start - at);
        text_add_bytes(&out, s->content, s->length);
        at = end;
    } while (at < length && regex_next(s->pattern, text, length, at, &start, &end));
    text_add_bytes(&out, text + at, length - at);
    *out_length = out.n;
    return text_take(&out);
}

static char *apply_step(const NormalStep *s, const char *text, size_t length, bool begins, size_t *out_length)
{
    if (s->form != UNICODE_AS_IS) return unicode_normalize(s->form, text, length, out_length);
    if (s->pattern) return replace(s, text, length, out_length);
    if (!begins || !length) return NULL;
    Text out = {0};
    text_add_bytes(&out, s->content, s->length);
    text_add_bytes(&out, text, length);
    *out_length = out.n;
    return text_take(&out);
}

char *normalizer_apply(const Normalizer *z, const char *text, size_t length, bool begins, size_t *out_length)
{
    char *now = NULL;
    for (int i = 0; i < z->n; i++) {
        size_t n = length;
        char *next = apply_step(&z->steps[i], now ? now : text, length, begins, &n);
        if (!next) continue;
        free(now);
        now = next;
        length = n;
    }
    if (now) *out_length = length;
    return now;
}
