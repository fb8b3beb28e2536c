/* Sampled answers before and after: the same held-out prompts through the stages. */
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/report/parts.h"
#include "recipes/report/svg.h"

enum { SHOWN = 8, PROMPTS_MAX = 512 };

static const char *text_of(const Json *sample, const char *key)
{
    return json_get_string(sample, key, "");
}

/* Distinct prompts in the order they came, with the number of stages that answered each. */
static int list_prompts(const ReportRun *r, const char **prompts, int *stages)
{
    int n = 0;
    for (size_t i = 0; i < json_count(r->samples); i++) {
        const char *prompt = text_of(json_at(r->samples, i), "prompt");
        int at = 0;
        while (at < n && strcmp(prompts[at], prompt)) at++;
        if (at == PROMPTS_MAX) continue;
        if (at == n) prompts[n] = prompt, stages[n++] = 0;
        stages[at]++;
    }
    return n;
}

/* Drops prompts that fewer stages answered than the best one. */
static int keep_common(const char **prompts, int *stages, int n)
{
    int most = 0, kept = 0;
    for (int i = 0; i < n; i++)
        if (stages[i] > most) most = stages[i];
    for (int i = 0; i < n; i++)
        if (stages[i] == most) prompts[kept++] = prompts[i];
    return kept;
}

/* Tags stand back, so that what was thought and answered stands out. */
static void completion(FILE *out, const char *text)
{
    static const char *const tags[] = {"<think>", "</think>", "<answer>", "</answer>"};
    while (*text) {
        size_t length = 0;
        for (int i = 0; i < 4; i++)
            if (!strncmp(text, tags[i], strlen(tags[i]))) length = strlen(tags[i]);
        char piece[16];
        bool tag = length > 0;
        if (!tag) {
            length = 1 + strcspn(text + 1, "<");
            if (length > sizeof piece - 1) length = sizeof piece - 1;
        }
        snprintf(piece, sizeof piece, "%.*s", (int)length, text);
        if (tag) fputs("<span class='tag'>", out);
        html_text(out, piece);
        if (tag) fputs("</span>", out);
        text += length;
    }
}

static void answers(FILE *out, const ReportRun *r, const char *prompt)
{
    for (size_t i = 0; i < json_count(r->samples); i++) {
        const Json *s = json_at(r->samples, i);
        if (strcmp(text_of(s, "prompt"), prompt)) continue;
        bool right = json_get(s, "correct") && json_bool(json_get(s, "correct"));
        fputs("<div class='sample'><span>", out);
        html_text(out, report_title(text_of(s, "stage")));
        fputs("</span><span class='mono'>", out);
        completion(out, text_of(s, "completion"));
        fprintf(out, "</span><span class='verdict %s'>%s ", right ? "right" : "wrong", right ? "&#10003;" : "&#10007;");
        html_text(out, right ? "correct" : text_of(s, "reason"));
        fputs("</span></div>\n", out);
    }
}

void report_samples(FILE *out, const ReportRun *r)
{
    const char *prompts[PROMPTS_MAX];
    int stages[PROMPTS_MAX];
    int n = keep_common(prompts, stages, list_prompts(r, prompts, stages)), shown = n < SHOWN ? n : SHOWN;
    if (!n) return;
    fputs("<h2>Answers, before and after</h2>\n<p class='lead'>One sample a stage of the same held-out prompts, picked "
          "by number, not by "
          "how they look.</p>\n",
          out);
    for (int i = 0; i < shown; i++) {
        const char *prompt = prompts[(long)i * n / shown];
        const char *answer = "";
        for (size_t k = 0; k < json_count(r->samples); k++)
            if (!strcmp(text_of(json_at(r->samples, k), "prompt"), prompt))
                answer = text_of(json_at(r->samples, k), "answer");
        fputs("<div class='card'><p class='prompt'>", out);
        html_text(out, prompt);
        fputs(" <b>&#8594; ", out);
        html_text(out, answer);
        fputs("</b></p>\n", out);
        answers(out, r, prompt);
        fputs("</div>\n", out);
    }
}
