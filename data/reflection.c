/* Steps of a thought, compared with what they say and with each other. */
#include "data/reflection.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/tasks/words.h"
#include "data/text.h"

/* A step with its two sides; right is NULL where there is none. */
typedef struct Step {
    char text[REFLECTION_STEP];
    char *left, *right;
} Step;

typedef struct Steps {
    Step list[REFLECTION_STEPS];
    int n;
} Steps;

bool reflection_counts(const Problem *p)
{
    return p->row == NULL && p->kind == KIND_REASONING;
}

/* The ten numerals as ASCII digits. */
static char *with_digits(const char *text, size_t n)
{
    Text out = {0};
    for (size_t i = 0; i < n;) {
        size_t length = 1;
        char digit[2] = {text[i], '\0'};
        for (int d = 0; d < 10; d++) {
            size_t bytes = strlen(task_characters[d]);
            if (bytes > n - i || memcmp(text + i, task_characters[d], bytes) != 0) continue;
            digit[0] = (char)('0' + d);
            length = bytes;
        }
        text_add_bytes(&out, digit, 1);
        i += length;
    }
    return text_take(&out);
}

static void add_step(Steps *s, const char *text, size_t n)
{
    while (n > 0 && *text == ' ') text++, n--;
    while (n > 0 && text[n - 1] == ' ') n--;
    if (n == 0 || n >= REFLECTION_STEP || s->n == REFLECTION_STEPS) return;
    Step *step = &s->list[s->n++];
    memcpy(step->text, text, n);
    step->text[n] = '\0';
    step->left = step->text;
    step->right = strchr(step->text, '=');
    if (step->right != NULL) *step->right++ = '\0';
}

static Steps *read_steps(const Problem *p, const Parsed *c)
{
    const char *separator = p->task->separator;
    char *text = with_digits(c->think, c->think_length), *at = text, *end;
    Steps *s = malloc(sizeof *s);
    CHECK(s != NULL && *separator != '\0');
    s->n = 0;
    while ((end = strstr(at, separator)) != NULL) {
        add_step(s, at, (size_t)(end - at));
        at = end + strlen(separator);
    }
    add_step(s, at, strlen(at));
    free(text);
    return s;
}

static void count_attempts(const Problem *p, const Steps *s, Reflection *out)
{
    const Step *failed = NULL; /* the attempt before, where it said that it does not fit */
    for (int i = 0; i < s->n; i++) {
        const Step *step = &s->list[i];
        if (step->right == NULL) continue;
        Attempt a = p->task->attempt(p, step->left, step->right);
        out->checks += a == ATTEMPT_FITS || a == ATTEMPT_FAILS;
        out->slips += a == ATTEMPT_SLIP;
        out->revisions += failed != NULL && strcmp(failed->left, step->left) != 0;
        failed = a == ATTEMPT_FAILS ? step : NULL;
    }
}

static void count_repeats(const Steps *s, Reflection *out)
{
    for (int i = 1; i < s->n; i++) {
        const Step *step = &s->list[i];
        int before = i - 1;
        while (before >= 0 && strcmp(s->list[before].left, step->left) != 0) before--;
        if (before < 0) continue;
        const char *now = step->right != NULL ? step->right : "";
        const char *then = s->list[before].right != NULL ? s->list[before].right : "";
        if (strcmp(now, then) == 0) out->checks++;
        else out->revisions++;
    }
}

Reflection reflection_of(const Problem *p, const char *completion, const Verdict *v)
{
    Reflection out = {0};
    Parsed c = completion_parse(completion);
    if (!c.has_think || c.think_length == 0) return out;
    Steps *s = read_steps(p, &c);
    out.steps = s->n;
    if (p->task->attempt != NULL) count_attempts(p, s, &out);
    else count_repeats(s, &out);
    out.corrected = out.revisions > 0 && v->score >= 1.0f;
    free(s);
    return out;
}
