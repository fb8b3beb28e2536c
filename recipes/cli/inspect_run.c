/* `r1 inspect RUN`: its stages, or one group of rollouts side by side. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/rollouts/rollouts.h"
#include "recipes/cli/inspect.h"
#include "recipes/cli/json_lines.h"

bool inspect_run(const char *name, bool json)
{
    char path[4096];
    Status st = {0};
    snprintf(path, sizeof path, "%s/summary.json", name);
    Json *summary = access(path, F_OK) ? NULL : json_read(path, &st);
    if (!summary) return false;
    if (json) {
        json_line_print(summary);
        return true;
    }
    const Json *stages = json_get(summary, "stages");
    printf("%-24s %8s %9s %13s  %s\n", "stage", "steps", "pass@1 %", "seconds", "weights_sha256");
    for (size_t i = 0; i < json_count(stages); i++) {
        const Json *s = json_at(stages, i), *pass1 = json_get(json_get(json_get(s, "eval"), "all"), "pass@1");
        char percent[32] = "-";
        if (pass1) snprintf(percent, sizeof percent, "%.1f", 100 * json_number(pass1));
        printf("%-24s %8lld %9s %13.1f  %s\n", json_get_string(s, "name", "?"),
               (long long)json_integer(json_get(s, "steps")), percent, json_number(json_get(s, "seconds")),
               json_get_string(s, "weights_sha256", ""));
    }
    printf("\nA model of it: r1 inspect %s/STAGE. A group of rollouts: r1 inspect %s --stage S --step N --prompt P\n",
           name, name);
    json_free(summary);
    return true;
}

static double mean(const float *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    return n ? sum / n : NAN;
}

/* A number in a column, "-" where there is none. */
static void cell(double v)
{
    if (isnan(v)) printf(" %11s", "-");
    else printf(" %11.3f", v);
}

static void print_group(const RolloutTable *t)
{
    const RolloutSample *first = &t->samples[0];
    printf("step %lld, prompt %lld: %s\nanswer: %s\n\n%6s %6s %11s %11s", (long long)first->step,
           (long long)first->prompt, first->prompt_text, first->answer, "sample", "tokens", "advantage", "reward");
    for (int k = 0; k < t->n_names; k++) printf(" %11.11s", t->names[k]);
    printf(" %11s %11s  %s\n", "logprob", "entropy", "verdict");
    for (int i = 0; i < t->n; i++) {
        const RolloutSample *s = &t->samples[i];
        printf("%6d %6d", s->sample, s->n);
        cell(s->advantage);
        cell(s->total);
        for (int k = 0; k < t->n_names; k++) cell(s->parts[k]);
        cell(mean(s->logprobs, s->n));
        cell(mean(s->entropy, s->n));
        printf("  %s%s\n", s->reason, s->truncated ? " (truncated)" : "");
    }
    for (int i = 0; i < t->n; i++) printf("\n[%d] %s\n", t->samples[i].sample, t->samples[i].completion);
}

static Json *numbers(const float *x, int n)
{
    Json *list = json_new_array();
    for (int i = 0; i < n; i++) json_append(list, json_new_number(x[i]));
    return list;
}

static void print_sample_json(const RolloutTable *t, const RolloutSample *s)
{
    Json *o = json_new_object(), *parts = json_new_object(), *ids = json_new_array();
    for (int k = 0; k < t->n_names; k++) json_set(parts, t->names[k], json_new_number(s->parts[k]));
    for (int i = 0; i < s->n; i++) json_append(ids, json_new_int(s->ids[i]));
    json_set(o, "step", json_new_int(s->step));
    json_set(o, "prompt", json_new_text(s->prompt_text));
    json_set(o, "answer", json_new_text(s->answer));
    json_set(o, "sample", json_new_int(s->sample));
    json_set(o, "completion", json_new_text(s->completion));
    json_set(o, "reason", json_new_text(s->reason));
    json_set(o, "reward", json_new_number(s->total));
    json_set(o, "advantage", json_new_number(s->advantage));
    json_set(o, "truncated", json_new_bool(s->truncated));
    json_set(o, "parts", parts);
    json_set(o, "ids", ids);
    json_set(o, "logprobs", numbers(s->logprobs, s->n));
    json_set(o, "entropy", numbers(s->entropy, s->n));
    json_line_print(o);
}

bool inspect_group(const char *run, const char *stage, int step, int prompt, bool json, Status *st)
{
    RolloutTable t;
    if (!rollouts_read(run, stage, step, prompt, &t, st)) return false;
    if (!json && t.n > 0) print_group(&t);
    for (int i = 0; i < t.n && json; i++) print_sample_json(&t, &t.samples[i]);
    rollout_table_free(&t);
    return true;
}
