/* Options of a row, and which of them an answer names. */
#include "data/choice.h"

#include <stdlib.h>
#include <string.h>

#include "data/answer.h"
#include "data/conversation.h"
#include "data/text.h"

static const Json *first_of(const Json *row, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const Json *v = json_get(row, names[i]);
        if (v != NULL && !json_is_null_value(v)) return v;
    }
    return NULL;
}

void choice_free(Choice *c)
{
    for (int i = 0; i < c->n; i++) {
        free(c->text[i]);
        free(c->label[i]);
    }
    *c = (Choice){0};
}

static bool read_options(Choice *c, const Json *row, Status *st)
{
    static const char *const names[] = {"options", "choices", "endings"};
    const Json *v = first_of(row, names, sizeof names / sizeof *names), *labels = NULL;
    if (json_is_object(v)) {
        labels = json_get(v, "label");
        v = json_get(v, "text");
    }
    size_t n = json_is_array(v) ? json_count(v) : 0;
    if (n < 2 || n > CHOICE_OPTIONS)
        return fail(st, "the verifier choice needs \"options\": a list of 2 to %d texts", CHOICE_OPTIONS);
    for (size_t i = 0; i < n; i++) {
        const Json *label = json_is_array(labels) && i < json_count(labels) ? json_at(labels, i) : NULL;
        char letter[2] = {(char)('A' + i % 26), '\0'};
        c->text[i] = json_text_copy(json_at(v, i));
        c->label[i] = json_is_string(label) ? json_text_copy(label) : text_copy(letter, 1);
        c->n++;
        if (c->text[i] == NULL || c->text[i][0] == '\0')
            return fail(st, "option %zu must be a text that is not empty", i + 1);
        for (size_t k = 0; k < i; k++)
            if (strcmp(c->text[k], c->text[i]) == 0) return fail(st, "options %zu and %zu are equal", k + 1, i + 1);
    }
    return true;
}

static int find(char *const *list, int n, const char *text)
{
    for (int i = 0; i < n; i++)
        if (strcmp(list[i], text) == 0) return i;
    return -1;
}

/* What a row's text says of the right option. */
static int named_by_row(const Choice *c, const char *text)
{
    int i = find(c->label, c->n, text);
    if (i < 0) i = find(c->text, c->n, text);
    if (i < 0 && text[0] >= 'A' && text[0] <= 'Z' && text[1] == '\0') i = text[0] - 'A';
    if (i < 0 && text[0] != '\0' && strlen(text) < 3 && strspn(text, "0123456789") == strlen(text)) i = atoi(text);
    return i < c->n ? i : -1;
}

bool choice_read(Choice *out, const Json *row, Status *st)
{
    static const char *const names[] = {"answer", "answerKey", "label"};
    const Json *v = first_of(row, names, sizeof names / sizeof *names);
    *out = (Choice){.right = -1};
    if (!read_options(out, row, st)) {
        choice_free(out);
        return false;
    }
    if (json_is_integer_value(v)) {
        int64_t i = json_integer(v);
        out->right = i >= 0 && i < out->n ? (int)i : -1;
    } else if (json_is_string(v)) {
        char *text = json_text_copy(v);
        out->right = named_by_row(out, text);
        free(text);
    }
    if (out->right >= 0) return true;
    choice_free(out);
    return fail(st, "\"answer\" must name one of the options: its number from 0, its letter or label, or its text");
}

int choice_named(const Choice *c, const char *answer)
{
    char *bare = answer_bare(answer);
    int i = find(c->text, c->n, answer);
    if (i < 0) i = find(c->text, c->n, bare);
    if (i < 0) i = find(c->label, c->n, bare);
    for (size_t n = strlen(bare); i < 0 && n > 1;) { /* (B), B) and B: */
        size_t open = bare[0] == '(', close = strchr("):", bare[n - 1]) != NULL;
        if (!open && !close) break;
        memmove(bare, bare + open, n);
        n -= open + close;
        bare[n] = '\0';
        i = find(c->label, c->n, bare);
    }
    free(bare);
    return i;
}
